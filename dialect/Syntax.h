// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Clauses that several families print and parse alike: axis lists, function names, statistics,
// named operands, conditions. The functions are the custom directives of the ops' assembly formats.

#pragma once

#include "dialect/KVCacheTypes.h"
#include "mlir/IR/OpImplementation.h"

namespace mlir::kvcache {

/// `kind[.tag]` as a StringAttr.
ParseResult parseAxisName(OpAsmParser &parser, StringAttr &axis);
void printAxisName(OpAsmPrinter &printer, Operation *op, StringAttr axis);

/// `[kind[.tag]]` as a StringAttr.
ParseResult parseBracketedAxis(OpAsmParser &parser, StringAttr &axis);
void printBracketedAxis(OpAsmPrinter &printer, Operation *op, StringAttr axis);

/// `[a, b.c]` as an array of StringAttr.
ParseResult parseAxisNames(OpAsmParser &parser, ArrayAttr &axes);
void printAxisNames(OpAsmPrinter &printer, Operation *op, ArrayAttr axes);

/// A bare word as a StringAttr.
ParseResult parseWord(OpAsmParser &parser, StringAttr &word);
void printWord(OpAsmPrinter &printer, Operation *op, StringAttr word);

/// A pool function as a StringAttr, or another word as a symbol: a string parameter that names one.
ParseResult parsePoolFunction(OpAsmParser &parser, Attribute &function);
void printPoolFunction(OpAsmPrinter &printer, Operation *op, Attribute function);

/// `(sum(p, over(a, b), last(n)), lse)` as an array of StatAttr.
ParseResult parseStats(OpAsmParser &parser, ArrayAttr &stats);
void printStats(OpAsmPrinter &printer, Operation *op, ArrayAttr stats);

/// `name = %value, ..` as names and operands.
ParseResult parseNamedOperands(OpAsmParser &parser, ArrayAttr &names,
                               SmallVectorImpl<OpAsmParser::UnresolvedOperand> &values);
void printNamedOperands(OpAsmPrinter &printer, Operation *op, ArrayAttr names, OperandRange values);

/// `(@param = value)`.
ParseResult parseCondition(OpAsmParser &parser, ConditionAttr &condition);
void printCondition(OpAsmPrinter &printer, Operation *op, ConditionAttr condition);

} // namespace mlir::kvcache
