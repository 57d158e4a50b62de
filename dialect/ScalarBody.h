// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scalar regions: the function that map applies to each element and the predicate of select.where.
// Three spellings, one form: `with arith.addf` and an expression text are expanded into a region
// while parsing, so passes and targets only ever see regions.
//
//   expression ::= and ('|' and)*            and ::= compare ('&' compare)*
//   compare    ::= sum (('<' | '>' | '<=' | '>=' | '==' | '!=') sum)?
//   sum        ::= product (('+' | '-') product)*    product ::= unary (('*' | '/') unary)*
//   unary      ::= '-' unary | number | inf | name | '(' expression ')' | function '(' expression,
//   .. ')' function   ::= exp log sqrt abs floor ceil round (half to even) tanh min max
//   select(condition, a, b)
//
// Names are the inputs, as f32: integers are converted with sitofp, i1 stays a condition.

#pragma once

#include "mlir/IR/OpImplementation.h"

namespace mlir::kvcache {

/// Parses the text of map (`along` null) or select.where (`along` receives the axis).
ParseResult parseScalarOp(OpAsmParser &parser, OperationState &result, StringAttr *along);
/// Prints the region form.
void printScalarOp(OpAsmPrinter &printer, Operation *op, StringAttr along);
/// Checks the block arguments (C2) and the yielded types (C3) of a scalar region.
LogicalResult verifyScalarBody(Operation *op, Block &body, ArrayRef<Type> yielded);

} // namespace mlir::kvcache
