// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The CPU target: schedules every program once for each instruction set (the register tiles differ)
// and packs the objects into one executable. Invariant: the schedules of all instruction sets are
// the same; only code differs.

#include "runtime/exec/Executor.h"
#include "runtime/exec/HostCpu.h"
#include "runtime/exec/Kvx.h"
#include "targets/Target.h"
#include "targets/cpu/CpuPipeline.h"
#include "targets/cpu/Scheduler.h"

#include "mlir/IR/Builders.h"

#include "llvm/Support/raw_ostream.h"

namespace mlir::kvcache::cpu {

namespace proto = ::kvcache::proto;

namespace {

void describeGeometry(const ::kvcache::rt::Geometry &geometry, proto::Geometry &to) {
  to.set_layers(geometry.layers);
  to.set_query_heads(geometry.queryHeads);
  to.set_kv_heads(geometry.kvHeads);
  to.set_head_dim(geometry.headDim);
  to.set_act(static_cast<uint32_t>(geometry.act));
  to.set_sliding_window(geometry.slidingWindow);
  for (float frequency : geometry.ropeInvFreq) {
    to.add_rope_inv_freq(frequency);
  }
}

/// Programs and kernels of one instruction set.
LogicalResult schedule(MethodOp method, const ::kvcache::rt::Geometry &geometry, Isa isa,
                       proto::Executable &executable, ModuleOp kernels) {
  // The scheduler reorders the axes of kernel arguments in place.
  OpBuilder builder(method);
  auto clone = cast<MethodOp>(builder.clone(*method));
  ScheduleContext context{clone, geometry, executable, kernels, {}, {}, isa == Isa::V4};
  LogicalResult done = declareStates(context);
  for (auto program : clone.getBody().front().getOps<PhaseOp>()) {
    if (succeeded(done)) {
      done = scheduleProgram(context, program);
    }
  }
  if (succeeded(done)) {
    done = scheduleReads(context);
  }
  clone.erase();
  return done;
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
    describeGeometry(geometry, *artifact.executable->mutable_geometry());
    artifact.executable->set_target(name().str());
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

  /// Adds the object of one instruction set; the first one also writes the schedule.
  LogicalResult compileFor(Isa isa, bool first, MethodOp method,
                           const ::kvcache::rt::Geometry &geometry, const TargetOptions &options,
                           Artifact &artifact) const {
    proto::Executable scratch;
    proto::Executable &executable = first ? *artifact.executable : scratch;
    OwningOpRef<ModuleOp> kernels = ModuleOp::create(method.getLoc());
    if (failed(schedule(method, geometry, isa, executable, *kernels))) {
      return failure();
    }
    if (first) {
      llvm::raw_string_ostream(artifact.kernelIr) << *kernels;
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
    for (const std::string &feature : featuresOf(isa)) {
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
