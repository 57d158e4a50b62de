// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Linear use of caches: what makes updating them in place legal. Each version of a cache has at
// most one user that updates it, and everything that reads that version comes before.

#pragma once

#include "mlir/IR/Operation.h"
#include "mlir/Support/LLVM.h"

namespace mlir::kvcache {

/// True when `use` makes a new version of the cache it is given: append, set_column, gather, or a
/// state's new value in next.
bool updatesCache(OpOperand &use);

/// Checks every cache value under `root`. A second updating user, or a read (also through the views
/// of rope and column) after the update, is reported on the later op, with a note at the update:
/// such a program would need a copy of the cache, and none is made silently. Branches of one op
/// exclude each other.
LogicalResult verifyLinearUse(Operation *root);

} // namespace mlir::kvcache
