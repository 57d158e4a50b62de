// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Stacking and slicing along `layer`. The lengths of a ragged axis stand layer after layer.

#include "targets/reference/LayerStack.h"

#include <algorithm>

namespace mlir::kvcache::reference {

static const Tensor *tensorOf(const RuntimeValue &value) {
  const auto *tensor = std::get_if<std::shared_ptr<const TensorValue>>(&value);
  return tensor ? &(*tensor)->tensor : nullptr;
}

/// Whether every row is as long as the axis, so that there is nothing ragged about it.
static void forgetFullRows(Tensor &tensor) {
  if (!tensor.ragged.empty() &&
      std::all_of(tensor.lengths.begin(), tensor.lengths.end(),
                  [&](int64_t length) { return length == tensor.extent(tensor.ragged); })) {
    tensor.ragged.clear();
    tensor.lengths.clear();
  }
}

StatusOr<RuntimeValue> stackLayers(const std::vector<RuntimeValue> &layers) {
  std::vector<const Tensor *> tensors;
  for (const RuntimeValue &value : layers) {
    tensors.push_back(tensorOf(value));
    if (!tensors.back()) {
      return Status::badInput("expected a tensor or an index set");
    }
  }
  const Tensor &first = *tensors.front();
  std::vector<Axis> axes{{"layer", static_cast<int64_t>(layers.size())}};
  axes.insert(axes.end(), first.axes.begin(), first.axes.end());
  for (const Tensor *tensor : tensors) {
    for (size_t i = 0; i < first.axes.size(); ++i) {
      int64_t &extent = axes[i + 1].extent;
      if (tensor->axes[i].extent != extent && tensor->ragged != axes[i + 1].name) {
        return Status::badInput("axis '" + axes[i + 1].name + "' is " + std::to_string(extent) +
                                " long in one layer and " + std::to_string(tensor->axes[i].extent) +
                                " in another");
      }
      extent = std::max(extent, tensor->axes[i].extent);
    }
  }
  Tensor stacked(axes);
  stacked.ragged = first.ragged;
  for (size_t layer = 0; layer < tensors.size(); ++layer) {
    const Tensor &tensor = *tensors[layer];
    stacked.lengths.insert(stacked.lengths.end(), tensor.lengths.begin(), tensor.lengths.end());
    forEachPoint(tensor, [&](const std::vector<int64_t> &point) {
      std::vector<int64_t> at{static_cast<int64_t>(layer)};
      at.insert(at.end(), point.begin(), point.end());
      stacked.at(at) = tensor.at(point);
    });
  }
  forgetFullRows(stacked);
  return valueOf(std::move(stacked));
}

StatusOr<RuntimeValue> layerOf(const RuntimeValue &stacked, int64_t layer) {
  const Tensor *all = tensorOf(stacked);
  if (!all || all->axes.empty() || all->axes.front().name != "layer") {
    return Status::badInput("expected a tensor or an index set with the axis 'layer' in front");
  }
  Tensor part(std::vector<Axis>(all->axes.begin() + 1, all->axes.end()));
  std::copy_n(all->values.begin() + layer * part.points(), part.points(), part.values.begin());
  part.ragged = all->ragged;
  int64_t rows = static_cast<int64_t>(all->lengths.size()) / all->axes.front().extent;
  if (all->lengths.size() == 1) {
    part.lengths = all->lengths;
  } else {
    part.lengths.assign(all->lengths.begin() + layer * rows,
                        all->lengths.begin() + (layer + 1) * rows);
  }
  return valueOf(std::move(part));
}

} // namespace mlir::kvcache::reference
