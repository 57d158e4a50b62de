// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Executables as IR (dialect/ScheduleOps.td) and as messages (runtime/abi/executable.proto): the
// two forms say the same, and this is the one place that knows both. Numbers of the message are the
// order of the ops: slots and buffers as declared, stores, tensors and programs as they stand.

#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Support/LLVM.h"
#include "runtime/abi/executable.pb.h"

namespace mlir::kvcache {

class ExecutableOp;

/// Writes what `executable` says to `to`, which is empty. Emits a diagnostic at the op that no
/// message can hold.
LogicalResult exportExecutable(ExecutableOp executable, ::kvcache::proto::Executable &to);

/// A module with the one executable that `from` describes, verified. Emits a diagnostic at
/// `source`, where all ops are, when the message refers to what is not there.
FailureOr<OwningOpRef<ModuleOp>> importExecutable(Location source,
                                                  const ::kvcache::proto::Executable &from);

} // namespace mlir::kvcache
