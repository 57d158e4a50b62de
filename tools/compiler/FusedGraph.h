// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads the graph of a method off its fused IR.

#pragma once

#include "dialect/MethodOps.h"
#include "passes/fuse/FormKernels.h"
#include "tools/commands/MethodGraph.h"

namespace kvcache::tools {

/// The graph of a method of the stage `fused`. Byte figures are for one event with `tokens` rows in
/// the cache: a prompt of so many rows, or a step.
MethodGraph graphOf(mlir::kvcache::MethodOp method,
                    const mlir::kvcache::KernelBoundaries &boundaries, int64_t tokens);

} // namespace kvcache::tools
