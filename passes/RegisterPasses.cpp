// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Thin shells: each pass calls the function of the same subject and turns its failure into the
// pass's.

#include "passes/RegisterPasses.h"

#include "dialect/KVCacheDialect.h"
#include "dialect/LinearUse.h"
#include "dialect/MethodOps.h"
#include "passes/analysis/Labels.h"
#include "passes/compose/Compose.h"
#include "passes/decompose/Families.h"
#include "passes/decompose/Programs.h"
#include "passes/fuse/FormKernels.h"
#include "passes/plan/ShareBuffers.h"
#include "passes/specialize/Specialize.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Pass/Pass.h"

#include "llvm/ADT/StringExtras.h"

namespace mlir::kvcache {

#define GEN_PASS_DEF_COMPOSEPASS
#define GEN_PASS_DEF_SPECIALIZEPASS
#define GEN_PASS_DEF_FORMPROGRAMSPASS
#define GEN_PASS_DEF_DECOMPOSEFAMILIESPASS
#define GEN_PASS_DEF_FORMKERNELSPASS
#define GEN_PASS_DEF_SHAREBUFFERSPASS
#define GEN_PASS_DEF_CHECKLINEARUSEPASS
#define GEN_PASS_DEF_LABELSPASS
#define GEN_PASS_REGISTRATION
#define GEN_PASS_DECL
#include "passes/Passes.h.inc"

namespace {

struct ComposePass : impl::ComposePassBase<ComposePass> {
  using ComposePassBase::ComposePassBase;
  void runOnOperation() override {
    ComposeRequest request{{parts.begin(), parts.end()}, {bases.begin(), bases.end()}, {}};
    for (const std::string &override : overrides) {
      auto [name, value] = StringRef(override).split('=');
      request.overrides[name] = value.str();
    }
    if (request.parts.empty()) {
      getOperation().emitError() << "kvcache-compose: expected at least one method in 'parts'";
      return signalPassFailure();
    }
    if (failed(composeMethod(getOperation(), request))) {
      signalPassFailure();
    }
  }
};

struct SpecializePass : impl::SpecializePassBase<SpecializePass> {
  using SpecializePassBase::SpecializePassBase;
  void runOnOperation() override {
    if (failed(specializeMethod(getOperation(), {layers, queryHeads, kvHeads, headDim, act}))) {
      signalPassFailure();
    }
  }
};

struct FormProgramsPass : impl::FormProgramsPassBase<FormProgramsPass> {
  void runOnOperation() override {
    if (failed(formPrograms(getOperation()))) {
      signalPassFailure();
    }
  }
};

struct DecomposeFamiliesPass : impl::DecomposeFamiliesPassBase<DecomposeFamiliesPass> {
  void runOnOperation() override { decomposeFamilies(getOperation()); }
};

struct FormKernelsPass : impl::FormKernelsPassBase<FormKernelsPass> {
  void runOnOperation() override { formKernels(getOperation()); }
};

struct ShareBuffersPass : impl::ShareBuffersPassBase<ShareBuffersPass> {
  void runOnOperation() override { shareBuffers(getOperation()); }
};

struct CheckLinearUsePass : impl::CheckLinearUsePassBase<CheckLinearUsePass> {
  void runOnOperation() override {
    if (failed(verifyLinearUse(getOperation()))) {
      signalPassFailure();
    }
  }
};

struct LabelsPass : impl::LabelsPassBase<LabelsPass> {
  void runOnOperation() override {
    getOperation().emitRemark() << "labels of '" << getOperation().getSymName()
                                << "': " << llvm::join(legalityLabels(getOperation()), " ");
  }
};

} // namespace

void registerKvasirPasses() { registerKVCachePasses(); }

} // namespace mlir::kvcache
