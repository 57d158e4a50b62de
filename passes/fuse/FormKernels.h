// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which primitives are computed together: the `fused` stage.

#pragma once

#include "mlir/IR/Operation.h"

namespace mlir::kvcache {

/// Groups the tensor computations of every program under `root` into kvcache.kernel ops. A value
/// gets memory only when something other than a loop nest reads it, several kernels read it, or
/// computing it where it is used would repeat a reduction. Everything else is computed in place of
/// its use.
void formKernels(Operation *root);

} // namespace mlir::kvcache
