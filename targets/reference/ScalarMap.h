// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs a scalar region at every point of its inputs, which map and select.where share.

#pragma once

#include "targets/reference/Interpreter.h"

namespace mlir::kvcache::reference {

/// One tensor per yielded value over the union of the inputs' axes; scalars and missing axes are
/// broadcast. Points beyond a ragged length hold 0.
Status mapScalars(Block &body, OperandRange inputs, Interpreter &in, std::vector<Tensor> &results);

} // namespace mlir::kvcache::reference
