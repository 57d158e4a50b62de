// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a target is to the rest of the compiler: a name, the stage it takes methods at, and how it
// turns one into something that runs.

#pragma once

#include "dialect/MethodOps.h"
#include "passes/pipelines/Stages.h"
#include "runtime/Execution.h"
#include "runtime/abi/executable.pb.h"

#include <memory>
#include <string>
#include <vector>

namespace mlir::kvcache {

struct TargetOptions {
  std::vector<std::string>
      isas;                ///< instruction sets by the target's names for them; empty: all it makes
  std::string wantStage;   ///< fill Artifact::stageIr: "planned", "scheduled", "kernels" or none
  bool wantLlvmIr = false; ///< fill Artifact::llvmIr, of the first instruction set
  bool wantAssembly = false;    ///< fill Artifact::assembly
  bool captureScores = false;   ///< `load`: keep what selections ranked
  bool integerProducts = false; ///< attention multiplies codes in integers where it can
};

/// What a target makes of a method.
struct Artifact {
  std::shared_ptr<::kvcache::proto::Executable> executable;
  std::vector<std::string> objects; ///< machine code, one object for each instruction set
  std::string stageIr;              ///< the stage asked for: programs, or kernels not yet lowered
  std::string llvmIr, assembly;
};

class Target {
public:
  virtual ~Target() = default;
  /// What --target calls it, and what executables and reports record.
  virtual StringRef name() const = 0;
  /// The stage of the methods it takes.
  virtual Stage stage() const = 0;
  /// An executable for a method of that stage. Emits a diagnostic at the op it cannot compile, or
  /// one that says that the target makes no executables.
  virtual FailureOr<Artifact> compile(MethodOp method, const ::kvcache::rt::Geometry &geometry,
                                      const TargetOptions &options) const = 0;
  /// The method, ready to run on this machine. `executable` is what `compile` made, described by
  /// the caller (names, parameters); targets that interpret ignore it.
  virtual FailureOr<std::unique_ptr<::kvcache::rt::Execution>>
  load(MethodOp method, const ::kvcache::rt::Geometry &geometry,
       std::shared_ptr<const ::kvcache::proto::Executable> executable,
       const TargetOptions &options) const = 0;
  /// Whether `compile` makes executables.
  virtual bool makesExecutables() const = 0;
  /// Prepares a context: the dialects that the target creates ops of.
  virtual void registerDialects(DialectRegistry &registry) const = 0;
  /// The instruction sets that run on this machine, best first; empty when it does not matter.
  virtual std::vector<std::string> hostIsas() const = 0;
};

/// One function per target folder; the registry lists them.
const Target &referenceTarget();
const Target &cpuTarget();

} // namespace mlir::kvcache
