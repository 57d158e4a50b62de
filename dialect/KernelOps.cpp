// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvcache.kernel (%a = %x : !t, ..) -> !u { .. kvcache.kernel.yield %v : !u }

#include "dialect/KernelOps.h"

#include "dialect/KVCacheDialect.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"

namespace mlir::kvcache {

ParseResult KernelOp::parse(OpAsmParser &parser, OperationState &result) {
  SmallVector<OpAsmParser::Argument> arguments;
  SmallVector<OpAsmParser::UnresolvedOperand> operands;
  auto parseInput = [&]() -> ParseResult {
    OpAsmParser::Argument argument;
    OpAsmParser::UnresolvedOperand operand;
    Type type;
    if (parser.parseArgument(argument) || parser.parseEqual() || parser.parseOperand(operand) || parser.parseColonType(type) ||
        parser.resolveOperand(operand, type, result.operands)) {
      return failure();
    }
    argument.type = type;
    arguments.push_back(argument);
    return success();
  };
  if (parser.parseCommaSeparatedList(OpAsmParser::Delimiter::Paren, parseInput) ||
      parser.parseOptionalArrowTypeList(result.types)) {
    return failure();
  }
  return failure(parser.parseRegion(*result.addRegion(), arguments) || parser.parseOptionalAttrDict(result.attributes));
}

void KernelOp::print(OpAsmPrinter &printer) {
  printer << " (";
  llvm::interleaveComma(llvm::zip(getBlock().getArguments(), getInputs()), printer, [&](auto pair) {
    printer << std::get<0>(pair) << " = " << std::get<1>(pair) << " : " << std::get<1>(pair).getType();
  });
  printer << ")";
  printer.printOptionalArrowTypeList(getResultTypes());
  printer << " ";
  printer.printRegion(getBody(), /*printEntryBlockArgs=*/false);
  printer.printOptionalAttrDict((*this)->getAttrs());
}

LogicalResult KernelOp::verify() {
  if (getBlock().getArgumentTypes() != getInputs().getTypes()) { // C1
    return emitOpError("expects a block argument of the same type for each input");
  }
  if (getBlock().getTerminator()->getOperandTypes() != getResultTypes()) { // C2
    return emitOpError("expects a yielded value of the same type for each result");
  }
  return success();
}

void registerKernelOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/KernelOps.cpp.inc"
      >(dialect);
}

} // namespace mlir::kvcache

#define GET_OP_CLASSES
#include "dialect/KernelOps.cpp.inc"
