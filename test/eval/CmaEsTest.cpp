// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The search finds the top of badly scaled hills, and repeats itself.

#include "runtime/eval/CmaEs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

using namespace kvcache::rt;

namespace {

/// A hill of height 0 with its top at 0, 0.5, 1, .. and slopes that differ by 100.
double hill(const CmaEs::Point &x) {
  double value = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    double off = x[i] - 0.5 * static_cast<double>(i);
    value -= std::pow(10.0, static_cast<double>(i % 3)) * off * off;
  }
  return value;
}

double climb(size_t variables, int generations, uint64_t seed) {
  CmaEs search(CmaEs::Point(variables, 1), 0.3, seed);
  double best = -1e300;
  for (int generation = 0; generation < generations; ++generation) {
    std::vector<CmaEs::Point> points = search.ask();
    std::vector<double> values;
    for (const CmaEs::Point &point : points) {
      values.push_back(hill(point));
      best = std::max(best, values.back());
    }
    search.tell(points, values);
  }
  return best;
}

TEST(CmaEs, PopulationGrowsWithTheVariables) {
  EXPECT_EQ(CmaEs({1}, 1, 0).population(), 4);
  EXPECT_EQ(CmaEs(CmaEs::Point(6, 1), 1, 0).population(), 9);
  EXPECT_EQ(CmaEs(CmaEs::Point(8, 1), 1, 0).population(), 10);
}

TEST(CmaEs, ReachesTheTop) {
  EXPECT_GT(climb(1, 40, 7), -1e-8);
  EXPECT_GT(climb(4, 120, 7), -1e-8);
  EXPECT_GT(climb(8, 250, 7), -1e-8);
}

TEST(CmaEs, GetsCloserWithTime) { EXPECT_GT(climb(8, 60, 3), climb(8, 5, 3)); }

TEST(CmaEs, TheSeedFixesEveryPoint) {
  CmaEs one({1, 2}, 0.5, 4), two({1, 2}, 0.5, 4), other({1, 2}, 0.5, 5);
  EXPECT_EQ(one.ask(), two.ask());
  EXPECT_NE(one.ask(), other.ask());
}

} // namespace
