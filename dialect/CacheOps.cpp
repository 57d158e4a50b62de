// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the ops on caches. Markers C1.. refer to the descriptions in CacheOps.td.

#include "dialect/CacheOps.h"

#include "dialect/AttentionTypes.h"
#include "dialect/Axes.h"
#include "dialect/KVCacheDialect.h"
#include "dialect/ScalarBody.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"

#define GET_OP_CLASSES
#include "dialect/CacheOps.cpp.inc"

namespace mlir::kvcache {

void registerCacheOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/CacheOps.cpp.inc"
      >(dialect);
}

// ---- attend ----

/// The names that the body of `logit` starts with.
static SmallVector<ScalarName> logitNames(MLIRContext *context) {
  Type position = IntegerType::get(context, 32);
  return {{"z", Float32Type::get(context)}, {"qpos", position}, {"kpos", position}};
}

ParseResult AttendOp::parse(OpAsmParser &parser, OperationState &result) {
  OpAsmParser::UnresolvedOperand query, cache, at;
  ScalarClause clause;
  Builder &b = parser.getBuilder();
  if (parser.parseOperand(query) || parser.parseKeyword("over") || parser.parseOperand(cache)) {
    return failure();
  }
  bool hasAt = succeeded(parser.parseOptionalKeyword("at"));
  if (hasAt && parser.parseOperand(at)) {
    return failure();
  }
  if (succeeded(parser.parseOptionalKeyword("causal"))) {
    result.addAttribute("causal", b.getUnitAttr());
  }
  bool hasLogit = succeeded(parser.parseOptionalKeyword("logit"));
  if (hasLogit && parseScalarClause(parser, clause)) {
    return failure();
  }
  if (succeeded(parser.parseOptionalKeyword("stats"))) {
    ArrayAttr stats;
    if (parseStats(parser, stats)) {
      return failure();
    }
    result.addAttribute("stats", stats);
  }
  SmallVector<OpAsmParser::UnresolvedOperand, 1> optional;
  if (hasAt) {
    optional.push_back(at);
  }
  FailureOr<ArrayRef<Type>> inputs =
      parseAttentionOperands(parser, result, {query, cache}, optional, clause);
  if (failed(inputs)) {
    return failure();
  }
  Region *region = result.addRegion();
  return hasLogit ? parseScalarRegion(parser, clause, *region, logitNames(b.getContext()), *inputs,
                                      b.getF32Type())
                  : ParseResult(success());
}

void AttendOp::print(OpAsmPrinter &printer) {
  printer << ' ' << getQuery() << " over " << getCache();
  if (getAt()) {
    printer << " at " << getAt();
  }
  if (getCausal()) {
    printer << " causal";
  }
  if (getLogitBody()) {
    printer << " logit";
    printScalarInputs(printer, getInputs());
  }
  if (getStats()) {
    printer << " stats";
    printStats(printer, *this, getStatsAttr());
  }
  printer.printOptionalAttrDict((*this)->getAttrs(), {"causal", "stats", "operandSegmentSizes"});
  printer << " : ";
  printer.printFunctionalType(*this);
  if (getLogitBody()) {
    printer << ' ';
    printer.printRegion(getLogit());
  }
}

/// C5: entries are chosen along the token axis, for points that the query has.
static LogicalResult verifyChosenEntries(AttendOp op, CacheType cache, ArrayRef<AxisAttr> rows) {
  auto at = cast<IndexSetType>(op.getAt().getType());
  AxisAttr token = cache.getRows().back();
  if (at.getDomain() != token.getName()) { // C5
    return op.emitOpError() << "at: expected positions of '" << token.getName() << "', got of '"
                            << at.getDomain() << "'";
  }
  if (failed(expectSubset(op, "at", rows, at.getAxes().drop_back()))) { // C5
    return failure();
  }
  for (Attribute stat :
       op.getStatsAttr() ? op.getStatsAttr() : ArrayAttr::get(op.getContext(), {})) {
    if (cast<StatAttr>(stat).getKind() == "sum") { // C5
      return op.emitOpError("at: expected no sums, whose token axis is that of the whole cache");
    }
  }
  return success();
}

/// C6, C7: what the function of the logits reads.
static LogicalResult verifyLogit(AttendOp op, CacheType cache, SmallVector<AxisAttr> rows) {
  rows.push_back(cache.getRows().back());
  for (Value input : op.getInputs()) { // C6
    if (failed(expectSubset(op, "input", rows, axesOf(input)))) {
      return failure();
    }
  }
  for (Attribute stat : op.getLogitBody() && op.getStatsAttr()
                            ? op.getStatsAttr()
                            : ArrayAttr::get(op.getContext(), {})) {
    if (cast<StatAttr>(stat).getKind() == "sum") { // C7
      return op.emitOpError("logit: expected no sums: they are of probabilities without it");
    }
  }
  if (!op.getLogitBody()) {
    if (!op.getInputs().empty()) { // C7
      return op.emitOpError("expected no inputs without logit");
    }
    return success(); // C7
  }
  SmallVector<Type> own;
  for (auto [name, type] : logitNames(op.getContext())) {
    own.push_back(type);
  }
  return verifyScalarRegion(op, *op.getLogitBody(), own, op.getInputs().getTypes(),
                            Float32Type::get(op.getContext())); // C7
}

LogicalResult AttendOp::verify() {
  auto cache = cast<CacheType>(getCache().getType());
  auto query = cast<AxisTensorType>(getQuery().getType());
  if (failed(verifyAttentionOperands(*this, getQuery(), cache)) || // C1, C2
      failed(expectAxes(*this, "output", attentionOutputAxes(query, cache),
                        axesOf(getOutput())))) { // C3
    return failure();
  }
  ArrayAttr stats = getStatsAttr() ? getStatsAttr() : ArrayAttr::get(getContext(), {});
  if (failed(verifyStatistics(*this, getQuery(), cache, stats, getStatistics()))) { // C4
    return failure();
  }
  SmallVector<AxisAttr> rows = rowAxesOfQuery(query, cache);
  if (getAt() && failed(verifyChosenEntries(*this, cache, rows))) { // C5
    return failure();
  }
  return verifyLogit(*this, cache, rows); // C6, C7
}

static LogicalResult verifyColumns(Operation *op, CacheType cache, ArrayAttr columns,
                                   ValueRange values, Value output) {
  if (columns.size() != values.size()) { // C1
    return op->emitOpError() << "expected one value for each of " << columns.size()
                             << " columns, got " << values.size();
  }
  llvm::SmallPtrSet<Attribute, 8> seen;
  for (StringAttr name : columns.getAsRange<StringAttr>()) { // C1
    if (!cache.getColumn(name)) {
      return op->emitOpError() << "no column '" << name.getValue() << "' in " << cache;
    }
    if (!seen.insert(name).second) {
      return op->emitOpError() << "column '" << name.getValue() << "' appears twice";
    }
  }
  if (output.getType() != cache) { // C3
    return op->emitOpError() << "expected a result of the cache's type " << cache << ", got "
                             << output.getType();
  }
  return success();
}

LogicalResult AppendOp::verify() {
  auto cache = cast<CacheType>(getCache().getType());
  if (failed(verifyColumns(*this, cache, getColumns(), getValues(), getOutput()))) { // C1, C3
    return failure();
  }
  for (auto [name, value] :
       llvm::zip_equal(getColumns().getAsRange<StringAttr>(), getValues())) { // C2
    ArrayRef<AxisAttr> axes = axesOf(value);
    AxisAttr rows = findAxisOfKind(axes, "query");
    rows = rows ? rows : findAxisOfKind(axes, "token");
    if (!rows) {
      return emitOpError() << "column '" << name.getValue()
                           << "': expected an axis of kind 'query' or 'token' along which "
                           << "rows are added, got " << str(axes);
    }
    SmallVector<AxisAttr> features = without(axes, {rows.getName()});
    ArrayRef<AxisAttr> others = cache.getRows().drop_back();
    // Row axes that a value lacks are broadcast: positions are the same for all heads.
    llvm::erase_if(features, [&](AxisAttr axis) {
      return static_cast<bool>(findAxis(others, axis.getName()));
    });
    if (failed(expectAxes(*this, "column '" + name.getValue() + "'",
                          cache.getColumn(name).getAxes(), features))) {
      return failure();
    }
  }
  return success();
}

LogicalResult ColumnOp::verify() {
  auto cache = cast<CacheType>(getCache().getType());
  AxisTensorType column = cache.getColumnType(getName());
  if (!column) { // C1
    return emitOpError() << "no column '" << getName() << "' in " << cache;
  }
  auto output = cast<AxisTensorType>(getOutput().getType());
  if (hasFloatElements(column) != hasFloatElements(output) || output.isCoded() ||
      (!hasFloatElements(column) && column.getElement() != output.getElement())) { // C2
    return emitOpError() << "expected elements like those of column '" << getName() << "', got "
                         << output;
  }
  return expectAxes(*this, "result", column.getAxes(), output.getAxes()); // C2
}

LogicalResult SetColumnOp::verify() {
  auto cache = cast<CacheType>(getCache().getType());
  if (failed(verifyColumns(*this, cache, getColumns(), getValues(), getOutput()))) { // C1, C3
    return failure();
  }
  for (auto [name, value] :
       llvm::zip_equal(getColumns().getAsRange<StringAttr>(), getValues())) { // C2
    if (failed(expectAxes(*this, "column '" + name.getValue() + "'",
                          cache.getColumnType(name).getAxes(), axesOf(value)))) {
      return failure();
    }
  }
  return success();
}

/// The one channel axis that differs between two lists; null when lists differ otherwise or not at
/// all.
static AxisAttr changedChannel(ArrayRef<AxisAttr> input, ArrayRef<AxisAttr> output) {
  AxisAttr changed;
  if (input.size() != output.size()) {
    return {};
  }
  for (auto [a, b] : llvm::zip_equal(input, output)) {
    if (a.getName() == b.getName()) {
      continue;
    }
    if (changed || a.getKind() != "channel" || b.getKind() != "channel" || !extentsAgree(a, b)) {
      return {};
    }
    changed = a;
  }
  return changed;
}

LogicalResult RopeOp::verify() {
  Type input = getInput().getType(), output = getOutput().getType();
  auto from = dyn_cast<CacheType>(input), to = dyn_cast<CacheType>(output);
  bool sameKind = static_cast<bool>(from) == static_cast<bool>(to);
  bool turned = sameKind && !from && changedChannel(axesOf(input), axesOf(output));
  if (from && to && from.getRows() == to.getRows() && from.getColumn("k") && to.getColumn("k")) {
    ColumnAttr key = to.getColumn("k");
    SmallVector<ColumnAttr> columns(from.getColumns());
    for (ColumnAttr &column : columns) {
      column = column.getName() == "k"
                   ? ColumnAttr::get(getContext(), "k", key.getAxes(), column.getStorage())
                   : column;
    }
    turned = changedChannel(from.getColumn("k").getAxes(), key.getAxes()) &&
             ArrayRef(columns) == to.getColumns();
  }
  if (!turned) { // C1
    return emitOpError() << "expected a result that differs from the input in the tag of one "
                            "channel axis (of column k for a "
                            "cache), got "
                         << input << " and " << output;
  }
  auto positions = cast<AxisTensorType>(getPositions().getType());
  if (hasFloatElements(positions)) { // C2
    return emitOpError() << "expected integer positions, got " << positions;
  }
  return expectSubset(*this, "positions", axesOf(input), positions.getAxes()); // C2
}

} // namespace mlir::kvcache
