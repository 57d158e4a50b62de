// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One function per contract. A broken contract is a fault of a pass, or of a method that no pass
// can take further; the diagnostic stands at the op in either case.

#include "passes/pipelines/Contracts.h"

#include "dialect/Binding.h"
#include "dialect/KernelOps.h"
#include "dialect/LinearUse.h"
#include "dialect/MethodOps.h"
#include "passes/decompose/Families.h"
#include "passes/fuse/FormKernels.h"

#include "mlir/IR/Verifier.h"

namespace mlir::kvcache {

namespace {

/// One kind a phase, no conditions, a filled slot for each event that every model has.
LogicalResult checkComposed(MethodOp method) {
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    if (phase.getKinds().size() != 1 || phase.getCondition()) {
      return phase.emitOpError("composed: expects one kind and no 'when'");
    }
  }
  for (StringRef kind : {"prefill", "decode", "query"}) {
    if (llvm::none_of(method.getBody().front().getOps<PhaseOp>(),
                      [&](PhaseOp phase) { return phase.hasKind(kind); })) {
      return method.emitOpError() << "composed: expects a '" << kind << "' phase";
    }
  }
  return success();
}

/// Windows of queries have a length by now.
LogicalResult checkWindows(MethodOp method) {
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
      bool window = binding.getRole() == "last_queries" || binding.getRole() == "draft_queries";
      if (window && !isa<IntegerAttr>(binding.getArgument())) {
        return phase.emitOpError() << "expected a number or an integer parameter in '"
                                   << binding.str() << "'";
      }
    }
  }
  return success();
}

LogicalResult checkSpecialized(MethodOp method) {
  if (failed(checkWindows(method))) {
    return failure();
  }
  WalkResult result = method.walk([&](Operation *op) -> WalkResult {
    SmallVector<Type> types(op->getResultTypes());
    for (Region &region : op->getRegions()) {
      for (Block &block : region) {
        types.append(block.getArgumentTypes().begin(), block.getArgumentTypes().end());
      }
    }
    for (Type type : types) {
      SmallVector<std::string> free = freeSymbols(type);
      if (!free.empty()) {
        return op->emitOpError() << "specialized: symbol '" << free.front() << "' has no value";
      }
    }
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

LogicalResult checkDecomposed(MethodOp method) {
  WalkResult result = method.walk([&](Operation *op) -> WalkResult {
    if (isDecomposed(op)) {
      return op->emitOpError("decomposed: expects primitives only");
    }
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

LogicalResult checkFused(MethodOp method) {
  WalkResult result = method.walk([&](Operation *op) -> WalkResult {
    if (belongsInKernel(op) && !op->getParentOfType<KernelOp>()) {
      return op->emitOpError("fused: expects every tensor computation in a kernel");
    }
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

} // namespace

LogicalResult checkContract(MethodOp method, Stage stage) {
  if (failed(verify(method)) || failed(verifyLinearUse(method))) {
    return failure();
  }
  switch (stage) {
  case Stage::Composed:
    return checkComposed(method);
  case Stage::Specialized:
    return checkSpecialized(method);
  case Stage::Decomposed:
    return checkDecomposed(method);
  case Stage::Fused:
    return checkFused(method);
  }
  return success();
}

} // namespace mlir::kvcache
