// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the ops on caches. Markers C1.. refer to the descriptions in CacheOps.td.

#include "dialect/CacheOps.h"

#include "dialect/AttentionTypes.h"
#include "dialect/Axes.h"
#include "dialect/KVCacheDialect.h"
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

LogicalResult AttendOp::verify() {
  auto cache = cast<CacheType>(getCache().getType());
  auto query = cast<AxisTensorType>(getQuery().getType());
  if (failed(verifyAttentionOperands(*this, getQuery(), cache)) || // C1, C2
      failed(expectAxes(*this, "output", attentionOutputAxes(query, cache),
                        axesOf(getOutput())))) { // C3
    return failure();
  }
  ArrayAttr stats = getStatsAttr() ? getStatsAttr() : ArrayAttr::get(getContext(), {});
  return verifyStatistics(*this, getQuery(), cache, stats, getStatistics()); // C4
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
