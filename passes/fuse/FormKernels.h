// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which primitives are computed together: the `fused` stage.

#pragma once

#include "mlir/IR/Operation.h"

#include "llvm/ADT/DenseMap.h"

#include <string>

namespace mlir::kvcache {

/// Groups the tensor computations of every program under `root` into kvcache.kernel ops. A value
/// gets memory only when something other than a loop nest reads it, several kernels read it, or
/// computing it where it is used would repeat a reduction. Everything else is computed in place of
/// its use. With `boundaries`, says there of each kernel why its output got memory.
using KernelBoundaries = llvm::DenseMap<Operation *, std::string>;
void formKernels(Operation *root, KernelBoundaries *boundaries = nullptr);

/// True for ops that formKernels puts into kernels, whatever uses them.
bool belongsInKernel(Operation *op);

/// True for primitives that are addresses alone, no arithmetic: in a kernel they cost nothing, and
/// save nothing.
bool isAddressing(Operation *op);

} // namespace mlir::kvcache
