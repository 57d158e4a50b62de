// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The CPU target: schedules every program once for each instruction set (the register tiles differ)
// and packs the objects into one executable. Invariant: the schedules of all instruction sets are
// the same; only code differs.

#include "dialect/ScheduleOps.h"
#include "passes/plan/ShareBuffers.h"
#include "runtime/exec/Executor.h"
#include "runtime/exec/HostCpu.h"
#include "runtime/exec/Kvx.h"
#include "targets/ExecutableTranslation.h"
#include "targets/Target.h"
#include "targets/cpu/CpuPipeline.h"
#include "passes/compose/Scopes.h"
#include "targets/cpu/Scheduler.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/Verifier.h"

#include "llvm/Support/raw_ostream.h"

namespace mlir::kvcache::cpu {

namespace proto = ::kvcache::proto;

namespace {

/// An executable without programs.
ExecutableOp createExecutable(const ::kvcache::rt::Geometry &g, ModuleOp module) {
  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  std::string_view act = ::kvcache::abi::nameOf(g.act);
  auto executable = ExecutableOp::create(
      b, module.getLoc(), b.getStringAttr("cpu"), b.getI64IntegerAttr(g.layers),
      b.getI64IntegerAttr(g.queryHeads), b.getI64IntegerAttr(g.kvHeads),
      b.getI64IntegerAttr(g.headDim), b.getStringAttr(StringRef(act.data(), act.size())),
      g.slidingWindow == 0 ? IntegerAttr() : b.getI64IntegerAttr(g.slidingWindow),
      g.ropeInvFreq.empty() ? DenseF32ArrayAttr() : b.getDenseF32ArrayAttr(g.ropeInvFreq),
      UnitAttr(), StringAttr(), IntegerAttr(), UnitAttr(), IntegerAttr());
  executable.getBody().emplaceBlock();
  return executable;
}

std::string printed(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream(text) << module;
  return text;
}

/// Plans programs and emits kernels for one instruction set: `planned` gets the executable and an
/// outline for each kernel, `kernels` a function.
FailureOr<ExecutableOp> plan(MethodOp method, const ::kvcache::rt::Geometry &geometry, Isa isa,
                             bool integerProducts, ModuleOp planned, ModuleOp kernels) {
  ExecutableOp executable = createExecutable(geometry, planned);
  // The scheduler reorders the axes of kernel arguments in place.
  OpBuilder builder(method);
  auto clone = cast<MethodOp>(builder.clone(*method));
  ScheduleContext context{clone, geometry, executable, kernels};
  context.wideRegisters = isa == Isa::V4;
  context.integerProducts = integerProducts;
  LogicalResult done = declareStates(context);
  if (int64_t steps = draftSteps(clone)) {
    executable.setDraftSteps(steps);
  }
  for (auto program : clone.getBody().front().getOps<PhaseOp>()) {
    if (succeeded(done)) {
      done = scheduleProgram(context, program);
    }
  }
  if (succeeded(done)) {
    done = scheduleReads(context);
  }
  clone.erase();
  if (failed(done) || failed(verify(planned))) {
    return failure();
  }
  return executable;
}

class CpuTarget final : public Target {
public:
  StringRef name() const override { return "cpu"; }
  Stage stage() const override { return Stage::Fused; }
  bool makesExecutables() const override { return true; }
  void registerDialects(DialectRegistry &registry) const override {
    registerKernelDialects(registry);
  }
  std::vector<std::string> hostIsas() const override {
    std::vector<std::string> isas;
    for (auto &[name, isa] : isaNames) {
      if (::kvcache::rt::checkRunnable(::kvcache::rt::HostCpu::detect(), nameOf(isa).str(),
                                       featuresOf(isa))
              .isOk()) {
        isas.insert(isas.begin(), name.str());
      }
    }
    return isas;
  }

  FailureOr<Artifact> compile(MethodOp method, const ::kvcache::rt::Geometry &geometry,
                              const TargetOptions &options) const override {
    SmallVector<Isa> isas;
    for (auto &[name, isa] : isaNames) {
      if (options.isas.empty() || llvm::is_contained(options.isas, name)) {
        isas.push_back(isa);
      }
    }
    for (const std::string &wanted : options.isas) {
      if (llvm::none_of(isaNames, [&](auto &known) { return known.first == wanted; })) {
        return method.emitError() << "unknown instruction set '" << wanted
                                  << "', expected v3 or v4";
      }
    }
    Artifact artifact;
    artifact.executable = std::make_shared<proto::Executable>();
    for (auto [i, isa] : llvm::enumerate(isas)) {
      if (failed(compileFor(isa, i == 0, method, geometry, options, artifact))) {
        return failure();
      }
    }
    return artifact;
  }

  FailureOr<std::unique_ptr<::kvcache::rt::Execution>>
  load(MethodOp method, const ::kvcache::rt::Geometry &,
       std::shared_ptr<const proto::Executable> executable,
       const TargetOptions &options) const override {
    ::kvcache::rt::CompiledOptions compiled;
    compiled.captureScores = options.captureScores;
    auto execution = ::kvcache::rt::CompiledExecution::create(std::move(executable), compiled);
    if (!execution.isOk()) {
      return method.emitError() << execution.status().message();
    }
    return std::unique_ptr<::kvcache::rt::Execution>(std::move(*execution));
  }

private:
  /// In the order objects are packed; the last is the widest.
  static constexpr std::pair<StringLiteral, Isa> isaNames[] = {{"v3", Isa::V3}, {"v4", Isa::V4}};

  /// From `planned` to `scheduled`, and the message that says so: that of the artifact, which is
  /// the same for every instruction set.
  static LogicalResult schedule(ExecutableOp executable, bool first, ModuleOp planned,
                                ModuleOp kernels, const TargetOptions &options,
                                Artifact &artifact) {
    if (first && options.wantStage == "kernels") {
      artifact.stageIr = printed(kernels);
    } else if (first && options.wantStage == "planned") {
      artifact.stageIr = printed(planned);
    }
    shareBuffers(executable);
    executable->moveBefore(kernels.getBody(), kernels.getBody()->begin());
    proto::Executable exported;
    if (failed(verify(kernels)) || failed(exportExecutable(executable, exported))) {
      return failure();
    }
    if (first && options.wantStage == "scheduled") {
      artifact.stageIr = printed(kernels);
    }
    executable.erase();
    if (first) {
      *artifact.executable = std::move(exported);
      return success();
    }
    exported.mutable_code()->CopyFrom(artifact.executable->code());
    return exported.SerializeAsString() == artifact.executable->SerializeAsString()
               ? success()
               : kernels.emitError("the schedules of two instruction sets differ");
  }

  /// Adds the object of one instruction set; the first one also writes the schedule, which the
  /// others must agree with.
  LogicalResult compileFor(Isa isa, bool first, MethodOp method,
                           const ::kvcache::rt::Geometry &geometry, const TargetOptions &options,
                           Artifact &artifact) const {
    OwningOpRef<ModuleOp> planned = ModuleOp::create(method.getLoc());
    OwningOpRef<ModuleOp> kernels = ModuleOp::create(method.getLoc());
    FailureOr<ExecutableOp> executable = plan(method, geometry, isa, options.integerProducts, *planned, *kernels);
    if (failed(executable)) {
      return failure();
    }
    if (failed(schedule(*executable, first, *planned, *kernels, options, artifact))) {
      return failure();
    }
    CpuOptions cpu;
    cpu.isa = isa;
    cpu.wantLlvmIr = options.wantLlvmIr && first;
    cpu.wantAssembly = options.wantAssembly && first;
    FailureOr<CpuCode> code = compileKernels(*kernels, cpu);
    if (failed(code)) {
      return failure();
    }
    proto::NativeCode *native = artifact.executable->add_code();
    native->set_isa(nameOf(isa).str());
    for (const std::string &feature : code->features) {
      native->add_features(feature);
    }
    ::kvcache::rt::Status packed = ::kvcache::rt::packObject(code->object, *native);
    if (!packed.isOk()) {
      return method.emitError() << packed.message();
    }
    artifact.objects.push_back(std::move(code->object));
    artifact.llvmIr += code->llvmIr;
    artifact.assembly += code->assembly;
    return success();
  }
};

} // namespace

} // namespace mlir::kvcache::cpu

namespace mlir::kvcache {

const Target &cpuTarget() {
  static const cpu::CpuTarget target;
  return target;
}

} // namespace mlir::kvcache
