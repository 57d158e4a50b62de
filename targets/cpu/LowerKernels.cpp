// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels (scf, vector, arith, math, memref) to the LLVM dialect. Each `func.func @name(index,
// memrefs..) -> i32` becomes an always-inlined internal body and the C entry `int32_t name(int64_t
// task, void *const *args)`, which passes every pointer of `args` as a memref of unlimited size.
// The order of floating-point operations is kept as written.

#include "targets/cpu/CpuPipeline.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVMPass.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "mlir/Transforms/Passes.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache::cpu;

/// A kernel before lowering: its name and how many memrefs it takes.
struct Entry {
  std::string name;
  int64_t memrefs;
};

static std::string bodyName(StringRef kernel) { return (kernel + ".body").str(); }

/// Renames kernels to their body name; functions without a body are external and stay.
static SmallVector<Entry> takeEntryNames(ModuleOp module) {
  SmallVector<Entry> entries;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.isExternal()) {
      continue;
    }
    entries.push_back({function.getName().str(), function.getNumArguments() - 1});
    function.setName(bodyName(function.getName()));
    function.setPrivate();
  }
  return entries;
}

/// math ops with a vectorized polynomial get it; the others stay for math-to-llvm.
static void approximateMath(ModuleOp module) {
  RewritePatternSet patterns(module.getContext());
  MathPolynomialApproximationOptions options;
  populateMathPolynomialApproximationPatterns(patterns, options);
  (void)applyPatternsGreedily(module, std::move(patterns));
}

static void emitEntry(ModuleOp module, const Entry &entry) {
  MLIRContext *context = module.getContext();
  OpBuilder b(context);
  b.setInsertionPointToEnd(module.getBody());
  Location loc = module.getLoc();
  auto pointer = LLVM::LLVMPointerType::get(context);
  auto type = LLVM::LLVMFunctionType::get(b.getI32Type(), {b.getI64Type(), pointer});
  auto function = LLVM::LLVMFuncOp::create(b, loc, entry.name, type);
  Block *block = function.addEntryBlock(b);
  b.setInsertionPointToStart(block);
  auto constant = [&](int64_t value) -> Value {
    return LLVM::ConstantOp::create(b, loc, b.getI64IntegerAttr(value));
  };
  Value zero = constant(0), one = constant(1),
        unlimited = constant(std::numeric_limits<int64_t>::max());
  SmallVector<Value> operands{block->getArgument(0)};
  for (int64_t i = 0; i < entry.memrefs; ++i) {
    Value slot = LLVM::GEPOp::create(b, loc, pointer, pointer, block->getArgument(1),
                                     ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(i)});
    Value address = LLVM::LoadOp::create(b, loc, pointer, slot);
    operands.append({address, address, zero, unlimited, one});
  }
  auto body = module.lookupSymbol<LLVM::LLVMFuncOp>(bodyName(entry.name));
  body.setLinkage(LLVM::Linkage::Internal);
  body.setAlwaysInline(true);
  auto call = LLVM::CallOp::create(b, loc, body, operands);
  LLVM::ReturnOp::create(b, loc, call.getResult());
}

LogicalResult mlir::kvcache::cpu::lowerKernels(ModuleOp module) {
  SmallVector<Entry> entries = takeEntryNames(module);
  approximateMath(module);
  PassManager passes(module.getContext());
  passes.addPass(createCSEPass());
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createSCFToControlFlowPass());
  ConvertVectorToLLVMPassOptions vectorOptions;
  vectorOptions.reassociateFPReductions = false;
  vectorOptions.force32BitVectorIndices = true;
  passes.addPass(createConvertVectorToLLVMPass(vectorOptions));
  passes.addPass(createConvertMathToLLVMPass());
  passes.addPass(createFinalizeMemRefToLLVMConversionPass());
  passes.addPass(createArithToLLVMConversionPass());
  passes.addPass(createConvertControlFlowToLLVMPass());
  passes.addPass(createConvertFuncToLLVMPass());
  passes.addPass(createReconcileUnrealizedCastsPass());
  if (failed(passes.run(module))) {
    return failure();
  }
  for (const Entry &entry : entries) {
    emitEntry(module, entry);
  }
  return success();
}
