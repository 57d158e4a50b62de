// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the score family. Markers C1.. refer to the descriptions in ScoreOps.td.

#include "dialect/ScoreOps.h"

#include "dialect/AttentionTypes.h"
#include "dialect/Axes.h"
#include "dialect/KVCacheDialect.h"
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
