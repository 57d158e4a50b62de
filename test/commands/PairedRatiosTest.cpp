// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A verdict needs an interval outside 1 and outside the control; intervals cover what they should.

#include "tools/commands/PairedRatios.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>

namespace kvcache::tools {
namespace {

const Interval quiet{1.0, 0.99, 1.01};

TEST(PairedRatios, VerdictIsOutsideOneAndTheControl) {
  EXPECT_STREQ(verdictOf({0.5, 0.4, 0.6}, quiet), "faster");
  EXPECT_STREQ(verdictOf({1.5, 1.4, 1.6}, quiet), "slower");
  EXPECT_STREQ(verdictOf({0.98, 0.95, 1.01}, quiet), "no difference");
}

TEST(PairedRatios, ControlWidensWhatIsNoDifference) {
  // Each interval leaves 1 out, but not by more than the baseline against itself does.
  EXPECT_STREQ(verdictOf({0.96, 0.94, 0.98}, {0.95, 0.92, 0.97}), "no difference");
  EXPECT_STREQ(verdictOf({1.05, 1.02, 1.08}, {1.04, 1.01, 1.06}), "no difference");
  // A control that is off on one side counts on both.
  EXPECT_STREQ(verdictOf({1.02, 1.01, 1.03}, {0.95, 0.92, 0.97}), "no difference");
  EXPECT_STREQ(verdictOf({1.12, 1.10, 1.15}, {0.95, 0.92, 0.97}), "slower");
  EXPECT_STREQ(verdictOf({0.90, 0.88, 0.91}, {0.95, 0.92, 0.97}), "faster");
}

TEST(PairedRatios, ControlIsOffWhenItLeavesOneOut) {
  EXPECT_FALSE(isOff(quiet));
  EXPECT_FALSE(isOff({1.0, 1.0, 1.0}));
  EXPECT_TRUE(isOff({1.02, 1.01, 1.03}));
  EXPECT_TRUE(isOff({0.98, 0.97, 0.99}));
}

TEST(PairedRatios, DriftComparesHalves) {
  EXPECT_DOUBLE_EQ(driftOf({1, 1, 1, 1.5, 1.5, 1.5}), 0.5);
  EXPECT_DOUBLE_EQ(driftOf({2, 1}), -0.5);
  EXPECT_EQ(ratiosOf({1, 6}, {2, 3}), (std::vector<double>{0.5, 2}));
}

TEST(PairedRatios, IntervalCoversTheMedianOfNoise) {
  std::mt19937_64 generator(11); // seed 11
  int covered = 0, runs = 400;
  for (int run = 0; run < runs; ++run) {
    std::vector<double> ratios(25);
    for (double &ratio : ratios) {
      // Heavy tails on both sides: a neighbour's work falls on either time.
      double u = static_cast<double>(generator() >> 11) * 0x1p-53 * 2 - 1;
      ratio = std::exp(0.05 * u / (1.01 - u * u));
    }
    Interval interval = bootstrap(ratios);
    EXPECT_LE(interval.low, interval.median);
    EXPECT_LE(interval.median, interval.high);
    covered += isOff(interval) ? 0 : 1;
  }
  EXPECT_GE(covered, runs * 92 / 100);
  EXPECT_LT(covered, runs);
}

} // namespace
} // namespace kvcache::tools
