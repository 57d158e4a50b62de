// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a user asks a method to keep: tokens, a share of the tokens, or bytes.

#pragma once

#include "runtime/Execution.h"

#include <functional>
#include <string>

namespace kvcache::tools {

struct Budget {
  /// Exact: tokens that are taken as they are, without a word about prompts that are shorter.
  enum class Kind { None, Tokens, Fraction, Ratio, Bytes, Exact };
  Kind kind = Kind::None;
  int64_t amount = 0; ///< tokens or bytes
  double share = 0;   ///< Fraction: kept; Ratio: dropped
  std::string text;   ///< the option as it was given, for messages: "--budget 0.25"

  bool given() const { return kind != Kind::None; }
};

/// Reads `--budget` ("512", "0.25", "64MiB") and `--ratio` ("0.75"); both empty: Kind::None. Bad
/// input when both are given or one is neither.
rt::StatusOr<Budget> parseBudget(const std::string &budget, const std::string &ratio);

/// Bytes that a sequence holds after its prompt with a budget of so many tokens.
using BytesOfBudget = std::function<rt::StatusOr<int64_t>(int64_t tokens)>;

/// The budget of a method that needs none (its parameter `budget` is -1) where none is given: more
/// than any prompt has.
inline constexpr int64_t noBudgetLimit = int64_t(1) << 30;

/// Tokens per KV head and layer for a prompt of `tokens`; -1 for a method without a token budget,
/// noBudgetLimit for one that can do without. Bad input when the method takes none, needs one,
/// nothing would be kept, or even one token does not fit. `bytes` is called only for Kind::Bytes.
rt::StatusOr<int64_t> resolveBudget(const Budget &budget, const rt::Execution &execution,
                                    int64_t tokens, const BytesOfBudget &bytes);

} // namespace kvcache::tools
