// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// LLVM dialect to a shared object: translation, target attributes, the O3 pipeline, code
// generation, linking.

#include "targets/cpu/CpuPipeline.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"

#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/IPO/MergeFunctions.h"
#include "llvm/Transforms/Utils/Cloning.h"

#include <algorithm>

using namespace mlir;
using namespace mlir::kvcache::cpu;

StringRef mlir::kvcache::cpu::nameOf(Isa isa) { return isa == Isa::V3 ? "x86-64-v3" : "x86-64-v4"; }

std::vector<std::string> mlir::kvcache::cpu::featuresOf(Isa isa) {
  std::vector<std::string> features{"avx2", "bmi1", "bmi2", "f16c", "fma", "popcnt"};
  if (isa == Isa::V4) {
    features.insert(features.end(), {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"});
  }
  return features;
}

ArrayRef<StringRef> mlir::kvcache::cpu::allowedUndefined() {
  static const StringRef symbols[] = {"memcpy", "memmove", "memset", "kvcache_symmetric_eigen",
                                      "acosf",  "asinf",   "atanf",  "atan2f",
                                      "cbrtf",  "ceilf",   "cosf",   "coshf",
                                      "erff",   "erfcf",   "expf",   "exp2f",
                                      "expm1f", "floorf",  "fmodf",  "logf",
                                      "log10f", "log1pf",  "log2f",  "powf",
                                      "sinf",   "sinhf",   "tanf",   "tanhf",
                                      "acos",   "asin",    "atan",   "atan2",
                                      "cbrt",   "ceil",    "cos",    "sincos",
                                      "cosh",   "erf",     "erfc",   "exp",
                                      "exp2",   "expm1",   "floor",  "fmod",
                                      "log",    "log10",   "log1p",  "log2",
                                      "pow",    "sin",     "sinh",   "tan",
                                      "tanh"};
  return symbols;
}

void mlir::kvcache::cpu::registerKernelDialects(DialectRegistry &registry) {
  registry
      .insert<arith::ArithDialect, cf::ControlFlowDialect, func::FuncDialect, LLVM::LLVMDialect,
              math::MathDialect, memref::MemRefDialect, scf::SCFDialect, vector::VectorDialect>();
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
}

static std::unique_ptr<llvm::TargetMachine> createMachine(Isa isa, std::string &error) {
  static const bool initialized = [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    return true;
  }();
  (void)initialized;
  llvm::Triple triple("x86_64-unknown-linux-gnu");
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target) {
    return nullptr;
  }
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard; // only what asks for it
  options.NoTrappingFPMath = true;
  return std::unique_ptr<llvm::TargetMachine>(
      target->createTargetMachine(triple, nameOf(isa), "", options, llvm::Reloc::PIC_,
                                  llvm::CodeModel::Small, llvm::CodeGenOptLevel::Aggressive));
}

/// Features beyond those of the instruction set, for the intrinsics that kernels call.
static std::vector<std::string> featuresCalled(const llvm::Module &module) {
  for (const llvm::Function &function : module) {
    if (function.getName().starts_with("llvm.x86.avx512.vpdpbusd.")) {
      return {"avx512_vnni"};
    }
  }
  return {};
}

/// Every function is made for `isa` and uses whole registers.
static void setTargetAttributes(llvm::Module &module, Isa isa) {
  bool vnni = !featuresCalled(module).empty();
  for (llvm::Function &function : module) {
    function.setDoesNotThrow();
    if (function.isDeclaration()) {
      continue;
    }
    StringRef width = isa == Isa::V4 ? "512" : "256";
    function.addFnAttr("target-cpu", nameOf(isa));
    if (vnni) {
      function.addFnAttr("target-features", "+avx512vnni");
    }
    function.addFnAttr("prefer-vector-width", width);
    function.addFnAttr("min-legal-vector-width", width);
    function.addFnAttr("no-trapping-math", "true");
  }
}

static void optimize(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager sccs;
  llvm::ModuleAnalysisManager modules;
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = false; // kernels say what is a vector; scalar loops are short
  tuning.SLPVectorization = false;
  llvm::PassBuilder builder(&machine, tuning);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(sccs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, sccs, modules);
  llvm::ModulePassManager passes;
  // Programs have kernels in common, such as appending rows: each is optimized and emitted once.
  passes.addPass(llvm::MergeFunctionsPass());
  passes.addPass(builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O3));
  passes.run(module, modules);
}

static bool generate(llvm::Module &module, llvm::TargetMachine &machine, llvm::CodeGenFileType kind,
                     std::string &out) {
  SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager passes;
  if (machine.addPassesToEmitFile(passes, stream, nullptr, kind)) {
    return false;
  }
  passes.run(module);
  out.assign(bytes.begin(), bytes.end());
  return true;
}

static llvm::Expected<std::vector<std::string>> undefinedSymbols(StringRef object) {
  auto file =
      llvm::object::ObjectFile::createELFObjectFile(llvm::MemoryBufferRef(object, "kernels"));
  if (!file) {
    return file.takeError();
  }
  std::vector<std::string> names;
  for (const llvm::object::SymbolRef &symbol : (*file)->symbols()) {
    auto flags = symbol.getFlags();
    auto name = symbol.getName();
    if (!flags || !name) {
      return llvm::joinErrors(flags.takeError(), name.takeError());
    }
    if ((*flags & llvm::object::SymbolRef::SF_Undefined) && !name->empty()) {
      names.push_back(name->str());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Object code, its symbols and the link.
static LogicalResult produceObject(ModuleOp module, llvm::Module &llvmModule,
                                   llvm::TargetMachine &machine, CpuCode &code) {
  std::string relocatable;
  if (!generate(llvmModule, machine, llvm::CodeGenFileType::ObjectFile, relocatable)) {
    return module.emitError("cannot generate code for this target");
  }
  auto undefined = undefinedSymbols(relocatable);
  if (!undefined) {
    return module.emitError("cannot read the generated object: ")
           << llvm::toString(undefined.takeError());
  }
  code.undefined = std::move(*undefined);
  for (const std::string &name : code.undefined) {
    if (!llvm::is_contained(allowedUndefined(), name)) {
      return module.emitError("kernels need the symbol '")
             << name << "', which loaders do not provide";
    }
  }
  auto linked = linkSharedObject(relocatable);
  if (!linked) {
    return module.emitError(llvm::toString(linked.takeError()));
  }
  code.object = std::move(*linked);
  return success();
}

FailureOr<CpuCode> mlir::kvcache::cpu::compileKernels(ModuleOp module, const CpuOptions &options) {
  if (failed(lowerKernels(module))) {
    return failure();
  }
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> llvmModule = translateModuleToLLVMIR(module, context, "kernels");
  if (!llvmModule) {
    return failure();
  }
  std::string error;
  std::unique_ptr<llvm::TargetMachine> machine = createMachine(options.isa, error);
  if (!machine) {
    return module.emitError("no code generator for ") << nameOf(options.isa) << ": " << error;
  }
  llvmModule->setTargetTriple(machine->getTargetTriple());
  llvmModule->setDataLayout(machine->createDataLayout());
  setTargetAttributes(*llvmModule, options.isa);
  optimize(*llvmModule, *machine);
  CpuCode code;
  code.features = featuresOf(options.isa);
  llvm::append_range(code.features, featuresCalled(*llvmModule));
  if (options.wantLlvmIr) {
    llvm::raw_string_ostream stream(code.llvmIr);
    llvmModule->print(stream, nullptr);
  }
  if (options.wantAssembly) {
    std::unique_ptr<llvm::Module> copy = llvm::CloneModule(*llvmModule);
    if (!generate(*copy, *machine, llvm::CodeGenFileType::AssemblyFile, code.assembly)) {
      return module.emitError("cannot print assembly for ") << nameOf(options.isa);
    }
  }
  if (options.wantObject && failed(produceObject(module, *llvmModule, *machine, code))) {
    return failure();
  }
  return code;
}
