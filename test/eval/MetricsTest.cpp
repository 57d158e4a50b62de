// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Metrics against numbers worked out by hand or by another program (numpy, statsmodels).

#include "runtime/eval/Metrics.h"
#include "runtime/eval/Random.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace kvcache::rt;

namespace {

TEST(Metrics, DivergenceOfEqualLogitsIsExactlyZero) {
  std::vector<float> logits;
  Random random{1};
  for (int i = 0; i < 264; ++i) {
    logits.push_back(random.between(-1000, 1000) / 77.0f);
  }
  EXPECT_EQ(klDivergence(logits.data(), logits.data(), 264), 0.0);
}

TEST(Metrics, DivergenceIsDirectedAndShiftInvariant) {
  float p[] = {std::log(0.5f), std::log(0.25f), std::log(0.25f)};
  float q[] = {std::log(0.25f) + 3, std::log(0.25f) + 3, std::log(0.5f) + 3};
  EXPECT_NEAR(klDivergence(p, q, 3), 0.5 * std::log(2) - 0.25 * std::log(2), 1e-6);
  float r[] = {std::log(0.9f), std::log(0.05f), std::log(0.05f)};
  EXPECT_NEAR(klDivergence(p, r, 3), 0.5 * std::log(0.5 / 0.9) + 0.5 * std::log(5), 1e-6);
  EXPECT_GT(std::abs(klDivergence(p, r, 3) - klDivergence(r, p, 3)), 0.1);
}

TEST(Metrics, BitsOfAToken) {
  float logits[] = {std::log(8.0f), std::log(4.0f), std::log(4.0f)};
  EXPECT_NEAR(bitsOf(logits, 3, 0), 1.0, 1e-6);
  EXPECT_NEAR(bitsOf(logits, 3, 2), 2.0, 1e-6);
}

TEST(Metrics, QuantilesInterpolate) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) {
    values.push_back(i);
  }
  Distribution distribution = distributionOf(values);
  EXPECT_DOUBLE_EQ(distribution.mean, 50.5);
  EXPECT_DOUBLE_EQ(distribution.median, 50.5);
  EXPECT_NEAR(distribution.p99, 99.01, 1e-12);
  EXPECT_DOUBLE_EQ(distribution.max, 100);
}

TEST(Metrics, WilsonInterval) {
  Interval most = wilson(95, 100), all = wilson(10, 10), none = wilson(0, 10);
  EXPECT_NEAR(most.lo, 0.888249, 1e-6);
  EXPECT_NEAR(most.hi, 0.978457, 1e-6);
  EXPECT_NEAR(all.lo, 0.722467, 1e-6);
  EXPECT_NEAR(all.hi, 1.0, 1e-12);
  EXPECT_NEAR(none.lo, 0.0, 1e-12);
  EXPECT_NEAR(none.hi, 0.277533, 1e-6);
  EXPECT_EQ(wilson(0, 0).hi, 1);
}

TEST(Metrics, PairedSharesCoverZeroWithoutEnoughEvidence) {
  EXPECT_TRUE(pairedShares(0, 0, 100).covers(0));
  EXPECT_TRUE(pairedShares(3, 5, 100).covers(0));
  Interval clear = pairedShares(2, 20, 100);
  EXPECT_LT(clear.hi, 0);
  EXPECT_NEAR(clear.lo, -18.0 / 102 - 1.959964 * std::sqrt(23 - 324.0 / 102) / 102, 1e-6);
}

TEST(Metrics, PairedMeanIsReproducible) {
  std::vector<double> differences;
  for (int i = 0; i < 40; ++i) {
    differences.push_back(1 + 0.1 * (i % 5));
  }
  Interval interval = pairedMean(differences, 4), again = pairedMean(differences, 4);
  EXPECT_EQ(interval.lo, again.lo);
  EXPECT_EQ(interval.hi, again.hi);
  // Standard error of the mean: 0.1414 / sqrt(40) = 0.0224.
  EXPECT_NEAR(interval.lo, 1.2 - 1.96 * 0.0224, 0.006);
  EXPECT_NEAR(interval.hi, 1.2 + 1.96 * 0.0224, 0.006);
  EXPECT_TRUE(pairedMean({}, 1).covers(0));
}

TEST(Metrics, RelativeError) {
  float a[] = {3, 4}, b[] = {3, 0}, zero[] = {0, 0};
  EXPECT_DOUBLE_EQ(relativeError(a, b, 2), 4.0 / 3);
  EXPECT_EQ(relativeError(zero, zero, 2), 0);
  EXPECT_TRUE(std::isinf(relativeError(a, zero, 2)));
}

} // namespace
