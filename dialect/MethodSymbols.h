// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names inside a method: what the checks of states, phases and their results share. A method with a
// base (a parameter of kind `method`) may name symbols of that base; whether they exist is decided
// when the two are put together.

#pragma once

#include "dialect/MethodOps.h"

namespace mlir::kvcache {

/// True when symbols that are missing here may come from a base method.
bool hasBase(MethodOp method);
/// The param, state or artefact of that name; null when there is none.
Operation *lookupInMethod(MethodOp method, FlatSymbolRefAttr symbol);
/// Checks that the parameter of a condition exists and that the value has the parameter's kind.
LogicalResult verifyCondition(Operation *op, std::optional<ConditionAttr> condition);

} // namespace mlir::kvcache
