// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the score family. Markers C1.. refer to the descriptions in ScoreOps.td.

#include "dialect/ScoreOps.h"

#include "dialect/AttentionTypes.h"
#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/KVCacheDialect.h"
#include "dialect/ScalarBody.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"

#define GET_OP_CLASSES
#include "dialect/ScoreOps.cpp.inc"

namespace mlir::kvcache {

void registerScoreOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/ScoreOps.cpp.inc"
      >(dialect);
}

LogicalResult ScoreAttentionOp::verify() {
  auto cache = cast<CacheType>(getCache().getType());
  if (failed(verifyAttentionOperands(*this, getQuery(), cache))) { // C1, C2
    return failure();
  }
  return verifyStatistics(*this, getQuery(), cache, getStats(), getStatistics()); // C3
}

// ---- score.reduce ----

/// The names that the body starts with.
static SmallVector<ScalarName> probabilityNames(MLIRContext *context) {
  Type position = IntegerType::get(context, 32);
  return {{"p", Float32Type::get(context)}, {"qpos", position}, {"kpos", position}};
}

ParseResult ScoreReduceOp::parse(OpAsmParser &parser, OperationState &result) {
  StringAttr fn, mean;
  ScalarClause clause;
  OpAsmParser::UnresolvedOperand query, cache, lse;
  ArrayAttr axes;
  Builder &b = parser.getBuilder();
  if (parseWord(parser, fn) || parseScalarClause(parser, clause) || parser.parseKeyword("of") ||
      parser.parseOperand(query) || parser.parseKeyword("over") || parser.parseOperand(cache)) {
    return failure();
  }
  if (succeeded(parser.parseOptionalKeyword("causal"))) {
    result.addAttribute("causal", b.getUnitAttr());
  }
  bool hasLse = succeeded(parser.parseOptionalKeyword("lse"));
  if (hasLse && parser.parseOperand(lse)) {
    return failure();
  }
  if (succeeded(parser.parseOptionalKeyword("mean"))) {
    if (parseBracketedAxis(parser, mean)) {
      return failure();
    }
    result.addAttribute("mean", mean);
  }
  if (parser.parseKeyword("along") || parseAxisNames(parser, axes)) {
    return failure();
  }
  if (succeeded(parser.parseOptionalKeyword("last"))) {
    if (parser.parseLParen()) {
      return failure();
    }
    FailureOr<Attribute> count = parseExtent(parser, /*allowDynamic=*/false);
    if (failed(count) || parser.parseRParen()) {
      return failure();
    }
    result.addAttribute("last", *count);
  }
  result.addAttribute("fn", fn);
  result.addAttribute("axes", axes);
  SmallVector<OpAsmParser::UnresolvedOperand, 1> optional;
  if (hasLse) {
    optional.push_back(lse);
  }
  FailureOr<ArrayRef<Type>> inputs =
      parseAttentionOperands(parser, result, {query, cache}, optional, clause);
  if (failed(inputs)) {
    return failure();
  }
  return parseScalarRegion(parser, clause, *result.addRegion(), probabilityNames(b.getContext()),
                           *inputs, b.getF32Type());
}

void ScoreReduceOp::print(OpAsmPrinter &printer) {
  printer << ' ' << getFn();
  printScalarInputs(printer, getInputs());
  printer << " of " << getQuery() << " over " << getCache();
  if (getCausal()) {
    printer << " causal";
  }
  if (getLse()) {
    printer << " lse " << getLse();
  }
  if (getMean()) {
    printer << " mean [" << *getMean() << ']';
  }
  printer << " along ";
  printAxisNames(printer, *this, getAxes());
  if (getLast()) {
    printer << " last(";
    printExtent(printer.getStream(), *getLast());
    printer << ')';
  }
  printer.printOptionalAttrDict((*this)->getAttrs(),
                                {"fn", "causal", "mean", "axes", "last", "operandSegmentSizes"});
  printer << " : ";
  printer.printFunctionalType(*this);
  printer << ' ';
  printer.printRegion(getBody());
}

SmallVector<StringRef> ScoreReduceOp::getGoneAxes() {
  SmallVector<StringRef> gone;
  for (StringAttr name : getAxes().getAsRange<StringAttr>()) {
    gone.push_back(name.getValue());
  }
  if (getMean()) {
    gone.push_back(*getMean());
  }
  return gone;
}

LogicalResult ScoreReduceOp::verify() {
  auto cache = cast<CacheType>(getCache().getType());
  if (failed(verifyAttentionOperands(*this, getQuery(), cache))) { // C1, C2
    return failure();
  }
  if (getFn() != "sum" && getFn() != "max") { // C3
    return emitOpError() << "expected sum or max, got '" << getFn() << "'";
  }
  SmallVector<AxisAttr> rows = rowAxesOfQuery(cast<AxisTensorType>(getQuery().getType()), cache);
  SmallVector<AxisAttr> allowed(rows);
  allowed.push_back(cache.getRows().back());
  for (Value input : getInputs()) { // C4
    if (failed(expectSubset(*this, "input", allowed, axesOf(input)))) {
      return failure();
    }
  }
  SmallVector<StringRef> gone = getGoneAxes();
  for (auto [index, name] : llvm::enumerate(gone)) { // C5
    if (failed(expectAxis(*this, "query", rows, name))) {
      return failure();
    }
    if (llvm::is_contained(ArrayRef(gone).take_front(index), name)) {
      return emitOpError() << "axis '" << name << "' appears twice in along and mean";
    }
  }
  SmallVector<AxisAttr> left = without(rows, gone);
  left.push_back(cache.getRows().back());
  if (failed(expectAxes(*this, "result", left, axesOf(getOutput())))) { // C6
    return failure();
  }
  if (getLse() && failed(expectAxes(*this, "lse", rows, axesOf(getLse())))) { // C7
    return failure();
  }
  auto attended = getLse() ? getLse().getDefiningOp<AttendOp>() : AttendOp();
  if (attended && (attended.getLogitBody() || attended.getAt())) { // C7
    return emitOpError(
        "lse: expected that of an attention without logit and at, whose probabilities these are");
  }
  SmallVector<Type> own;
  for (auto [name, type] : probabilityNames(getContext())) {
    own.push_back(type);
  }
  return verifyScalarRegion(*this, getScalarBody(), own, getInputs().getTypes(),
                            Float32Type::get(getContext())); // C8
}

LogicalResult ScoreNormOp::verify() {
  for (StringAttr name : getAxes().getAsRange<StringAttr>()) { // C1
    if (failed(expectAxis(*this, "input", axesOf(getInput()), name))) {
      return failure();
    }
  }
  return expectAxes(*this, "result", without(axesOf(getInput()), getAxes()),
                    axesOf(getOutput())); // C2
}

LogicalResult ScoreNearestOp::verify() {
  ArrayRef<AxisAttr> input = axesOf(getInput()), candidates = axesOf(getCandidates());
  if (getMetric() != "cosine" && getMetric() != "l2") { // C1
    return emitOpError() << "expected cosine or l2, got '" << getMetric() << "'";
  }
  if (failed(expectAxis(*this, "candidates", candidates, getAxis()))) { // C2
    return failure();
  }
  if (failed(expectSubset(*this, "candidates", input, without(candidates, {getAxis()})))) { // C2
    return failure();
  }
  SmallVector<AxisAttr> expected(input);
  llvm::erase_if(expected, [](AxisAttr axis) { return axis.getKind() == "channel"; });
  auto index = cast<IndexSetType>(getAt().getType());
  if (index.getDomain() != getAxis()) { // C3
    return emitOpError() << "expected positions of '" << getAxis() << "', got of '"
                         << index.getDomain() << "'";
  }
  return failure(failed(expectAxes(*this, "best", expected, axesOf(getBest()))) || // C3
                 failed(expectAxes(*this, "positions", expected, index.getAxes())));
}

} // namespace mlir::kvcache
