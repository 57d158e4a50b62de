// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The numbers of a report, as functions of logits and outcomes. Everything is computed in double;
// nothing draws a random number that its caller did not fix.

#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace kvcache::rt {

/// KL(dense || method) in nats: sum p (log p - log q) over the whole vocabulary, with softmax in
/// double. Exactly 0 for equal logits, never negative.
double klDivergence(const float *dense, const float *method, int64_t vocabulary);
/// -log2 of the probability of `token`.
double bitsOf(const float *logits, int64_t vocabulary, int32_t token);

/// Of a set of values; all 0 when it is empty.
struct Distribution {
  double mean = 0, median = 0, p99 = 0, max = 0;
};
/// Quantiles interpolate between the two nearest values in order (numpy's default).
Distribution distributionOf(std::vector<double> values);

struct Interval {
  double lo = 0, hi = 0;
  bool covers(double value) const { return lo <= value && value <= hi; }
};

/// Wilson's 95 % score interval of a share of `successes` in `trials`; [0, 1] for no trials.
Interval wilson(int64_t successes, int64_t trials);
/// The 95 % interval of the difference of two shares over the same trials, from the trials that
/// differ, each of the four cells raised by 1/2 (Agresti and Min 2005): share of `only` minus share
/// of `onlyOther`.
Interval pairedShares(int64_t only, int64_t onlyOther, int64_t trials);
/// The 95 % percentile interval of the mean of paired differences, from 2000 resamples with a fixed
/// seed. [0, 0] when there are none.
Interval pairedMean(const std::vector<double> &differences, uint64_t seed);

/// ||a - b|| / ||b||; 0 when both are 0.
double relativeError(const float *a, const float *b, int64_t count);

} // namespace kvcache::rt
