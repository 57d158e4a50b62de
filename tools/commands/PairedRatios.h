// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What paired times say: medians, bootstrap intervals, and a verdict that a control has to allow.

#pragma once

#include <string>
#include <vector>

namespace kvcache::tools {

/// A median and its 95 % interval.
struct Interval {
  double median = 0, low = 0, high = 0;
};

/// The upper median; 0 of nothing.
double medianOf(std::vector<double> values);

/// Median and the 2.5 % and 97.5 % quantiles of the medians of 1000 resamples, from a fixed seed.
/// `values` is not empty.
Interval bootstrap(const std::vector<double> &values);

/// Element by element, numerators over denominators of the same round.
std::vector<double> ratiosOf(const std::vector<double> &times, const std::vector<double> &baseline);

/// Median of the second half of the rounds over that of the first, minus 1. At least two values.
double driftOf(const std::vector<double> &ratios);

/// True when the interval of a ratio that should be 1 leaves 1 out.
bool isOff(const Interval &control);

/// "faster" or "slower" when the whole interval of `ratio` is further from 1, on either side, than
/// any of the interval that the same baseline against itself gave in the same rounds; else "no
/// difference".
const char *verdictOf(const Interval &ratio, const Interval &control);

} // namespace kvcache::tools
