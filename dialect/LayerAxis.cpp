// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The axis `layer` in front of a type.

#include "dialect/LayerAxis.h"

#include "dialect/Axes.h"

namespace mlir::kvcache {

static Type withAxes(Type type, ArrayRef<AxisAttr> axes) {
  if (auto tensor = dyn_cast_or_null<AxisTensorType>(type)) {
    return tensor.withAxes(axes);
  }
  if (auto index = dyn_cast_or_null<IndexSetType>(type)) {
    return IndexSetType::get(type.getContext(), axes, index.getDomain());
  }
  return {};
}

Type typeOfOneLayer(Type stacked) {
  if (!isa_and_nonnull<AxisTensorType, IndexSetType>(stacked)) {
    return {};
  }
  ArrayRef<AxisAttr> axes = axesOf(stacked);
  bool hasLayer = !axes.empty() && axes.front().getName() == "layer";
  return hasLayer ? withAxes(stacked, axes.drop_front()) : Type();
}

Type typeOfAllLayers(Type perLayer, Attribute layers) {
  if (!isa_and_nonnull<AxisTensorType, IndexSetType>(perLayer)) {
    return {};
  }
  SmallVector<AxisAttr> axes{AxisAttr::get(perLayer.getContext(), "layer", "", layers)};
  llvm::append_range(axes, axesOf(perLayer));
  return withAxes(perLayer, axes);
}

} // namespace mlir::kvcache
