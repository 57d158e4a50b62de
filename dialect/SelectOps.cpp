// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the select family. Markers C1.. refer to the descriptions in SelectOps.td.

#include "dialect/SelectOps.h"

#include "dialect/Axes.h"
#include "dialect/KVCacheDialect.h"
#include "dialect/ScalarBody.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"

#define GET_OP_CLASSES
#include "dialect/SelectOps.cpp.inc"

namespace mlir::kvcache {

void registerSelectOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/SelectOps.cpp.inc"
      >(dialect);
}

/// The axes of a selection: those of what is ranked, the domain replaced by the selection's
/// instance.
static LogicalResult verifySelection(Operation *op, IndexSetType index, ArrayRef<AxisAttr> ranked) {
  if (!index.isSelection()) {
    return op->emitOpError()
           << "expected a selection (an instance of its domain as last axis), got " << index;
  }
  if (failed(expectAxis(op, "operand", ranked, index.getDomain()))) {
    return failure();
  }
  SmallVector<AxisAttr> expected = without(ranked, {index.getDomain()});
  expected.push_back(index.getAxes().back());
  return expectAxes(op, "result", expected, index.getAxes(), /*ordered=*/false);
}

LogicalResult SelectTopkOp::verify() {
  auto index = cast<IndexSetType>(getOutput().getType());
  if (failed(verifySelection(*this, index, axesOf(getScores())))) { // C1
    return failure();
  }
  auto perHead = dyn_cast<AxisTensorType>(getBudget().getType());
  if (perHead && hasFloatElements(perHead)) { // C2
    return emitOpError() << "budget: expected integers, got " << perHead;
  }
  return expectSubset(*this, "budget", without(axesOf(getScores()), {index.getDomain()}),
                      axesOf(getBudget())); // C2
}

ParseResult SelectWhereOp::parse(OpAsmParser &parser, OperationState &result) {
  StringAttr axis;
  if (parseScalarOp(parser, result, &axis)) {
    return failure();
  }
  result.addAttribute("axis", axis);
  return success();
}

void SelectWhereOp::print(OpAsmPrinter &printer) { printScalarOp(printer, *this, getAxisAttr()); }

LogicalResult SelectWhereOp::verify() {
  SmallVector<AxisAttr> united;
  std::string clash;
  for (Type input : getInputs().getTypes()) { // C1
    if (!unite(united, axesOf(input), clash)) {
      return emitOpError() << "inputs disagree on the extent of axis '" << clash << "'";
    }
  }
  auto index = cast<IndexSetType>(getOutput().getType());
  if (index.getDomain() != getAxis()) { // C1
    return emitOpError() << "expected a selection of '" << getAxis() << "', got of '"
                         << index.getDomain() << "'";
  }
  if (failed(verifySelection(*this, index, united))) { // C1
    return failure();
  }
  return verifyScalarBody(*this, getScalarBody(), {IntegerType::get(getContext(), 1)}); // C2, C3
}

LogicalResult SelectComplementOp::verify() {
  auto kept = cast<IndexSetType>(getKept().getType()),
       rest = cast<IndexSetType>(getOutput().getType());
  if (!kept.isSelection() || kept.getDomain() != rest.getDomain()) { // C1
    return emitOpError() << "expected selections of one axis, got " << kept << " and " << rest;
  }
  if (failed(expectAxis(*this, "operand", axesOf(getOf()), kept.getDomain()))) { // C1
    return failure();
  }
  if (!rest.isSelection() ||
      rest.getAxes().back().getName() == kept.getAxes().back().getName()) { // C2
    return emitOpError() << "expected a result with another instance than '"
                         << kept.getAxes().back().getName() << "', got " << rest;
  }
  return expectAxes(*this, "result", kept.getAxes().drop_back(), rest.getAxes().drop_back()); // C2
}

LogicalResult SelectUnionOp::verify() {
  auto lhs = cast<IndexSetType>(getLhs().getType()), rhs = cast<IndexSetType>(getRhs().getType()),
       output = cast<IndexSetType>(getOutput().getType());
  if (!lhs.isSelection() || !rhs.isSelection() || lhs.getDomain() != rhs.getDomain()) { // C1
    return emitOpError() << "expected selections of one axis, got " << lhs << " and " << rhs;
  }
  if (failed(expectAxis(*this, "operand", axesOf(getOf()), lhs.getDomain()))) { // C1
    return failure();
  }
  ArrayRef<AxisAttr> wide = lhs.getAxes().drop_back(), narrow = rhs.getAxes().drop_back();
  if (wide.size() < narrow.size()) {
    std::swap(wide, narrow);
  }
  if (failed(expectSubset(*this, "selection", wide, narrow))) { // C2
    return failure();
  }
  if (!output.isSelection() || output.getDomain() != lhs.getDomain()) { // C3
    return emitOpError() << "expected a selection of '" << lhs.getDomain() << "', got " << output;
  }
  return expectAxes(*this, "result", wide, output.getAxes().drop_back()); // C3
}

LogicalResult SelectExpandOp::verify() {
  auto blocks = cast<IndexSetType>(getBlocks().getType()),
       output = cast<IndexSetType>(getOutput().getType());
  if (!blocks.isSelection()) { // C1
    return emitOpError() << "expected a selection of blocks, got " << blocks;
  }
  if (!output.isSelection()) { // C2
    return emitOpError() << "expected a selection as result, got " << output;
  }
  if (failed(expectAxis(*this, "operand", axesOf(getOf()), output.getDomain()))) { // C2
    return failure();
  }
  return expectAxes(*this, "result", blocks.getAxes().drop_back(),
                    output.getAxes().drop_back()); // C3
}

LogicalResult SelectFitOp::verify() {
  auto index = cast<IndexSetType>(getOutput().getType());
  ArrayRef<AxisAttr> items = axesOf(getScores());
  if (failed(verifySelection(*this, index, items))) { // C1
    return failure();
  }
  for (Value number : {getSizes(), getTotal()}) { // C2, C3
    auto each = dyn_cast<AxisTensorType>(number.getType());
    if (each && hasFloatElements(each)) {
      return emitOpError() << "sizes and total: expected integers, got " << each;
    }
  }
  if (failed(expectSubset(*this, "sizes", items, axesOf(getSizes())))) { // C2
    return failure();
  }
  return expectSubset(*this, "total", without(items, {index.getDomain()}),
                      axesOf(getTotal())); // C3
}

/// C4, C5: what `upto` limits, and the points that it and the total are given for.
static LogicalResult verifyPrefixes(SelectAllocOp op, ArrayRef<AxisAttr> points) {
  ArrayRef<AxisAttr> each = op.getUpto() ? axesOf(op.getUpto()) : ArrayRef<AxisAttr>();
  if (op.getUpto() && failed(expectAxis(op, "upto", points, *op.getAlong()))) { // C4
    return failure();
  }
  for (Value count : {op.getTotal(), op.getUpto()}) { // C5
    auto tensor = count ? dyn_cast<AxisTensorType>(count.getType()) : AxisTensorType();
    if (tensor && hasFloatElements(tensor)) {
      return op.emitOpError() << "total and upto: expected integers, got " << tensor;
    }
  }
  for (AxisAttr axis : each) { // C5
    if (findAxis(axesOf(op.getScores()), axis.getName())) {
      return op.emitOpError() << "upto: expected axes that the scores lack, got axis '"
                              << axis.getName() << "'";
    }
  }
  return expectSubset(op, "total", each, axesOf(op.getTotal())); // C5
}

LogicalResult SelectAllocOp::verify() {
  bool proportional = getRule() == "proportional";
  if (!proportional && getRule() != "global_topk") { // C1
    return emitOpError() << "expected global_topk or proportional, got '" << getRule() << "'";
  }
  if (!proportional && (getFloor() || getCap())) { // C1
    return emitOpError("expected no floor or cap with global_topk");
  }
  if (proportional && getUpto()) { // C1
    return emitOpError("expected no upto with proportional");
  }
  SmallVector<AxisAttr> points(axesOf(getScores()));
  if (!proportional) {
    if (failed(expectAxis(*this, "scores", points, "token"))) { // C2
      return failure();
    }
    points = without(points, {StringRef("token")});
  }
  if (failed(verifyPrefixes(*this, points))) { // C4, C5
    return failure();
  }
  SmallVector<AxisAttr> expected(points);
  if (getUpto()) {
    llvm::append_range(expected, axesOf(getUpto()));
  }
  if (failed(expectAxes(*this, "result", expected, axesOf(getOutput())))) { // C2
    return failure();
  }
  if (hasFloatElements(cast<AxisTensorType>(getOutput().getType()))) { // C2
    return emitOpError() << "expected a result of integers, got " << getOutput().getType();
  }
  for (Value limit : {getFloor(), getCap()}) { // C3
    auto each = limit ? dyn_cast<AxisTensorType>(limit.getType()) : AxisTensorType();
    if (each && hasFloatElements(each)) {
      return emitOpError() << "floor and cap: expected integers, got " << each;
    }
    if (limit && failed(expectSubset(*this, "floor or cap", points, axesOf(limit)))) {
      return failure();
    }
  }
  return success();
}

} // namespace mlir::kvcache
