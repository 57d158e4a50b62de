// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Walking named, possibly ragged tensors.

#include "runtime/reference/Tensor.h"

#include <algorithm>

namespace kvcache::rt::reference {

int64_t Tensor::lengthAt(size_t i, const std::vector<int64_t> &point) const {
  if (ragged.empty() || axes[i].name != ragged) {
    return axes[i].extent;
  }
  int layer = find("layer"), head = find("head"), group = find("group");
  size_t others = 1, at = 0, known = 1;
  for (size_t j = 0; j < axes.size(); ++j) {
    if (j != i) {
      auto extent = static_cast<size_t>(axes[j].extent);
      at = at * extent + static_cast<size_t>(point[j]);
      others *= extent;
      int place = static_cast<int>(j);
      known *= place == layer || place == head || place == group ? extent : 1;
    }
  }
  if (others != known && lengths.size() == others) {
    return lengths[at]; // a length for each point of all other axes
  }
  size_t first = 0, count = lengths.size();
  if (layer >= 0 && count > 1) {
    count /= static_cast<size_t>(axes[static_cast<size_t>(layer)].extent);
    first = static_cast<size_t>(point[static_cast<size_t>(layer)]) * count;
  }
  if (head < 0 || count == 1) {
    return lengths[first];
  }
  at = static_cast<size_t>(point[static_cast<size_t>(head)]);
  size_t heads = static_cast<size_t>(axes[static_cast<size_t>(head)].extent);
  if (group >= 0 && count != heads) {
    at = at * static_cast<size_t>(axes[static_cast<size_t>(group)].extent) +
         static_cast<size_t>(point[static_cast<size_t>(group)]);
  }
  return lengths[first + at];
}

void Tensor::inheritRagged(const Tensor &other) {
  if (!other.ragged.empty() && find(other.ragged) >= 0) {
    ragged = other.ragged;
    lengths = other.lengths;
  }
}

void forEachPoint(const Tensor &shape,
                  const std::function<void(const std::vector<int64_t> &)> &visit) {
  std::vector<int64_t> point(shape.axes.size(), 0);
  // A ragged axis may stand before `head`, so its length is checked at the full point.
  for (int64_t linear = 0, count = shape.points(); linear < count; ++linear) {
    int64_t rest = linear;
    for (size_t i = shape.axes.size(); i-- > 0;) {
      point[i] = rest % shape.axes[i].extent;
      rest /= shape.axes[i].extent;
    }
    bool exists = true;
    for (size_t i = 0; i < shape.axes.size() && exists; ++i) {
      exists = point[i] < shape.lengthAt(i, point);
    }
    if (exists) {
      visit(point);
    }
  }
}

double broadcastAt(const Tensor &source, const std::vector<Axis> &axes,
                   const std::vector<int64_t> &point) {
  int64_t at = 0;
  for (const Axis &axis : source.axes) {
    int64_t coordinate = 0;
    for (size_t i = 0; i < axes.size(); ++i) {
      if (axes[i].name == axis.name) {
        coordinate = point[i];
      }
    }
    at = at * axis.extent + coordinate;
  }
  return source.values[static_cast<size_t>(at)];
}

std::vector<int64_t> broadcastStrides(const Tensor &source, const std::vector<Axis> &axes) {
  std::vector<int64_t> strides(axes.size(), 0);
  int64_t stride = 1;
  for (size_t own = source.axes.size(); own-- > 0;) {
    for (size_t i = 0; i < axes.size(); ++i) {
      if (axes[i].name == source.axes[own].name) {
        strides[i] = stride;
      }
    }
    stride *= source.axes[own].extent;
  }
  return strides;
}

Tensor broadcastShape(const std::vector<const Tensor *> &tensors) {
  std::vector<Axis> axes;
  for (const Tensor *tensor : tensors) {
    for (const Axis &axis : tensor->axes) {
      bool known = false;
      for (const Axis &other : axes) {
        known = known || other.name == axis.name;
      }
      if (!known) {
        axes.push_back(axis);
      }
    }
  }
  Tensor shape(std::move(axes));
  for (const Tensor *tensor : tensors) {
    shape.inheritRagged(*tensor);
  }
  return shape;
}

Status checkBroadcast(const std::vector<const Tensor *> &tensors, const Tensor &shape) {
  for (const Tensor *tensor : tensors) {
    for (const Axis &axis : tensor->axes) {
      bool ragged = axis.name == shape.ragged;
      // Of a ragged axis only the rows that exist count, not the capacity.
      int64_t needed = ragged ? *std::max_element(shape.lengths.begin(), shape.lengths.end())
                              : shape.extent(axis.name);
      bool sameRows = tensor->ragged != axis.name || !ragged || tensor->lengths == shape.lengths ||
                      tensor->lengths.size() == 1;
      if (ragged ? axis.extent < needed : axis.extent != needed) {
        return Status::badInput("axis '" + axis.name + "' is " + std::to_string(needed) +
                                " long in one input and " + std::to_string(axis.extent) +
                                " in another");
      }
      if (!sameRows) {
        return Status::badInput("axis '" + axis.name +
                                "' has other lengths in one input than in another");
      }
    }
  }
  return Status::ok();
}

} // namespace kvcache::rt::reference
