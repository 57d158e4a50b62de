// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From the methods a user names to the one method that is compiled: the `composed` stage.

#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LLVM.h"

#include "llvm/ADT/StringMap.h"

#include <string>
#include <vector>

namespace mlir::kvcache {

class MethodOp;

/// One method whose slots are taken from others.
struct ComposeRequest {
  /// The methods that define slots, in the order `A+B` names them. Each may define a slot once;
  /// `compress` bodies chain in this order.
  std::vector<std::string> parts;
  /// Methods that fill slots the parts leave out (`method` parameters).
  std::vector<std::string> bases;
  /// --set name=value, as text.
  llvm::StringMap<std::string> overrides;
};

/// Builds the composed method at the end of `module` (which holds the methods by name) and returns
/// it. After it: every parameter has its final value, no `when` is left, every phase has one kind,
/// and every slot is filled. Emits one diagnostic on failure: unknown method or parameter, value
/// out of range, two definitions of a slot, storage that does not combine.
FailureOr<MethodOp> composeMethod(ModuleOp module, const ComposeRequest &request);

/// Gives `param` the value that `text` spells; a diagnostic when it is not of the parameter's kind
/// or not allowed.
LogicalResult overrideParameter(MethodOp method, StringRef name, StringRef text);

/// Decides the axis `group:Gs` (dialect/Granularity.h) everywhere in `part`, by the parameter
/// `granularity` of `parameters`: "query_head", else "kv_head". Emits an error on another value, and
/// on a reduction over the axis that has no meaning for one element.
LogicalResult applyGranularity(MethodOp part, MethodOp parameters);

/// Adds the phases that the method leaves to their defaults: prefill, decode, query, select,
/// compress.
LogicalResult fillDefaultPhases(MethodOp method);

/// Checks that every part of the composed method has an effect: rows are added to each cache, and
/// what a phase score, allocate or select yields is taken by another one.
LogicalResult checkEffects(MethodOp method);

} // namespace mlir::kvcache
