// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The table of contents of the compiler's target-neutral half.

#include "passes/pipelines/Stages.h"

#include "dialect/MethodOps.h"
#include "passes/decompose/Families.h"
#include "passes/decompose/Programs.h"
#include "passes/fuse/FormKernels.h"
#include "passes/pipelines/Contracts.h"

#include "mlir/IR/Verifier.h"

namespace mlir::kvcache {

static constexpr std::pair<StringLiteral, Stage> stages[] = {{"composed", Stage::Composed},
                                                             {"specialized", Stage::Specialized},
                                                             {"decomposed", Stage::Decomposed},
                                                             {"fused", Stage::Fused}};

StringRef nameOf(Stage stage) { return stages[static_cast<int>(stage)].first; }

std::optional<Stage> stageFromName(StringRef name) {
  for (auto &[known, stage] : stages) {
    if (known == name) {
      return stage;
    }
  }
  return std::nullopt;
}

FailureOr<MethodOp> runStages(ModuleOp module, const ComposeRequest &request,
                              const MethodGeometry &geometry, Stage last) {
  FailureOr<MethodOp> method = composeMethod(module, request);
  if (failed(method) || failed(checkContract(*method, Stage::Composed))) {
    return failure();
  }
  if (last >= Stage::Specialized && (failed(specializeMethod(*method, geometry)) ||
                                     failed(checkContract(*method, Stage::Specialized)))) {
    return failure();
  }
  if (last >= Stage::Decomposed) {
    if (failed(formPrograms(*method))) {
      return failure();
    }
    decomposeFamilies(*method);
    if (failed(checkContract(*method, Stage::Decomposed))) {
      return failure();
    }
  }
  if (last >= Stage::Fused) {
    formKernels(*method);
    if (failed(checkContract(*method, Stage::Fused))) {
      return failure();
    }
  }
  return *method;
}

} // namespace mlir::kvcache
