// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Schedules every program once for each instruction set (the register tiles differ) and packs the objects into one
// executable. Invariant: the schedules of all instruction sets are the same; only code differs.

#include "targets/cpu/CpuTarget.h"

#include "runtime/exec/Kvx.h"
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
LogicalResult schedule(MethodOp method, const ::kvcache::rt::Geometry &geometry, Isa isa, proto::Executable &executable, ModuleOp kernels) {
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

} // namespace

FailureOr<CpuArtifact> compileForCpu(MethodOp method, const ::kvcache::rt::Geometry &geometry, const CpuTargetOptions &options) {
  CpuArtifact artifact;
  artifact.executable = std::make_unique<proto::Executable>();
  describeGeometry(geometry, *artifact.executable->mutable_geometry());
  for (auto [i, isa] : llvm::enumerate(options.isas)) {
    proto::Executable scratch;
    proto::Executable &executable = i == 0 ? *artifact.executable : scratch;
    OwningOpRef<ModuleOp> kernels = ModuleOp::create(method.getLoc());
    if (failed(schedule(method, geometry, isa, executable, *kernels))) {
      return failure();
    }
    if (i == 0) {
      llvm::raw_string_ostream(artifact.kernelIr) << *kernels;
    }
    CpuOptions cpu;
    cpu.isa = isa;
    cpu.wantLlvmIr = options.wantLlvmIr && i == 0;
    cpu.wantAssembly = options.wantAssembly && i == 0;
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
  }
  return artifact;
}

} // namespace mlir::kvcache::cpu
