// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Computed in double, stored as f32: what a cache file and an executable carry.

#include "runtime/model/RopeFrequencies.h"

#include <cmath>

namespace kvcache::rt {

static double stretch(double frequency, const Llama3Scaling &scaling) {
  double wavelength = 2 * M_PI / frequency;
  if (wavelength < scaling.originalMaxPositions / scaling.highFreqFactor) {
    return frequency;
  }
  if (wavelength > scaling.originalMaxPositions / scaling.lowFreqFactor) {
    return frequency / scaling.factor;
  }
  double turns = scaling.originalMaxPositions / wavelength;
  double blend = (turns - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor);
  return (1 - blend) * frequency / scaling.factor + blend * frequency;
}

std::vector<float> ropeInverseFrequencies(int64_t headDim, double theta,
                                          const Llama3Scaling *scaling) {
  std::vector<float> frequencies(static_cast<size_t>(headDim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double frequency =
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(headDim));
    frequencies[i] = static_cast<float>(scaling ? stretch(frequency, *scaling) : frequency);
  }
  return frequencies;
}

} // namespace kvcache::rt
