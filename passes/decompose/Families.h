// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Family ops in terms of primitives.

#pragma once

#include "mlir/IR/Operation.h"

namespace mlir::kvcache {

/// Replaces every family op under `root` that has a decomposition (docs/op-table.md). What stays
/// are the selections (select.topk, select.where, select.complement, select.alloc) and
/// quantize.encode, which kernels are emitted for.
void decomposeFamilies(Operation *root);

/// True for ops of which decomposeFamilies leaves none.
bool isDecomposed(Operation *op);

} // namespace mlir::kvcache
