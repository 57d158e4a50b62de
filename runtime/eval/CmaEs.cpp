// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Constants and updates as in the tutorial, in its order: mean, paths, covariance, step size.

#include "runtime/eval/CmaEs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kvcache::rt {

CmaEs::CmaEs(Point mean, double sigma, uint64_t seed)
    : n_(static_cast<int64_t>(mean.size())),
      population_(4 +
                  static_cast<int64_t>(std::floor(3 * std::log(static_cast<double>(mean.size()))))),
      parents_(population_ / 2), mean_(std::move(mean)), sigma_(sigma), random_({seed, 0x636d61}) {
  double n = static_cast<double>(n_), sum = 0, squares = 0;
  for (int64_t i = 0; i < parents_; ++i) {
    weights_.push_back(std::log((static_cast<double>(population_) + 1) / 2) -
                       std::log(static_cast<double>(i) + 1));
    sum += weights_.back();
  }
  for (double &weight : weights_) {
    weight /= sum;
    squares += weight * weight;
  }
  effective_ = 1 / squares;
  stepRate_ = (effective_ + 2) / (n + effective_ + 5);
  damping_ = 1 + 2 * std::max(0.0, std::sqrt((effective_ - 1) / (n + 1)) - 1) + stepRate_;
  pathRate_ = (4 + effective_ / n) / (n + 4 + 2 * effective_ / n);
  rankOne_ = 2 / ((n + 1.3) * (n + 1.3) + effective_);
  rankMu_ = std::min(1 - rankOne_,
                     2 * (effective_ - 2 + 1 / effective_) / ((n + 2) * (n + 2) + effective_));
  expectedNorm_ = std::sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));
  stepPath_.assign(mean_.size(), 0);
  path_ = stepPath_;
  covariance_.assign(mean_.size(), Point(mean_.size(), 0));
  for (size_t i = 0; i < mean_.size(); ++i) {
    covariance_[i][i] = 1;
  }
  factor();
}

double CmaEs::normal() {
  auto uniform = [this] { return (static_cast<double>(random_.next() >> 11) + 0.5) * 0x1p-53; };
  double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(6.283185307179586 * uniform());
}

void CmaEs::factor() {
  size_t n = mean_.size();
  root_.assign(n, Point(n, 0));
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double rest = covariance_[i][j];
      for (size_t k = 0; k < j; ++k) {
        rest -= root_[i][k] * root_[j][k];
      }
      root_[i][j] = i == j ? std::sqrt(std::max(rest, 1e-20)) : rest / root_[j][j];
    }
  }
}

CmaEs::Point CmaEs::solve(Point rhs) const {
  for (size_t i = 0; i < rhs.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      rhs[i] -= root_[i][k] * rhs[k];
    }
    rhs[i] /= root_[i][i];
  }
  return rhs;
}

std::vector<CmaEs::Point> CmaEs::ask() {
  std::vector<Point> points;
  for (int64_t p = 0; p < population_; ++p) {
    Point z(mean_.size()), x = mean_;
    for (double &value : z) {
      value = normal();
    }
    for (size_t i = 0; i < x.size(); ++i) {
      for (size_t k = 0; k <= i; ++k) {
        x[i] += sigma_ * root_[i][k] * z[k];
      }
    }
    points.push_back(std::move(x));
  }
  return points;
}

void CmaEs::tell(const std::vector<Point> &points, const std::vector<double> &values) {
  std::vector<size_t> order(points.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return values[a] > values[b]; });
  size_t n = mean_.size();
  Point before = mean_, step(n);
  std::fill(mean_.begin(), mean_.end(), 0);
  for (size_t p = 0; p < weights_.size(); ++p) {
    for (size_t i = 0; i < n; ++i) {
      mean_[i] += weights_[p] * points[order[p]][i];
    }
  }
  for (size_t i = 0; i < n; ++i) {
    step[i] = (mean_[i] - before[i]) / sigma_;
  }
  Point white = solve(step);
  double norm = 0, gain = std::sqrt(stepRate_ * (2 - stepRate_) * effective_);
  for (size_t i = 0; i < n; ++i) {
    stepPath_[i] = (1 - stepRate_) * stepPath_[i] + gain * white[i];
    norm += stepPath_[i] * stepPath_[i];
  }
  norm = std::sqrt(norm);
  double warm = std::sqrt(1 - std::pow(1 - stepRate_, 2.0 * static_cast<double>(++generation_)));
  bool steady = norm / warm < (1.4 + 2 / (static_cast<double>(n_) + 1)) * expectedNorm_;
  for (size_t i = 0; i < n; ++i) {
    path_[i] = (1 - pathRate_) * path_[i] +
               (steady ? std::sqrt(pathRate_ * (2 - pathRate_) * effective_) * step[i] : 0);
  }
  double kept = 1 - rankOne_ - rankMu_ + (steady ? 0 : rankOne_ * pathRate_ * (2 - pathRate_));
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double mu = 0;
      for (size_t p = 0; p < weights_.size(); ++p) {
        const Point &x = points[order[p]];
        mu += weights_[p] * (x[i] - before[i]) * (x[j] - before[j]) / (sigma_ * sigma_);
      }
      covariance_[i][j] = kept * covariance_[i][j] + rankOne_ * path_[i] * path_[j] + rankMu_ * mu;
    }
  }
  sigma_ *= std::exp(std::min(1.0, stepRate_ / damping_ * (norm / expectedNorm_ - 1)));
  factor();
}

} // namespace kvcache::rt
