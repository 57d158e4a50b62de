// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The CPU target: a fused method to an executable.

#pragma once

#include "dialect/MethodOps.h"
#include "runtime/Execution.h"
#include "runtime/abi/executable.pb.h"
#include "targets/cpu/CpuPipeline.h"

#include <memory>
#include <string>
#include <vector>

namespace mlir::kvcache::cpu {

struct CpuTargetOptions {
  std::vector<Isa> isas{Isa::V3, Isa::V4}; ///< one object each
  bool wantLlvmIr = false, wantAssembly = false; ///< texts of the first instruction set
};

struct CpuArtifact {
  std::unique_ptr<::kvcache::proto::Executable> executable;
  std::vector<std::string> objects; ///< shared objects, in the order of the instruction sets
  std::string kernelIr;             ///< the kernels before they are lowered
  std::string llvmIr, assembly;
};

/// Compiles a method of the `fused` stage (a clone is scheduled; `method` stays as it is). Emits a diagnostic at the op
/// that cannot be compiled.
FailureOr<CpuArtifact> compileForCpu(MethodOp method, const ::kvcache::rt::Geometry &geometry, const CpuTargetOptions &options);

} // namespace mlir::kvcache::cpu
