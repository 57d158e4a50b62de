// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scalar regions: the function that map applies to each element and the predicate of select.where.
// Three spellings, one form: `with arith.addf` and an expression text are expanded into a region
// while parsing, so passes and targets only ever see regions.
//
//   text       ::= statement (';' statement)*    statement ::= (name '=')? expression
//   expression ::= and ('|' and)*            and ::= compare ('&' compare)*
//   compare    ::= sum (('<' | '>' | '<=' | '>=' | '==' | '!=') sum)?
//   sum        ::= product (('+' | '-') product)*    product ::= unary (('*' | '/') unary)*
//   unary      ::= '-' unary | number | inf | name | '(' expression ')' | function '(' expression,
//   .. ')' function   ::= exp log sqrt abs floor ceil round (half to even) tanh sin cos min max
//   select(condition, a, b)
//
// Names are the inputs, as f32: integers are converted with sitofp, i1 stays a condition. A statement
// with a name is a value for later statements, each one without is a result.

#pragma once

#include "mlir/IR/OpImplementation.h"

namespace mlir::kvcache {

/// A scalar function inside a longer op: `"p * w" (w = %w)`, or `(%w)` with its region after the types.
struct ScalarClause {
  std::string expression; ///< empty: the region follows the types
  SMLoc loc;
  SmallVector<StringRef> names;
  SmallVector<OpAsmParser::UnresolvedOperand> operands;
};
/// A name that the op itself binds, before the inputs (`p`, `z`, `kpos`).
using ScalarName = std::pair<StringRef, Type>;

/// Parses an expression with its inputs, or the inputs of a region.
ParseResult parseScalarClause(OpAsmParser &parser, ScalarClause &clause);
/// Fills `region`: expands the expression, whose names are `own` and the inputs, or parses the region.
ParseResult parseScalarRegion(OpAsmParser &parser, ScalarClause &clause, Region &region, ArrayRef<ScalarName> own,
                              ArrayRef<Type> inputs, Type yielded);
/// The end of an op over `query`, `cache`, one optional operand and the inputs of `clause`: attributes, functional type,
/// operands and their segments. Returns the types of the inputs.
FailureOr<ArrayRef<Type>> parseAttentionOperands(OpAsmParser &parser, OperationState &result,
                                                 ArrayRef<OpAsmParser::UnresolvedOperand> queryAndCache,
                                                 ArrayRef<OpAsmParser::UnresolvedOperand> optional,
                                                 const ScalarClause &clause);
/// Prints ` (%a, %b)` when there are inputs.
void printScalarInputs(OpAsmPrinter &printer, OperandRange inputs);
/// Checks that the region has the names' types, then the inputs' scalar types, as arguments and yields `yielded`.
LogicalResult verifyScalarRegion(Operation *op, Block &body, ArrayRef<Type> own, TypeRange inputs, Type yielded);

/// Parses the text of map (`along` null) or select.where (`along` receives the axis).
ParseResult parseScalarOp(OpAsmParser &parser, OperationState &result, StringAttr *along);
/// Prints the region form.
void printScalarOp(OpAsmPrinter &printer, Operation *op, StringAttr along);
/// Checks the block arguments (C2) and the yielded types (C3) of a scalar region.
LogicalResult verifyScalarBody(Operation *op, Block &body, ArrayRef<Type> yielded);

} // namespace mlir::kvcache
