// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What verifiers ask about `group:Gs`.

#include "dialect/Granularity.h"

#include "dialect/Axes.h"

namespace mlir::kvcache {

bool isRowGroup(AxisAttr axis) {
  return axis.getKind() == "group" && axis.getSymbol() == rowGroupSymbol;
}

void keepRowGroup(SmallVectorImpl<AxisAttr> &left, ArrayRef<AxisAttr> input,
                  ArrayRef<AxisAttr> output) {
  size_t place = 0;
  for (AxisAttr axis : input) {
    AxisAttr found = findAxis(output, axis.getName());
    if (findAxis(left, axis.getName())) {
      ++place;
    } else if (found && isRowGroup(found)) {
      left.insert(left.begin() + place++, found);
    }
  }
}

} // namespace mlir::kvcache
