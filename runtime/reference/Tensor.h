// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The value the reference kernels compute on: a dense row-major array of doubles with named axes,
// of which one may be ragged (a length for each head). Written to be read, not to be fast.

#pragma once

#include "runtime/Status.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace kvcache::rt::reference {

struct Axis {
  std::string name; ///< kind and tag, for example "channel.post"
  int64_t extent = 0;
};

struct Tensor {
  std::vector<Axis> axes;
  std::vector<double> values;
  /// The axis whose extent is only a capacity, and the length it has for each point of the `head`
  /// axis, or of `head` and `group` (one length when there is no head axis); with a `layer` axis those of
  /// one layer after those of another; or one for each point of all other axes. Empty name: no ragged
  /// axis.
  std::string ragged;
  std::vector<int64_t> lengths;

  Tensor() = default;
  explicit Tensor(std::vector<Axis> axesIn, double fill = 0.0) : axes(std::move(axesIn)) {
    values.assign(static_cast<size_t>(points()), fill);
  }

  int64_t points() const {
    int64_t count = 1;
    for (const Axis &axis : axes) {
      count *= axis.extent;
    }
    return count;
  }
  /// Position of the axis called `name`, or -1.
  int find(const std::string &name) const {
    for (size_t i = 0; i < axes.size(); ++i) {
      if (axes[i].name == name) {
        return static_cast<int>(i);
      }
    }
    return -1;
  }
  int64_t extent(const std::string &name) const {
    int i = find(name);
    return i < 0 ? 1 : axes[static_cast<size_t>(i)].extent;
  }
  /// Offset of a point, one coordinate per axis.
  int64_t offset(const std::vector<int64_t> &point) const {
    int64_t at = 0;
    for (size_t i = 0; i < axes.size(); ++i) {
      at = at * axes[i].extent + point[i];
    }
    return at;
  }
  double &at(const std::vector<int64_t> &point) {
    return values[static_cast<size_t>(offset(point))];
  }
  double at(const std::vector<int64_t> &point) const {
    return values[static_cast<size_t>(offset(point))];
  }
  /// Extent of axis `i` at a point whose head coordinate is known.
  int64_t lengthAt(size_t i, const std::vector<int64_t> &point) const;
  /// Takes over the ragged axis of `other` if this tensor has that axis.
  void inheritRagged(const Tensor &other);
};

/// Calls `visit` for each point that exists (ragged axes are cut to their lengths), last axis
/// fastest.
void forEachPoint(const Tensor &shape,
                  const std::function<void(const std::vector<int64_t> &)> &visit);

/// The value of `source` at the coordinates that `point` (over `axes`) has for source's axes; axes
/// that source lacks are broadcast.
double broadcastAt(const Tensor &source, const std::vector<Axis> &axes,
                   const std::vector<int64_t> &point);

/// How far apart neighbours of each axis of `axes` lie in `source`; 0 where it lacks the axis. The
/// dot product with a point is the offset that broadcastAt reads.
std::vector<int64_t> broadcastStrides(const Tensor &source, const std::vector<Axis> &axes);

/// Union of the axes of several tensors in order of first appearance, extents and raggedness
/// included.
Tensor broadcastShape(const std::vector<const Tensor *> &tensors);

/// Checks that each of `tensors` has a value at every point of their `shape` that exists; names the
/// axis that differs.
Status checkBroadcast(const std::vector<const Tensor *> &tensors, const Tensor &shape);

} // namespace kvcache::rt::reference
