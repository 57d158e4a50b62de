// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of a prompt that thins out on its way through the layers (Execution::thinsPrompt), the same
// for every target.

#pragma once

#include "runtime/Status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kvcache::rt {

/// Bad input unless a layer gets its prompt in one piece (`fedBefore` is 0) and as many rows as the
/// layer before it passed on, `expected`; -1 for the first layer.
inline Status checkThinnedFeed(const std::string &method, int64_t layer, int64_t fedBefore,
                               int64_t rows, int64_t expected) {
  std::string where = "method '" + method + "', layer " + std::to_string(layer) + ": ";
  if (fedBefore > 0) {
    return Status::badInput(
        where + "layers pass on fewer rows of the prompt than they see; expected it in one piece");
  }
  return expected < 0 || expected == rows
             ? Status::ok()
             : Status::badInput(where + "expected the " + std::to_string(expected) +
                                " rows that the layer before it passes on, got " +
                                std::to_string(rows));
}

/// Bad input unless `passed` are ascending, of `rows` rows, and the last row is among them: the
/// next token needs it.
inline Status checkPassedRows(const std::string &method, int64_t layer, int64_t rows,
                              const std::vector<int64_t> &passed) {
  bool ascending = passed.empty() || (passed.front() >= 0 && passed.back() < rows);
  for (size_t i = 1; i < passed.size(); ++i) {
    ascending &= passed[i - 1] < passed[i];
  }
  std::string where = "method '" + method + "', layer " + std::to_string(layer) + ": ";
  if (!ascending) {
    return Status::badInput(where + "the rows passed on are no ascending selection of " +
                            std::to_string(rows));
  }
  return !passed.empty() && passed.back() == rows - 1
             ? Status::ok()
             : Status::badInput(
                   where + "the last row of the prompt is not passed on; every layer needs it");
}

} // namespace kvcache::rt
