// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a module of kernels (KernelBuilder.h) to an ELF shared object, in memory and in process. The
// object exports one C function of each kernel's name (kvcache_kernel_fn) and needs nothing but the
// symbols of `allowedUndefined`.

#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LLVM.h"

#include <string>
#include <vector>

namespace mlir::kvcache::cpu {

/// Instruction sets that code is made for.
enum class Isa { V3, V4 };

/// "x86-64-v3" / "x86-64-v4"; what executables record.
StringRef nameOf(Isa isa);
/// The CPU features code for `isa` needs, as /proc/cpuinfo names them.
std::vector<std::string> featuresOf(Isa isa);

struct CpuOptions {
  Isa isa = Isa::V4;
  bool wantLlvmIr = false;   ///< fill `llvmIr` (after optimization)
  bool wantAssembly = false; ///< fill `assembly`
  bool wantObject = true;    ///< fill `object`
};

struct CpuCode {
  std::string object; ///< bytes of the shared object
  std::string llvmIr;
  std::string assembly;
  std::vector<std::string> undefined; ///< undefined symbols of the object, sorted
  std::vector<std::string>
      features; ///< of the processor that it needs, as /proc/cpuinfo names them
};

/// Adds what a program that only holds kernel modules needs: dialects and translations. Call before
/// creating kernels.
void registerKernelDialects(DialectRegistry &registry);

/// Compiles every kernel of `module`, which becomes LLVM dialect in place. Emits a diagnostic on
/// failure, also when the object would need a symbol that the loader does not provide.
FailureOr<CpuCode> compileKernels(ModuleOp module, const CpuOptions &options);

/// The symbols a kernel object may leave undefined: memory, libm, the eigensolver.
ArrayRef<StringRef> allowedUndefined();

/// First half: kernels to the LLVM dialect, a C entry per kernel around its always-inlined body.
LogicalResult lowerKernels(ModuleOp module);

/// Last step: a relocatable ELF object to a shared object. Returns its bytes, or the linker's
/// message.
llvm::Expected<std::string> linkSharedObject(StringRef relocatable);

} // namespace mlir::kvcache::cpu
