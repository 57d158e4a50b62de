// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What whoever launches an emitted kernel has to know: its arguments, the words of its scalars and
// its grid.

#pragma once

#include "targets/cpu/KernelBuilder.h"

#include <string>
#include <vector>

namespace mlir::kvcache::cpu {

struct EmittedKernel {
  std::string name;
  std::vector<KernelArg> args; ///< in order
  std::vector<std::string>
      words; ///< what each word of the argument `scalars` holds; empty when there is none
  /// Each grid dim, last fastest: "heads" (row heads of the store), a decimal number, or the name
  /// of a word.
  std::vector<std::string> grid;
  /// Where a grid dim is the word "blocks": a task takes row blocks b, b + blocks, .. of this many
  /// rows. Any number of blocks >= 1 gives the same result; ceil(rows / blockRows) is the most that
  /// helps.
  int64_t blockRows = 0;
};

} // namespace mlir::kvcache::cpu
