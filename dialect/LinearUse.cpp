// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The linear-use check. It looks at the order of ops in their blocks only; no data flow is guessed.

#include "dialect/LinearUse.h"

#include "dialect/CacheOps.h"
#include "dialect/MethodOps.h"
#include "dialect/RowOps.h"

namespace mlir::kvcache {

bool updatesCache(OpOperand &use) {
  Operation *user = use.getOwner();
  if (isa<AppendOp, SetColumnOp>(user)) {
    return use.getOperandNumber() == 0;
  }
  return isa<GatherOp, NextOp>(user) && isa<CacheType>(use.get().getType());
}

/// All uses of a version, those of its views included.
static void collectUses(Value version, SmallVectorImpl<OpOperand *> &uses) {
  for (OpOperand &use : version.getUses()) {
    uses.push_back(&use);
    if (isa<RopeOp, ColumnOp>(use.getOwner())) {
      collectUses(use.getOwner()->getResult(0), uses);
    }
  }
}

/// True when `a` may run after `b`: later in a common block, or nested in what is later.
static bool mayFollow(Operation *a, Operation *b) {
  for (Region *region = b->getParentRegion(); region; region = region->getParentRegion()) {
    Operation *outerA = region->findAncestorOpInRegion(*a);
    if (!outerA) {
      continue;
    }
    Operation *outerB = region->findAncestorOpInRegion(*b);
    // One op around both: they lie in different regions of it, of which one runs.
    return outerA != outerB && outerA->getBlock() == outerB->getBlock() &&
           outerB->isBeforeInBlock(outerA);
  }
  return false;
}

static LogicalResult verifyVersion(Value version) {
  SmallVector<OpOperand *> uses;
  collectUses(version, uses);
  for (OpOperand *update : uses) {
    if (!updatesCache(*update)) {
      continue;
    }
    for (OpOperand *use : uses) {
      Operation *later = use->getOwner();
      if (use == update || !(later == update->getOwner() ? updatesCache(*use)
                                                         : mayFollow(later, update->getOwner()))) {
        continue;
      }
      InFlightDiagnostic error = later->emitOpError()
                                 << (updatesCache(*use) ? "updates" : "reads")
                                 << " a version of the cache that was updated before; "
                                 << "use the new version, or read first";
      error.attachNote(update->getOwner()->getLoc()) << "updated here";
      return error;
    }
  }
  return success();
}

LogicalResult verifyLinearUse(Operation *root) {
  WalkResult result = root->walk([&](Operation *op) {
    SmallVector<Value> versions(op->getResults());
    for (Region &region : op->getRegions()) {
      for (Block &block : region) {
        versions.append(block.getArguments().begin(), block.getArguments().end());
      }
    }
    for (Value version : versions) {
      // A view's uses are checked with the version it looks at.
      bool view = version.getDefiningOp<RopeOp>() != nullptr;
      if (isa<CacheType>(version.getType()) && !view && failed(verifyVersion(version))) {
        return WalkResult::interrupt();
      }
    }
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

} // namespace mlir::kvcache
