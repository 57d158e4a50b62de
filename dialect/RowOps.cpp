// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the primitives that move rows. Markers C1.. refer to the descriptions in RowOps.td.

#include "dialect/RowOps.h"

#include "dialect/Axes.h"
#include "dialect/KVCacheDialect.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"

#define GET_OP_CLASSES
#include "dialect/RowOps.cpp.inc"

namespace mlir::kvcache {

void registerRowOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/RowOps.cpp.inc"
      >(dialect);
}

LogicalResult TopkOp::verify() {
  auto index = cast<IndexSetType>(getOutput().getType());
  FailureOr<AxisAttr> axis = expectAxis(*this, "input", axesOf(getInput()), getAxis()); // C1
  if (failed(axis)) {
    return failure();
  }
  if (index.getDomain() != getAxis() || !index.isSelection()) { // C2
    return emitOpError() << "expected a selection of '" << getAxis() << "', got " << index;
  }
  AxisAttr instance = index.getAxes().back();
  SmallVector<AxisAttr> expected = without(axesOf(getInput()), {getAxis()});
  if (failed(expectSubset(*this, "count", expected, axesOf(getCount())))) { // C3
    return failure();
  }
  expected.push_back(instance);
  return expectAxes(*this, "result", expected, index.getAxes(), /*ordered=*/false); // C2
}

/// The axes of an index set that the indexed value lacks: they take the place of the domain.
static SmallVector<AxisAttr> newAxes(IndexSetType index, ArrayRef<AxisAttr> indexed) {
  SmallVector<AxisAttr> added;
  for (AxisAttr axis : index.getAxes()) {
    if (!findAxis(indexed, axis.getName())) {
      added.push_back(axis);
    }
  }
  return added;
}

LogicalResult GatherOp::verify() {
  auto index = cast<IndexSetType>(getAt().getType());
  ArrayRef<AxisAttr> input = axesOf(getInput());
  if (failed(expectAxis(*this, "input", input, index.getDomain()))) { // C1
    return failure();
  }
  if (auto cache = dyn_cast<CacheType>(getInput().getType())) {
    if (!index.isSelection()) { // C2
      return emitOpError() << "expected a selection of rows of the cache, got " << index;
    }
    if (failed(
            expectSubset(*this, "index set", cache.getRows(), index.getAxes().drop_back()))) { // C2
      return failure();
    }
    if (getOutput().getType() != cache) { // C3
      return emitOpError() << "expected a result of the cache's type " << cache << ", got "
                           << getOutput().getType();
    }
    return success();
  }
  if (!isa<AxisTensorType>(getOutput().getType())) { // C3
    return emitOpError() << "expected a tensor as result, got " << getOutput().getType();
  }
  SmallVector<AxisAttr> expected = replaced(input, index.getDomain(), newAxes(index, input));
  return expectAxes(*this, "result", expected, axesOf(getOutput())); // C3
}

LogicalResult ScatterOp::verify() {
  auto index = cast<IndexSetType>(getAt().getType());
  ArrayRef<AxisAttr> into = axesOf(getInto());
  if (getFn() != "add" && getFn() != "set") { // C1
    return emitOpError() << "expected add or set, got '" << getFn() << "'";
  }
  if (failed(expectAxis(*this, "destination", into, index.getDomain()))) { // C2
    return failure();
  }
  SmallVector<AxisAttr> expected = replaced(into, index.getDomain(), newAxes(index, into));
  if (failed(expectAxes(*this, "source", expected, axesOf(getInput()), /*ordered=*/false))) { // C3
    return failure();
  }
  if (getOutput().getType() != getInto().getType()) { // C4
    return emitOpError() << "expected a result of the destination's type " << getInto().getType()
                         << ", got " << getOutput().getType();
  }
  return success();
}

LogicalResult SliceOp::verify() {
  if (failed(expectAxis(*this, "input", axesOf(getInput()), getAxis()))) { // C1
    return failure();
  }
  FailureOr<AxisAttr> cut = expectAxis(*this, "result", axesOf(getOutput()), getAxis()); // C2
  if (failed(cut)) {
    return failure();
  }
  SmallVector<AxisAttr> expected = replaced(axesOf(getInput()), getAxis(), *cut);
  return expectAxes(*this, "result", expected, axesOf(getOutput())); // C2
}

LogicalResult RelabelOp::verify() {
  auto input = cast<AxisTensorType>(getInput().getType()),
       output = cast<AxisTensorType>(getOutput().getType());
  bool same = input.getElement() == output.getElement() &&
              input.getAxes().size() == output.getAxes().size() &&
              llvm::all_of(llvm::zip(input.getAxes(), output.getAxes()), [](auto pair) {
                return extentsAgree(std::get<0>(pair), std::get<1>(pair));
              });
  if (!same) { // C1
    return emitOpError() << "expected the same extents and elements under other names, got "
                         << input << " and " << output;
  }
  return success();
}

} // namespace mlir::kvcache
