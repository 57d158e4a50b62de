// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the project family. Markers C1.. refer to the descriptions in ProjectOps.td.

#include "dialect/ProjectOps.h"

#include "dialect/Axes.h"
#include "dialect/KVCacheDialect.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

#define GET_OP_CLASSES
#include "dialect/ProjectOps.cpp.inc"

namespace mlir::kvcache {

void registerProjectOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/ProjectOps.cpp.inc"
      >(dialect);
}

LogicalResult ProjectHadamardOp::verify() {
  FailureOr<AxisAttr> axis = expectAxis(*this, "input", axesOf(getInput()), getAxis()); // C1
  if (failed(axis)) {
    return failure();
  }
  if (std::optional<int64_t> extent = axis->getInteger();
      extent && !llvm::isPowerOf2_64(*extent)) { // C2
    return emitOpError() << "expected an axis with a power of two of values, got '" << axis->str()
                         << "'";
  }
  std::optional<unsigned> place = findAxisIndex(axesOf(getInput()), getAxis());
  ArrayRef<AxisAttr> output = axesOf(getOutput());
  if (output.size() != axesOf(getInput()).size() || output[*place].getKind() != axis->getKind() ||
      output[*place].getTag() == axis->getTag()) { // C3
    return emitOpError() << "result: expected axis '" << axis->getName()
                         << "' replaced by one of another basis, got " << str(output);
  }
  return expectAxes(*this, "result",
                    replaced(axesOf(getInput()), getAxis(), axis->withTag(output[*place].getTag())),
                    output);
}

LogicalResult ProjectLowrankOp::verify() {
  ArrayRef<AxisAttr> input = axesOf(getInput()), basis = axesOf(getBasis());
  AxisAttr channel = findAxisOfKind(basis, "channel"), rank = findAxisOfKind(basis, "rank");
  if (!channel || !rank) { // C1
    return emitOpError() << "basis: expected a channel axis and a rank axis, got " << str(basis);
  }
  if (failed(expectAxis(*this, "input", input, channel.getName()))) { // C2
    return failure();
  }
  if (failed(expectSubset(*this, "basis", input, without(basis, {rank.getName()}))) || // C2
      failed(expectAxes(*this, "mean", without(basis, {rank.getName()}), axesOf(getMean()),
                        /*ordered=*/false))) { // C3
    return failure();
  }
  return expectAxes(*this, "result", replaced(input, channel.getName(), rank),
                    axesOf(getOutput())); // C4
}

} // namespace mlir::kvcache
