// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The meaning of the ops along one axis, row by row: sort, scan, concat, blocks. A row is the
// positions that exist along the axis where the coordinates of all other axes are fixed.

#include "runtime/reference/Primitives.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvcache::rt::reference {

namespace {

/// Calls `visit` with each point of the other axes (coordinate 0 along `along`) and the length of
/// its row. Fails where the rows of another axis have lengths that depend on `along`.
Status forEachRow(
    const Tensor &x, const std::string &along,
    const std::function<void(std::vector<int64_t> &point, size_t axis, int64_t length)> &visit) {
  int place = x.find(along);
  if (place < 0) {
    return Status::badInput("expected axis '" + along + "' in the operand");
  }
  if (!x.ragged.empty() && x.ragged != along && (along == "head" || along == "group") &&
      std::any_of(x.lengths.begin(), x.lengths.end(),
                  [&](int64_t length) { return length != x.lengths.front(); })) {
    return Status::badInput("axis '" + x.ragged + "' has other lengths for other points of axis '" +
                            along + "'");
  }
  auto axis = static_cast<size_t>(place);
  Tensor rows = x;
  rows.axes[axis].extent = 1;
  if (rows.ragged == along) {
    rows.ragged.clear();
  }
  forEachPoint(rows, [&](const std::vector<int64_t> &lead) {
    std::vector<int64_t> point = lead;
    visit(point, axis, x.lengthAt(axis, point));
  });
  return Status::ok();
}

/// Lengths of `axis` for each head (or each head and group), or one that holds for all.
std::vector<int64_t> lengthsOf(const Tensor &x, size_t axis) {
  return x.ragged == x.axes[axis].name ? x.lengths : std::vector<int64_t>{x.axes[axis].extent};
}

int64_t largest(const std::vector<int64_t> &lengths) {
  return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

} // namespace

StatusOr<Tensor> sort(const Tensor &x, const std::string &along, bool descending, int64_t size) {
  if (size < 1) {
    return Status::badInput("expected blocks of at least one position, got " +
                            std::to_string(size));
  }
  Tensor result(x.axes);
  result.inheritRagged(x);
  bool isNan = false;
  KVCACHE_RETURN_IF_ERROR(
      forEachRow(x, along, [&](std::vector<int64_t> &point, size_t axis, int64_t length) {
        std::vector<double> row;
        for (point[axis] = 0; point[axis] < length; ++point[axis]) {
          row.push_back(x.at(point));
          isNan = isNan || std::isnan(row.back());
        }
        if (isNan) {
          return;
        }
        for (int64_t lo = 0; lo < length; lo += std::min(size, length - lo)) {
          auto first = row.begin() + lo, last = first + std::min(size, length - lo);
          std::sort(first, last);
          if (descending) {
            std::reverse(first, last);
          }
        }
        for (point[axis] = 0; point[axis] < length; ++point[axis]) {
          result.at(point) = row[static_cast<size_t>(point[axis])];
        }
      }));
  return isNan ? StatusOr<Tensor>(Status::badInput(
                     "a value along '" + along + "' is not a number and has no place in an order"))
               : StatusOr<Tensor>(result);
}

StatusOr<Tensor> scan(Scan fn, const Tensor &x, const std::string &along, bool reverse,
                      bool floats) {
  Tensor result(x.axes);
  result.inheritRagged(x);
  KVCACHE_RETURN_IF_ERROR(
      forEachRow(x, along, [&](std::vector<int64_t> &point, size_t axis, int64_t length) {
        double carried = fn == Scan::Sum ? 0.0 : -std::numeric_limits<double>::infinity();
        for (int64_t i = 0; i < length; ++i) {
          point[axis] = reverse ? length - 1 - i : i;
          double next = floats ? static_cast<float>(x.at(point)) : x.at(point);
          if (fn == Scan::Max) {
            carried = std::max(carried, next);
          } else {
            carried =
                floats ? static_cast<float>(carried) + static_cast<float>(next) : carried + next;
          }
          result.at(point) = carried;
        }
      }));
  return result;
}

StatusOr<Tensor> concat(const Tensor &a, const std::string &alongA, const Tensor &b,
                        const std::string &alongB, const std::string &along) {
  int placeA = a.find(alongA), placeB = b.find(alongB);
  if (placeA < 0 || placeB < 0) {
    return Status::badInput("expected axes '" + alongA + "' and '" + alongB + "' in the operands");
  }
  std::vector<int64_t> first = lengthsOf(a, static_cast<size_t>(placeA)),
                       second = lengthsOf(b, static_cast<size_t>(placeB)), lengths;
  for (size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
    lengths.push_back(first[first.size() == 1 ? 0 : i] + second[second.size() == 1 ? 0 : i]);
  }
  std::vector<Axis> axes = a.axes;
  axes[static_cast<size_t>(placeA)] = {along, largest(lengths)};
  Tensor result(axes);
  result.inheritRagged(a);
  if (a.ragged == alongA || b.ragged == alongB) {
    result.ragged = along;
    result.lengths = lengths;
  }
  for (const Axis &axis : a.axes) {
    if (axis.name != alongA && axis.extent != b.extent(axis.name)) {
      return Status::badInput("axis '" + axis.name + "' is " + std::to_string(axis.extent) +
                              " long in one operand and " + std::to_string(b.extent(axis.name)) +
                              " in the other");
    }
  }
  auto axis = static_cast<size_t>(placeA);
  forEachPoint(result, [&](const std::vector<int64_t> &point) {
    int64_t behind = point[axis] - a.lengthAt(axis, point);
    if (behind < 0) {
      result.at(point) = a.at(point);
      return;
    }
    std::vector<Axis> names = axes;
    names[axis].name = alongB;
    std::vector<int64_t> from = point;
    from[axis] = behind;
    result.at(point) = broadcastAt(b, names, from);
  });
  return result;
}

StatusOr<Tensor> blocks(Reduction fn, const Tensor &x, const std::string &along, int64_t size,
                        const std::string &name) {
  if (size < 1) {
    return Status::badInput("expected blocks of at least one position, got " +
                            std::to_string(size));
  }
  int place = x.find(along);
  if (place < 0) {
    return Status::badInput("expected axis '" + along + "' in the operand");
  }
  auto axis = static_cast<size_t>(place);
  std::vector<int64_t> counts;
  for (int64_t length : lengthsOf(x, axis)) {
    counts.push_back((length + size - 1) / size);
  }
  std::vector<Axis> axes = x.axes;
  axes[axis] = {name, largest(counts)};
  Tensor result(axes);
  result.inheritRagged(x);
  if (x.ragged == along) {
    result.ragged = name;
    result.lengths = counts;
  }
  forEachPoint(result, [&](const std::vector<int64_t> &point) {
    std::vector<int64_t> from = point;
    int64_t end = std::min((point[axis] + 1) * size, x.lengthAt(axis, point));
    from[axis] = point[axis] * size;
    double value = x.at(from);
    int64_t count = end - from[axis];
    for (++from[axis]; from[axis] < end; ++from[axis]) {
      double next = x.at(from);
      value = fn == Reduction::Max   ? std::max(value, next)
              : fn == Reduction::Min ? std::min(value, next)
                                     : value + next;
    }
    result.at(point) = fn == Reduction::Mean ? value / static_cast<double>(count) : value;
  });
  return result;
}

} // namespace kvcache::rt::reference
