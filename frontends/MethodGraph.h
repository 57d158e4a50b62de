// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Methods as protobuf graphs (method_graph.proto), out of IR and into it.

#pragma once

#include "frontends/method_graph.pb.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Support/LLVM.h"

namespace mlir::kvcache {

/// Appends the ops of `module` to `to`. Emits a diagnostic at an op that is no node: one with
/// several blocks in a region, or with successors.
LogicalResult exportMethodGraph(ModuleOp module, ::kvcache::proto::MethodGraph &to);

/// A module with the nodes of `from`, verified; the dialects they use must be loaded. Emits a
/// diagnostic at `source`, where all ops are, that names the node at fault.
FailureOr<OwningOpRef<ModuleOp>> importMethodGraph(Location source,
                                                   const ::kvcache::proto::MethodGraph &from);

} // namespace mlir::kvcache
