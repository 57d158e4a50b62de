// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Values of all layers as one value with an axis `layer` in front, and back.

#pragma once

#include "targets/reference/Value.h"

#include <vector>

namespace mlir::kvcache::reference {

/// The tensors (or index sets) of all layers as one. Fails when one is no tensor, or when extents
/// differ in other than a ragged axis.
StatusOr<RuntimeValue> stackLayers(const std::vector<RuntimeValue> &layers);

/// What `stacked` holds for one layer. Fails when it is no tensor with `layer` as first axis.
StatusOr<RuntimeValue> layerOf(const RuntimeValue &stacked, int64_t layer);

} // namespace mlir::kvcache::reference
