// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What holds after each stage, checked.

#pragma once

#include "passes/pipelines/Stages.h"

namespace mlir::kvcache {

/// Verifies the method and the contract of `stage`; reports the first op that breaks it.
LogicalResult checkContract(MethodOp method, Stage stage);

} // namespace mlir::kvcache
