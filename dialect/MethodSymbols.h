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
/// Whether `name` is a result that any method may yield: out, rows, score, budget, keep. Others have a name
/// of the method's own.
bool isResultRole(StringRef name);
/// Whether `role` is given by the event rather than by an earlier phase.
bool isEventRole(StringRef role);
/// Checks that the parameter of a condition exists and that the value has the parameter's kind.
LogicalResult verifyCondition(Operation *op, std::optional<ConditionAttr> condition);
/// `(%x = role : type, ..)`, the arguments of a phase or an encoder.
ParseResult parseBindings(OpAsmParser &parser, SmallVectorImpl<OpAsmParser::Argument> &arguments,
                          ArrayAttr &bindings);
void printBindings(OpAsmPrinter &printer, Block &block, ArrayAttr bindings);
/// Checks that `symbol` is a state, parameter or artefact of the type `found`.
LogicalResult verifySymbolValue(Operation *op, MethodOp method, FlatSymbolRefAttr symbol,
                                Type found);
/// Checks what the kinds probe and draft, and queries of drafted tokens, ask for.
LogicalResult verifySecondLook(PhaseOp phase, MethodOp method);
/// Checks the `encode` entries of a state.
LogicalResult verifyEncoders(StateOp state);

} // namespace mlir::kvcache
