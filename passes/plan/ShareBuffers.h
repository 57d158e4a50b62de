// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Memory of transient buffers: what stands between the `planned` and the `scheduled` stage.

#pragma once

#include "mlir/IR/Operation.h"

namespace mlir::kvcache {

/// Puts transient buffers of every program under `root` into the memory of earlier ones that no
/// later step uses. Extents are known only when a program runs, so two buffers share memory when
/// their extents hold the same slots and the rest of the product is no larger. Buffers that are
/// read after the program keep theirs: what `ranked` names, and those of `read` programs.
void shareBuffers(Operation *root);

} // namespace mlir::kvcache
