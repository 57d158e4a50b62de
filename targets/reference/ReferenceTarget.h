// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The entry of the reference target.

#pragma once

#include "runtime/Execution.h"

#include "mlir/Support/LLVM.h"

#include <memory>

namespace mlir::kvcache {

class MethodOp;

/// A composed method (every slot filled, parameters final) ready to run with the reference kernels.
/// The method is copied into a context of the execution's own and specialized there, unless it is
/// already; the caller's IR may go. Emits one diagnostic on `method` when it cannot be bound to the
/// geometry.
FailureOr<std::unique_ptr<::kvcache::rt::Execution>>
createReferenceExecution(MethodOp method, const ::kvcache::rt::Geometry &geometry);

} // namespace mlir::kvcache
