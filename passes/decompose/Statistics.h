// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The part of `decomposed` that concerns attention.

#pragma once

#include "mlir/IR/Operation.h"

namespace mlir::kvcache {

/// Replaces score.attention and the sums of attend by score.reduce, and gives each score.reduce the
/// log-sum-exp of an attention: of one with the same queries and cache where there is one.
void decomposeStatistics(Operation *root);

/// True for ops of which decomposeStatistics leaves none.
bool isDecomposedStatistic(Operation *op);

} // namespace mlir::kvcache
