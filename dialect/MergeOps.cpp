// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the merge family. Markers C1.. refer to the descriptions in MergeOps.td.

#include "dialect/MergeOps.h"

#include "dialect/Axes.h"
#include "dialect/KVCacheDialect.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"

#define GET_OP_CLASSES
#include "dialect/MergeOps.cpp.inc"

namespace mlir::kvcache {

void registerMergeOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/MergeOps.cpp.inc"
      >(dialect);
}

LogicalResult MergeIntoOp::verify() {
  auto index = cast<IndexSetType>(getAt().getType());
  ArrayRef<AxisAttr> destination = axesOf(getDestination());
  if (failed(expectAxis(*this, "destination", destination, index.getDomain()))) { // C1
    return failure();
  }
  SmallVector<AxisAttr> moved;
  for (AxisAttr axis : index.getAxes()) {
    if (!findAxis(destination, axis.getName())) {
      moved.push_back(axis);
    }
  }
  SmallVector<AxisAttr> expected = replaced(destination, index.getDomain(), moved);
  if (failed(expectAxes(*this, "source", expected, axesOf(getSource())))) { // C2
    return failure();
  }
  if (failed(expectAxes(*this, "weight", index.getAxes(), axesOf(getWeight())))) { // C3
    return failure();
  }
  if (getOutput().getType() != getDestination().getType()) { // C4
    return emitOpError() << "expected a result of the destination's type "
                         << getDestination().getType() << ", got " << getOutput().getType();
  }
  for (Value rows : {getSource(), getDestination()}) { // C5
    auto type = cast<AxisTensorType>(rows.getType());
    if (type.isCoded()) {
      return emitOpError() << "expected exact rows, got codes in " << type
                           << ": codes have no mean; merge before they are coded";
    }
  }
  return success();
}

} // namespace mlir::kvcache
