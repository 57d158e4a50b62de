// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rounds are exchangeable, so they are what is resampled.

#include "tools/commands/PairedRatios.h"

#include <algorithm>
#include <cstdint>
#include <random>

namespace kvcache::tools {

double medianOf(std::vector<double> values) {
  if (values.empty()) {
    return 0;
  }
  auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Interval bootstrap(const std::vector<double> &values) {
  std::mt19937_64 generator(7);
  std::vector<double> medians, sample(values.size());
  for (int i = 0; i < 1000; ++i) {
    for (double &value : sample) {
      value = values[generator() % values.size()];
    }
    medians.push_back(medianOf(sample));
  }
  std::sort(medians.begin(), medians.end());
  return {medianOf(values), medians[25], medians[974]};
}

std::vector<double> ratiosOf(const std::vector<double> &times,
                             const std::vector<double> &baseline) {
  std::vector<double> ratios(times.size());
  std::transform(times.begin(), times.end(), baseline.begin(), ratios.begin(),
                 [](double time, double other) { return time / other; });
  return ratios;
}

double driftOf(const std::vector<double> &ratios) {
  auto middle = ratios.begin() + static_cast<int64_t>(ratios.size() / 2);
  return medianOf({middle, ratios.end()}) / medianOf({ratios.begin(), middle}) - 1;
}

bool isOff(const Interval &control) { return control.low > 1 || control.high < 1; }

const char *verdictOf(const Interval &ratio, const Interval &control) {
  // What makes one of two equal variants slower could as well have made the other slower.
  double spread = std::max({1.0, control.high, 1 / control.low});
  if (ratio.high < 1 / spread) {
    return "faster";
  }
  return ratio.low > spread ? "slower" : "no difference";
}

} // namespace kvcache::tools
