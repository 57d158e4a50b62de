// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the quantize family. Markers C1.. refer to the descriptions in QuantizeOps.td.

#include "dialect/QuantizeOps.h"

#include "dialect/Axes.h"
#include "dialect/KVCacheDialect.h"
#include "dialect/MethodOps.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"

#define GET_OP_CLASSES
#include "dialect/QuantizeOps.cpp.inc"

namespace mlir::kvcache {

void registerQuantizeOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/QuantizeOps.cpp.inc"
      >(dialect);
}

LogicalResult QuantizeEncodeOp::verify() {
  auto input = cast<AxisTensorType>(getInput().getType()),
       output = cast<AxisTensorType>(getOutput().getType());
  if (input.isCoded() || !output.isCoded()) { // C1
    return emitOpError() << "expected dense rows and a coded result, got " << input << " and "
                         << output;
  }
  if ((*this)->getParentOfType<PhaseOp>()) { // C3
    return emitOpError("expected in an encoder: rows are coded at a commit, not by a phase");
  }
  return expectAxes(*this, "result", input.getAxes(), output.getAxes()); // C2
}

} // namespace mlir::kvcache
