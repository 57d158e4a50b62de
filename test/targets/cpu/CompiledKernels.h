// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compiles the kernels of a module and loads them, so that a test can call them with plain vectors.

#pragma once

#include "runtime/abi/KernelAbi.h"
#include "targets/cpu/CpuPipeline.h"

#include "mlir/IR/MLIRContext.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace mlir::kvcache::cpu::test {

/// A context with the dialects of kernels, and a module for them.
struct KernelModule {
  KernelModule() {
    DialectRegistry registry;
    registerKernelDialects(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    context.disableMultithreading();
    module = ModuleOp::create(UnknownLoc::get(&context));
  }
  MLIRContext context{MLIRContext::Threading::DISABLED};
  OwningOpRef<ModuleOp> module;
};

/// False on a machine that cannot run code for `isa`.
inline bool canRun(Isa isa) {
  __builtin_cpu_init();
  return isa == Isa::V3 ? __builtin_cpu_supports("x86-64-v3") : __builtin_cpu_supports("x86-64-v4");
}

/// True in runs that take every combination (`lit --param slow=1`).
inline bool wantsSlowTests() { return std::getenv("KVASIR_SLOW_TESTS") != nullptr; }

/// A loaded shared object; a failure to compile or load fails the test.
class CompiledKernels {
public:
  CompiledKernels(ModuleOp module, Isa isa, bool wantAssembly = false) {
    CpuOptions options;
    options.isa = isa;
    options.wantAssembly = wantAssembly;
    auto start = std::chrono::steady_clock::now();
    OwningOpRef<ModuleOp> copy = module.clone();
    FailureOr<CpuCode> result = compileKernels(*copy, options);
    double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (failed(result)) {
      ADD_FAILURE() << "kernels do not compile";
      return;
    }
    code = std::move(*result);
    std::printf("%s: compiled in %.0f ms, %zu bytes\n", nameOf(isa).data(), seconds * 1e3,
                code.object.size());
    int descriptor = memfd_create("kernels", MFD_CLOEXEC);
    EXPECT_EQ(write(descriptor, code.object.data(), code.object.size()),
              static_cast<ssize_t>(code.object.size()));
    handle_ =
        dlopen(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), RTLD_NOW | RTLD_LOCAL);
    close(descriptor);
    if (!handle_) {
      ADD_FAILURE() << dlerror();
    }
  }
  CompiledKernels(const CompiledKernels &) = delete;
  CompiledKernels &operator=(const CompiledKernels &) = delete;
  ~CompiledKernels() {
    if (handle_) {
      dlclose(handle_);
    }
  }

  /// Runs tasks [0, tasks) of `name` one after the other; the first status that is not OK ends it.
  int32_t run(const char *name, int64_t tasks, std::vector<void *> args) const {
    auto kernel = handle_ ? reinterpret_cast<kvcache_kernel_fn>(dlsym(handle_, name)) : nullptr;
    if (!kernel) {
      ADD_FAILURE() << "no kernel " << name;
      return -1;
    }
    for (int64_t task = 0; task < tasks; ++task) {
      if (int32_t status = kernel(task, args.data()); status != KVCACHE_KERNEL_OK) {
        return status;
      }
    }
    return KVCACHE_KERNEL_OK;
  }

  CpuCode code;

private:
  void *handle_ = nullptr;
};

} // namespace mlir::kvcache::cpu::test
