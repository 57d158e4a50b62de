// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Axes of attention. A sum may only run over axes of the query: over tokens it would be 1.

#include "dialect/AttentionTypes.h"

#include "dialect/Axes.h"
#include "dialect/Granularity.h"
#include "llvm/ADT/STLExtras.h"

namespace mlir::kvcache {

LogicalResult verifyAttentionOperands(Operation *op, Value query, CacheType cache) {
  for (StringRef name : {"k", "v", "pos"}) { // C1
    if (!cache.getColumn(name)) {
      return op->emitOpError() << "expected a cache with columns k, v and pos, got none called '"
                               << name << "'";
    }
  }
  ArrayRef<AxisAttr> axes = axesOf(query);
  for (AxisAttr feature : cache.getColumn("k").getAxes()) { // C2
    FailureOr<AxisAttr> same = expectAxis(op, "query", axes, feature.getName());
    if (failed(same)) {
      return failure();
    }
    if (!extentsAgree(*same, feature)) {
      return op->emitOpError() << "query: expected axis '" << feature.str() << "', got '"
                               << same->str() << "'";
    }
  }
  for (AxisAttr row : cache.getRows().drop_back()) { // C2
    if (failed(expectAxis(op, "query", axes, row.getName()))) {
      return failure();
    }
  }
  return success();
}

SmallVector<AxisAttr> rowAxesOfQuery(AxisTensorType query, CacheType cache) {
  SmallVector<AxisAttr> axes(query.getAxes());
  llvm::erase_if(axes, [&](AxisAttr axis) {
    return axis.getKind() != "head" && findAxis(cache.getColumn("k").getAxes(), axis.getName());
  });
  return axes;
}

SmallVector<AxisAttr> statisticAxes(AxisTensorType query, CacheType cache, StatAttr stat) {
  SmallVector<AxisAttr> axes = rowAxesOfQuery(query, cache);
  if (stat.getKind() == "sum") {
    axes = without(axes, stat.getOver());
    axes.push_back(cache.getRows().back());
  }
  return axes;
}

SmallVector<AxisAttr> attentionOutputAxes(AxisTensorType query, CacheType cache) {
  SmallVector<AxisAttr> axes = rowAxesOfQuery(query, cache);
  for (AxisAttr feature : cache.getColumn("v").getAxes()) {
    if (!findAxis(axes, feature.getName())) {
      axes.push_back(feature);
    }
  }
  return axes;
}

LogicalResult verifyStatistics(Operation *op, Value query, CacheType cache, ArrayAttr stats,
                               ValueRange results) {
  if (stats.size() != results.size()) {
    return op->emitOpError() << "expected one result for each of " << stats.size()
                             << " statistics, got " << results.size();
  }
  auto type = cast<AxisTensorType>(query.getType());
  SmallVector<AxisAttr> summable = rowAxesOfQuery(type, cache);
  for (auto [index, attribute, result] : llvm::enumerate(stats, results)) {
    auto stat = dyn_cast<StatAttr>(attribute);
    if (!stat || (stat.getKind() == "sum") != static_cast<bool>(stat.getOver())) {
      return op->emitOpError() << "statistic " << index
                               << ": expected sum(p, over(..)) or lse, got " << attribute;
    }
    if (stat.getOver()) {
      for (StringAttr name : stat.getOver().getAsRange<StringAttr>()) {
        if (failed(expectAxis(op, "statistic " + Twine(index), summable, name))) {
          return failure();
        }
        // Query heads with rows of their own have no entry in common.
        if (name.getValue() == "group" && findAxis(cache.getRows(), name) &&
            !isRowGroup(findAxis(cache.getRows(), name))) {
          return op->emitOpError() << "statistic " << index
                                   << ": expected no sum over axis 'group', which the cache has "
                                   << "rows for";
        }
      }
    }
    SmallVector<AxisAttr> left = statisticAxes(type, cache, stat);
    keepRowGroup(left, summable, axesOf(result));
    if (failed(expectAxes(op, "statistic " + Twine(index), left, axesOf(result)))) {
      return failure();
    }
  }
  return success();
}

} // namespace mlir::kvcache
