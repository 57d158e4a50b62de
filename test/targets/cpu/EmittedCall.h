// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Launches a kernel from what its emitter says of it (EmittedKernel.h), so that tests also check
// that statement.

#pragma once

#include "targets/cpu/EmittedKernel.h"
#include "test/targets/cpu/CompiledKernels.h"
#include "test/targets/cpu/PagedStore.h"

#include <map>

namespace mlir::kvcache::cpu::test {

/// What the names in an EmittedKernel stand for.
struct EmittedCall {
  ::kvcache::test::PagedStore *store = nullptr;
  std::map<std::string, void *> buffers;
  std::map<std::string, int64_t> words;

  /// Runs every task of `kernel`, in ascending order.
  int32_t run(const CompiledKernels &code, const EmittedKernel &kernel) const {
    std::vector<int64_t> scalars;
    for (const std::string &word : kernel.words) {
      scalars.push_back(words.at(word));
    }
    std::vector<void *> args;
    for (const KernelArg &arg : kernel.args) {
      switch (arg.kind) {
      case KernelArg::Kind::Store:
        args.push_back(store->arena().data());
        args.push_back(store->view().data());
        break;
      case KernelArg::Kind::Scalars:
        args.push_back(scalars.data());
        break;
      case KernelArg::Kind::Buffer:
        args.push_back(buffers.at(arg.name));
        break;
      }
    }
    int64_t tasks = 1;
    for (const std::string &dim : kernel.grid) {
      tasks *= dim == "heads"         ? store->heads()
               : std::isdigit(dim[0]) ? std::stoll(dim)
                                      : words.at(dim);
    }
    return code.run(kernel.name.c_str(), tasks, std::move(args));
  }
};

/// The instruction sets this machine can run code of.
inline std::vector<Isa> runnableIsas() {
  std::vector<Isa> isas;
  for (Isa isa : {Isa::V3, Isa::V4}) {
    if (canRun(isa)) {
      isas.push_back(isa);
    }
  }
  return isas;
}

/// Normally distributed f32 that are not of any shorter type.
inline std::vector<float> randomFloats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float &value : values) {
    value = normal(random);
  }
  return values;
}

} // namespace mlir::kvcache::cpu::test
