// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Phases of model scope see the values of all layers at once, with an axis `layer` in front: what
// that makes of a type.

#pragma once

#include "dialect/KVCacheTypes.h"

namespace mlir::kvcache {

/// The type of one layer's part of a tensor or index set with an untagged axis `layer` in front;
/// null for any other type.
Type typeOfOneLayer(Type stacked);

/// The type that values of `perLayer` have for `layers` (an integer or a symbol) at once; null for what
/// is no tensor and no index set.
Type typeOfAllLayers(Type perLayer, Attribute layers);

} // namespace mlir::kvcache
