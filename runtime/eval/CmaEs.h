// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Covariance matrix adaptation (Hansen, arXiv 1604.00772) for a few variables, with the Cholesky
// factor in place of the symmetric root (Suttorp, Hansen, Igel 2009). Given the same seed and the
// same values it proposes the same points.

#pragma once

#include "runtime/eval/Random.h"

#include <cstdint>
#include <vector>

namespace kvcache::rt {

class CmaEs {
public:
  using Point = std::vector<double>;

  /// Starts at `mean` (not empty) with standard deviation `sigma` (> 0) in each variable.
  CmaEs(Point mean, double sigma, uint64_t seed);

  /// Points of a generation: 4 + floor(3 ln n).
  int64_t population() const { return population_; }
  /// Draws the points of the next generation.
  std::vector<Point> ask();
  /// Moves to where `points`, which `ask` gave, have the largest `values`. Equal values keep their
  /// order.
  void tell(const std::vector<Point> &points, const std::vector<double> &values);
  const Point &mean() const { return mean_; }
  double sigma() const { return sigma_; }

private:
  double normal();
  /// Lower triangular A with A A^T = covariance.
  void factor();
  Point solve(Point rhs) const;

  int64_t n_, population_, parents_;
  std::vector<double> weights_;
  double effective_, stepRate_, damping_, pathRate_, rankOne_, rankMu_, expectedNorm_;
  Point mean_, stepPath_, path_;
  double sigma_;
  std::vector<Point> covariance_, root_;
  Random random_;
  int64_t generation_ = 0;
};

} // namespace kvcache::rt
