// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The meaning of score.norm, score.nearest, merge.into, project.hadamard, project.lowrank and
// attend.

#include "runtime/reference/Families.h"

#include "runtime/reference/Primitives.h"

#include <cmath>
#include <limits>

namespace kvcache::rt::reference {

namespace {

template <typename Fn>
Tensor mapTensor(Tensor x, Fn fn) {
  for (double &value : x.values) {
    value = fn(value);
  }
  return x;
}

} // namespace

StatusOr<Tensor> norm(const Tensor &x, const std::vector<std::string> &over) {
  StatusOr<Tensor> sum = reduce(Reduction::Sum, mapTensor(x, [](double v) { return v * v; }), over);
  KVCACHE_RETURN_IF_ERROR(sum.status());
  return mapTensor(*sum, [](double v) { return std::sqrt(v); });
}

Status nearest(Metric metric, const Tensor &a, const Tensor &b, const std::string &along,
               const std::string &channel, Tensor &best, Tensor &index) {
  StatusOr<Tensor> dot = contract(a, b, {channel});
  KVCACHE_RETURN_IF_ERROR(dot.status());
  StatusOr<Tensor> normA = norm(a, {channel}), normB = norm(b, {channel});
  KVCACHE_RETURN_IF_ERROR(normA.status());
  KVCACHE_RETURN_IF_ERROR(normB.status());
  Tensor closeness = *dot;
  forEachPoint(closeness, [&](const std::vector<int64_t> &point) {
    double na = broadcastAt(*normA, closeness.axes, point),
           nb = broadcastAt(*normB, closeness.axes, point);
    double d = closeness.at(point);
    closeness.at(point) = metric == Metric::Cosine
                              ? d / (std::fmax(na, 1e-6) * std::fmax(nb, 1e-6))
                              : -std::sqrt(std::fmax(0.0, na * na + nb * nb - 2.0 * d));
  });
  StatusOr<Tensor> top = reduce(Reduction::Max, closeness, {along});
  KVCACHE_RETURN_IF_ERROR(top.status());
  StatusOr<Tensor> where =
      reduce(Reduction::ArgMax,
             mapTensor(closeness, [](double v) { return static_cast<float>(v); }), {along});
  KVCACHE_RETURN_IF_ERROR(where.status());
  best = metric == Metric::Cosine ? *top : mapTensor(*top, [](double v) { return -v; });
  index = *where;
  // Raggedness along the source rows stays; two ragged axes met in the product.
  best.inheritRagged(a);
  index.inheritRagged(a);
  return Status::ok();
}

StatusOr<Tensor> mergeInto(const Tensor &src, const Tensor &dst, const Tensor &index,
                           const Tensor &weight, const std::string &domain) {
  Tensor weighted = src;
  forEachPoint(src, [&](const std::vector<int64_t> &point) {
    weighted.at(point) *= broadcastAt(weight, src.axes, point);
  });
  StatusOr<Tensor> sum = scatter(weighted, Tensor(dst.axes), index, domain, /*add=*/true);
  KVCACHE_RETURN_IF_ERROR(sum.status());
  // Total weight per destination: the axes of weight with the source axis replaced by the
  // destination axis.
  std::vector<Axis> axes;
  for (const Axis &axis : dst.axes) {
    if (axis.name == domain || weight.find(axis.name) >= 0) {
      axes.push_back(axis);
    }
  }
  StatusOr<Tensor> total = scatter(weight, Tensor(axes), index, domain, /*add=*/true);
  KVCACHE_RETURN_IF_ERROR(total.status());
  Tensor result = dst;
  forEachPoint(dst, [&](const std::vector<int64_t> &point) {
    double w = broadcastAt(*total, dst.axes, point);
    if (w > 0.0) {
      result.at(point) = (dst.at(point) + sum->at(point)) / (1.0 + w);
    }
  });
  return result;
}

void hadamardRow(std::vector<double> &row) {
  size_t n = row.size();
  for (size_t stride = 1; stride < n; stride *= 2) {
    for (size_t block = 0; block < n; block += 2 * stride) {
      for (size_t i = block; i < block + stride; ++i) {
        double a = row[i], b = row[i + stride];
        row[i] = a + b;
        row[i + stride] = a - b;
      }
    }
  }
  for (double &value : row) {
    value /= std::sqrt(static_cast<double>(n));
  }
}

StatusOr<Tensor> hadamard(const Tensor &x, const std::string &channel) {
  if (x.axes.empty() || x.axes.back().name != channel) {
    return Status::badInput("expected '" + channel + "' as the last axis");
  }
  int64_t n = x.axes.back().extent;
  if (n <= 0 || (n & (n - 1)) != 0) {
    return Status::badInput("expected a power of two of channels, got " + std::to_string(n));
  }
  Tensor result = x;
  for (size_t at = 0; at < x.values.size(); at += static_cast<size_t>(n)) {
    std::vector<double> row(x.values.begin() + static_cast<int64_t>(at),
                            x.values.begin() + static_cast<int64_t>(at) + n);
    hadamardRow(row);
    std::copy(row.begin(), row.end(), result.values.begin() + static_cast<int64_t>(at));
  }
  return result;
}

StatusOr<Tensor> lowrank(const Tensor &x, const Tensor &basis, const Tensor &mean,
                         const std::string &channel, const std::string &rank) {
  if (basis.find(rank) < 0) {
    return Status::badInput("expected axis '" + rank + "' in the basis");
  }
  Tensor centred = x;
  forEachPoint(x, [&](const std::vector<int64_t> &point) {
    centred.at(point) -= broadcastAt(mean, x.axes, point);
  });
  return contract(centred, basis, {channel});
}

StatusOr<AttentionResult> attendHead(const HeadRows &rows, const std::vector<double> &q,
                                     int64_t queries, int64_t group, int64_t width,
                                     const std::vector<int32_t> &queryPositions, bool causal,
                                     int64_t window, const LogitRule &rule) {
  constexpr double minusInfinity = -std::numeric_limits<double>::infinity();
  int64_t n = rows.rows;
  int64_t valueWidth = n == 0 ? 0 : static_cast<int64_t>(rows.v.size()) / n;
  AttentionResult result;
  result.out.assign(static_cast<size_t>(queries * group * valueWidth), 0.0);
  result.lse.assign(static_cast<size_t>(queries * group), minusInfinity);
  result.p.assign(static_cast<size_t>(queries * group * n), 0.0);
  double scale = 1.0 / std::sqrt(static_cast<double>(rule.headDim > 0 ? rule.headDim : width));
  for (int64_t i = 0; i < queries * group; ++i) {
    const double *query = &q[static_cast<size_t>(i * width)];
    double *p = result.p.data() + i * n;
    double largest = minusInfinity;
    for (int64_t t = 0; t < n; ++t) {
      int64_t distance = causal ? queryPositions[static_cast<size_t>(i / group)] -
                                      rows.positions[static_cast<size_t>(t)]
                                : 0;
      p[t] = minusInfinity;
      if (causal && (distance < 0 || (window > 0 && distance >= window))) {
        continue;
      }
      double dot = 0.0;
      for (int64_t d = 0; d < width; ++d) {
        dot += query[d] * rows.k[static_cast<size_t>(t * width + d)];
      }
      p[t] = dot * scale;
      if (rule.change) {
        StatusOr<double> changed = rule.change(p[t], i, t);
        KVCACHE_RETURN_IF_ERROR(changed.status());
        p[t] = *changed;
      }
      largest = std::fmax(largest, p[t]);
    }
    if (largest == minusInfinity) {
      std::fill(p, p + n, 0.0);
      continue;
    }
    double sum = 0.0;
    for (int64_t t = 0; t < n; ++t) {
      p[t] = std::exp(p[t] - largest);
      sum += p[t];
    }
    result.lse[static_cast<size_t>(i)] = largest + std::log(sum);
    for (int64_t t = 0; t < n; ++t) {
      p[t] /= sum;
      for (int64_t d = 0; d < valueWidth && p[t] != 0.0; ++d) {
        result.out[static_cast<size_t>(i * valueWidth + d)] +=
            p[t] * rows.v[static_cast<size_t>(t * valueWidth + d)];
      }
    }
  }
  return result;
}

void ropeRow(double *row, int64_t width, const std::vector<float> &inverseFrequencies,
             double position) {
  int64_t half = width / 2;
  for (int64_t i = 0; i < half; ++i) {
    double angle = position * static_cast<double>(inverseFrequencies[static_cast<size_t>(i)]);
    double x = row[i], y = row[i + half];
    row[i] = x * std::cos(angle) - y * std::sin(angle);
    row[i + half] = y * std::cos(angle) + x * std::sin(angle);
  }
}

} // namespace kvcache::rt::reference
