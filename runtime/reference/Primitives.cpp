// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The meaning of reduce, contract, gather, scatter, pool, iota and slice, point by point.

#include "runtime/reference/Primitives.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvcache::rt::reference {

namespace {

std::vector<Axis> without(const std::vector<Axis> &axes, const std::vector<std::string> &over) {
  std::vector<Axis> kept;
  for (const Axis &axis : axes) {
    if (std::find(over.begin(), over.end(), axis.name) == over.end()) {
      kept.push_back(axis);
    }
  }
  return kept;
}

/// Coordinates of `point` (over `from`) for the axes of `to`.
std::vector<int64_t> project(const std::vector<int64_t> &point, const std::vector<Axis> &from,
                             const std::vector<Axis> &to) {
  std::vector<int64_t> result(to.size(), 0);
  for (size_t i = 0; i < to.size(); ++i) {
    for (size_t j = 0; j < from.size(); ++j) {
      if (from[j].name == to[i].name) {
        result[i] = point[j];
      }
    }
  }
  return result;
}

Status needAxis(const Tensor &x, const std::string &name) {
  if (x.find(name) >= 0) {
    return Status::ok();
  }
  std::string have;
  for (const Axis &axis : x.axes) {
    have += (have.empty() ? "" : ", ") + axis.name;
  }
  return Status::badInput("expected axis '" + name + "', got [" + have + "]");
}

Status outside(const std::string &axis, int64_t extent, int64_t found) {
  return Status::badInput("expected positions in [0, " + std::to_string(extent) + ") of axis '" +
                          axis + "', got " + std::to_string(found));
}

} // namespace

StatusOr<Tensor> reduce(Reduction fn, const Tensor &x, const std::vector<std::string> &over) {
  for (const std::string &name : over) {
    KVCACHE_RETURN_IF_ERROR(needAxis(x, name));
  }
  double start = fn == Reduction::Max || fn == Reduction::ArgMax
                     ? -std::numeric_limits<double>::infinity()
                 : fn == Reduction::Min ? std::numeric_limits<double>::infinity()
                                        : 0.0;
  Tensor result(without(x.axes, over), start);
  result.inheritRagged(x);
  Tensor points(result.axes), best(result.axes, 0.0);
  forEachPoint(x, [&](const std::vector<int64_t> &point) {
    std::vector<int64_t> to = project(point, x.axes, result.axes);
    double value = x.at(point);
    double &sum = result.at(to);
    points.at(to) += 1.0;
    switch (fn) {
    case Reduction::Sum:
    case Reduction::Mean:
      sum += value;
      break;
    case Reduction::Count:
      sum += value != 0.0 ? 1.0 : 0.0;
      break;
    case Reduction::Min:
      sum = std::min(sum, value);
      break;
    case Reduction::Max:
      sum = std::max(sum, value);
      break;
    case Reduction::ArgMax:
      if (value > sum) {
        sum = value;
        best.at(to) = static_cast<double>(point[static_cast<size_t>(x.find(over[0]))]);
      }
      break;
    }
  });
  if (fn == Reduction::Mean) {
    for (size_t i = 0; i < result.values.size(); ++i) {
      result.values[i] = points.values[i] > 0 ? result.values[i] / points.values[i] : 0.0;
    }
  }
  if (fn == Reduction::ArgMax) {
    result.values = best.values;
  }
  return result;
}

StatusOr<Tensor> quantile(const Tensor &x, const std::string &over, double q) {
  KVCACHE_RETURN_IF_ERROR(needAxis(x, over));
  Tensor result(without(x.axes, {over}));
  result.inheritRagged(x);
  std::vector<std::vector<double>> sorted(result.values.size());
  forEachPoint(x, [&](const std::vector<int64_t> &point) {
    sorted[static_cast<size_t>(result.offset(project(point, x.axes, result.axes)))].push_back(
        x.at(point));
  });
  for (size_t i = 0; i < sorted.size(); ++i) {
    std::vector<double> &s = sorted[i];
    if (s.empty()) {
      result.values[i] = std::numeric_limits<double>::infinity();
      continue;
    }
    std::sort(s.begin(), s.end());
    double position = q * static_cast<double>(s.size() - 1);
    size_t low = static_cast<size_t>(std::floor(position));
    size_t high = std::min(low + 1, s.size() - 1);
    double part = position - static_cast<double>(low);
    result.values[i] = s[low] == s[high] ? s[low] : s[low] + part * (s[high] - s[low]);
  }
  return result;
}

StatusOr<Tensor> contract(const Tensor &a, const Tensor &b, const std::vector<std::string> &over) {
  for (const std::string &name : over) {
    KVCACHE_RETURN_IF_ERROR(needAxis(a, name));
    KVCACHE_RETURN_IF_ERROR(needAxis(b, name));
  }
  Tensor shape = broadcastShape({&a, &b});
  KVCACHE_RETURN_IF_ERROR(checkBroadcast({&a, &b}, shape));
  Tensor result(without(shape.axes, over));
  result.inheritRagged(shape);
  std::vector<int64_t> toA = broadcastStrides(a, shape.axes), toB = broadcastStrides(b, shape.axes);
  std::vector<int64_t> toResult = broadcastStrides(result, shape.axes);
  forEachPoint(shape, [&](const std::vector<int64_t> &point) {
    int64_t atA = 0, atB = 0, atResult = 0;
    for (size_t i = 0; i < point.size(); ++i) {
      atA += toA[i] * point[i];
      atB += toB[i] * point[i];
      atResult += toResult[i] * point[i];
    }
    result.values[static_cast<size_t>(atResult)] +=
        a.values[static_cast<size_t>(atA)] * b.values[static_cast<size_t>(atB)];
  });
  return result;
}

StatusOr<Tensor> gather(const Tensor &x, const Tensor &index, const std::string &domain) {
  KVCACHE_RETURN_IF_ERROR(needAxis(x, domain));
  std::vector<Axis> axes;
  for (const Axis &axis : x.axes) {
    if (axis.name != domain) {
      axes.push_back(axis);
      continue;
    }
    // The axes of the index that x lacks stand where the domain stood.
    for (const Axis &other : index.axes) {
      if (x.find(other.name) < 0) {
        axes.push_back(other);
      }
    }
  }
  Tensor result(axes);
  result.inheritRagged(index);
  Status status;
  forEachPoint(result, [&](const std::vector<int64_t> &point) {
    std::vector<int64_t> from = project(point, result.axes, x.axes);
    int64_t source = static_cast<int64_t>(broadcastAt(index, result.axes, point));
    if (source < 0 || source >= x.extent(domain)) {
      status = outside(domain, x.extent(domain), source);
      return;
    }
    from[static_cast<size_t>(x.find(domain))] = source;
    result.at(point) = x.at(from);
  });
  KVCACHE_RETURN_IF_ERROR(status);
  return result;
}

StatusOr<Tensor> scatter(const Tensor &x, const Tensor &into, const Tensor &index,
                         const std::string &domain, bool add) {
  KVCACHE_RETURN_IF_ERROR(needAxis(into, domain));
  for (const Axis &axis : index.axes) {
    if (x.find(axis.name) >= 0 && axis.extent < x.extent(axis.name)) {
      return Status::badInput("expected an index for each of " +
                              std::to_string(x.extent(axis.name)) + " entries along '" + axis.name +
                              "', got " + std::to_string(axis.extent));
    }
  }
  Tensor result = into;
  Status status;
  // The source axis that runs over entries is the one that `into` lacks; walking x in order keeps
  // it ascending.
  forEachPoint(x, [&](const std::vector<int64_t> &point) {
    int64_t target = static_cast<int64_t>(broadcastAt(index, x.axes, point));
    if (target < 0) {
      return;
    }
    if (target >= into.extent(domain)) {
      status = outside(domain, into.extent(domain), target);
      return;
    }
    std::vector<int64_t> to = project(point, x.axes, result.axes);
    to[static_cast<size_t>(result.find(domain))] = target;
    double &slot = result.at(to);
    slot = add ? slot + x.at(point) : x.at(point);
  });
  KVCACHE_RETURN_IF_ERROR(status);
  return result;
}

StatusOr<Tensor> pool(Pooling fn, const Tensor &x, const std::string &along, int64_t size,
                      int64_t upTo) {
  KVCACHE_RETURN_IF_ERROR(needAxis(x, along));
  if (size < 1) {
    return Status::badInput("expected a pooling size of at least 1, got " + std::to_string(size));
  }
  size_t axis = static_cast<size_t>(x.find(along));
  Tensor result(x.axes);
  result.inheritRagged(x);
  forEachPoint(x, [&](const std::vector<int64_t> &point) {
    int64_t end = upTo < 0 ? x.lengthAt(axis, point) : std::min(upTo, x.lengthAt(axis, point));
    if (point[axis] >= end) {
      return;
    }
    double sum = 0.0, largest = -std::numeric_limits<double>::infinity();
    std::vector<int64_t> from = point;
    int64_t start = point[axis] - size / 2;
    for (int64_t t = start; t < start + size; ++t) {
      if (t >= 0 && t < end) {
        from[axis] = t;
        sum += x.at(from);
        largest = std::max(largest, x.at(from));
      }
    }
    result.at(point) = fn == Pooling::Max ? largest : sum / static_cast<double>(size);
  });
  return result;
}

Tensor iota(const Tensor &shape, const std::string &along) {
  Tensor result({Axis{along, shape.extent(along)}});
  for (size_t i = 0; i < result.values.size(); ++i) {
    result.values[i] = static_cast<double>(i);
  }
  return result;
}

StatusOr<Tensor> slice(const Tensor &x, const std::string &along, int64_t from, int64_t size) {
  KVCACHE_RETURN_IF_ERROR(needAxis(x, along));
  size_t axis = static_cast<size_t>(x.find(along));
  if (from < 0 || size < 0 || from + size > x.axes[axis].extent) {
    return Status::badInput("expected a slice inside [0, " + std::to_string(x.axes[axis].extent) +
                            ") of axis '" + along + "', got [" + std::to_string(from) + ", " +
                            std::to_string(from + size) + ")");
  }
  std::vector<Axis> axes = x.axes;
  axes[axis].extent = size;
  Tensor result(axes);
  forEachPoint(result, [&](const std::vector<int64_t> &point) {
    std::vector<int64_t> source = point;
    source[axis] += from;
    result.at(point) = x.at(source);
  });
  return result;
}

Status eigh(const Tensor &matrix, Tensor &values, Tensor &vectors) {
  size_t rank = matrix.axes.size();
  if (rank < 2 || matrix.axes[rank - 1].extent != matrix.axes[rank - 2].extent) {
    return Status::badInput("expected square matrices over the last two axes");
  }
  int64_t n = matrix.axes[rank - 1].extent;
  int64_t batch = matrix.points() / (n * n);
  values = Tensor(std::vector<Axis>(matrix.axes.begin(), matrix.axes.end() - 1));
  vectors = Tensor(matrix.axes);
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<double> a(matrix.values.begin() + b * n * n,
                          matrix.values.begin() + (b + 1) * n * n);
    std::vector<double> v(static_cast<size_t>(n * n), 0.0);
    for (int64_t i = 0; i < n; ++i) {
      v[static_cast<size_t>(i * n + i)] = 1.0;
    }
    auto at = [n](std::vector<double> &m, int64_t i, int64_t j) -> double & {
      return m[static_cast<size_t>(i * n + j)];
    };
    for (int sweep = 0; sweep < 64; ++sweep) {
      double off = 0.0, total = 0.0;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          total += at(a, i, j) * at(a, i, j);
          off += i == j ? 0.0 : at(a, i, j) * at(a, i, j);
        }
      }
      if (off <= 1e-28 * total) {
        break;
      }
      for (int64_t p = 0; p < n; ++p) {
        for (int64_t q = p + 1; q < n; ++q) {
          if (at(a, p, q) == 0.0) {
            continue;
          }
          double theta = (at(a, q, q) - at(a, p, p)) / (2.0 * at(a, p, q));
          double t =
              (theta >= 0 ? 1.0 : -1.0) / (std::fabs(theta) + std::sqrt(theta * theta + 1.0));
          double c = 1.0 / std::sqrt(t * t + 1.0), s = t * c;
          for (int64_t k = 0; k < n; ++k) {
            double x = at(a, k, p), y = at(a, k, q);
            at(a, k, p) = c * x - s * y;
            at(a, k, q) = s * x + c * y;
          }
          for (int64_t k = 0; k < n; ++k) {
            double x = at(a, p, k), y = at(a, q, k);
            at(a, p, k) = c * x - s * y;
            at(a, q, k) = s * x + c * y;
            double vx = at(v, k, p), vy = at(v, k, q);
            at(v, k, p) = c * vx - s * vy;
            at(v, k, q) = s * vx + c * vy;
          }
        }
      }
    }
    std::vector<int64_t> order(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      order[static_cast<size_t>(i)] = i;
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t x, int64_t y) { return at(a, x, x) > at(a, y, y); });
    for (int64_t j = 0; j < n; ++j) {
      int64_t from = order[static_cast<size_t>(j)];
      values.values[static_cast<size_t>(b * n + j)] = at(a, from, from);
      int64_t largest = 0;
      for (int64_t i = 1; i < n; ++i) {
        largest = std::fabs(at(v, i, from)) > std::fabs(at(v, largest, from)) ? i : largest;
      }
      double sign = at(v, largest, from) < 0 ? -1.0 : 1.0;
      for (int64_t i = 0; i < n; ++i) {
        vectors.values[static_cast<size_t>((b * n + i) * n + j)] = sign * at(v, i, from);
      }
    }
  }
  return Status::ok();
}

} // namespace kvcache::rt::reference
