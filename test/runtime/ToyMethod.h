// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A method built by hand for the executor's tests: C kernels compiled by the system's compiler, and
// the executable that launches them. It appends rows, sums the stored keys of each head into the
// output, cuts head h to budget + h rows at the end of a prompt longer than the budget, and holds
// values as 8-bit codes except for the two newest rows of each head.

#pragma once

#include "runtime/Execution.h"
#include "runtime/abi/executable.pb.h"

#include <memory>
#include <string>
#include <vector>

namespace kvcache::rt::toy {

constexpr int64_t layers = 2, queryHeads = 4, kvHeads = 2, headDim = 4;

/// The bytes of a shared object compiled from C source; a test failure, and empty, when that fails.
std::string compileKernels(const std::string &source);
/// The executable, with its code for x86-64-v2.
std::shared_ptr<proto::Executable> makeExecutable();

/// Rows of a layer whose values say where they come from, and room for the output.
struct Rows {
  Rows(int64_t layer, int64_t first, int64_t count);
  LayerRows view();
  static float key(int64_t layer, int64_t token, int64_t head, int64_t channel);
  /// An integer below 256, which the codes hold exactly.
  static float value(int64_t token, int64_t head, int64_t channel);

  int64_t count;
  std::vector<float> q, k, v, out;
  std::vector<int32_t> positions;
};

} // namespace kvcache::rt::toy
