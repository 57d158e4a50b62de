// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Divergences, quantiles and intervals.

#include "runtime/eval/Metrics.h"

#include "runtime/eval/Random.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvcache::rt {

/// log sum exp of `count` values.
static double logSumExp(const float *values, int64_t count) {
  double largest = *std::max_element(values, values + count), sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    sum += std::exp(values[i] - largest);
  }
  return largest + std::log(sum);
}

double klDivergence(const float *dense, const float *method, int64_t vocabulary) {
  double denseNorm = logSumExp(dense, vocabulary), methodNorm = logSumExp(method, vocabulary);
  double sum = 0;
  for (int64_t i = 0; i < vocabulary; ++i) {
    double logP = dense[i] - denseNorm, logQ = method[i] - methodNorm;
    sum += std::exp(logP) * (logP - logQ);
  }
  // The true value is never negative; rounding of nearly equal distributions can be. NaN stays.
  return sum < 0 ? 0 : sum;
}

double bitsOf(const float *logits, int64_t vocabulary, int32_t token) {
  return (logSumExp(logits, vocabulary) - logits[token]) / std::log(2.0);
}

static double quantile(const std::vector<double> &sorted, double q) {
  double place = q * (sorted.size() - 1);
  size_t below = static_cast<size_t>(place), above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

Distribution distributionOf(std::vector<double> values) {
  if (values.empty()) {
    return {};
  }
  std::sort(values.begin(), values.end());
  double sum = 0;
  for (double value : values) {
    sum += value;
  }
  return {sum / values.size(), quantile(values, 0.5), quantile(values, 0.99), values.back()};
}

/// The 97.5 % point of the normal distribution.
constexpr double z = 1.959963984540054;

Interval wilson(int64_t successes, int64_t trials) {
  if (trials <= 0) {
    return {0, 1};
  }
  double n = trials, p = successes / n, zz = z * z;
  double center = (p + zz / (2 * n)) / (1 + zz / n);
  double half = z / (1 + zz / n) * std::sqrt(p * (1 - p) / n + zz / (4 * n * n));
  return {std::max(0.0, center - half), std::min(1.0, center + half)};
}

Interval pairedShares(int64_t only, int64_t onlyOther, int64_t trials) {
  double n = trials + 2.0, a = only + 0.5, b = onlyOther + 0.5;
  double difference = (a - b) / n;
  double half = z * std::sqrt(a + b - (a - b) * (a - b) / n) / n;
  return {std::max(-1.0, difference - half), std::min(1.0, difference + half)};
}

Interval pairedMean(const std::vector<double> &differences, uint64_t seed) {
  if (differences.empty()) {
    return {};
  }
  constexpr int resamples = 2000;
  Random random{seed, differences.size()};
  std::vector<double> means;
  means.reserve(resamples);
  for (int i = 0; i < resamples; ++i) {
    double sum = 0;
    for (size_t j = 0; j < differences.size(); ++j) {
      sum += differences[random.between(0, static_cast<int64_t>(differences.size()) - 1)];
    }
    means.push_back(sum / differences.size());
  }
  std::sort(means.begin(), means.end());
  return {quantile(means, 0.025), quantile(means, 0.975)};
}

double relativeError(const float *a, const float *b, int64_t count) {
  double error = 0, norm = 0;
  for (int64_t i = 0; i < count; ++i) {
    double difference = double(a[i]) - b[i];
    error += difference * difference;
    norm += double(b[i]) * b[i];
  }
  if (norm == 0) {
    return error == 0 ? 0 : std::numeric_limits<double>::infinity();
  }
  return std::sqrt(error / norm);
}

} // namespace kvcache::rt
