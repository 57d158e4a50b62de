// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Generates from a batch of prompts with one method: prefill, compression, greedy decode, each
// timed.

#pragma once

#include "runtime/model/Decoder.h"
#include "tools/commands/Budget.h"
#include "tools/commands/MethodProvider.h"
#include "tools/commands/Proof.h"

#include <string>
#include <vector>

namespace kvcache::tools {

/// What one prompt of a batch became.
struct RunRow {
  std::string method, target, model,
      prompt; ///< prompt: its file, with a number where a file has several
  std::map<std::string, std::string> parameters;
  int64_t promptTokens = 0, budget = -1;
  std::vector<int32_t> newTokens;
  std::string text; ///< empty for a model without bytes as tokens
  Proof proof;      ///< after the last step
  std::vector<float> promptLogits; ///< [V], of the last prompt token
  double prefillSeconds = 0, compressSeconds = 0, decodeTokensPerSecond = 0; ///< of the whole batch
  int64_t residentBefore = 0, residentAfter = 0; ///< bytes, of the process
  bool verified = false;
};

Json toJson(const RunRow &row);
/// The proof of compression as text.
std::string toText(const RunRow &row, const std::vector<rt::KernelReport> &kernels);

struct NamedPrompt {
  std::string name;
  std::vector<int32_t> tokens;
  rt::RequestTables requests = {}; ///< tables that come with it
};

struct RunOptions {
  Budget budget;
  int64_t maxNewTokens = 64;
};

/// Runs all prompts as one batch. The execution must be calibrated.
rt::StatusOr<std::vector<RunRow>> runMethod(rt::Decoder &decoder, rt::Execution &execution,
                                            const std::vector<NamedPrompt> &prompts,
                                            const RunOptions &options);

} // namespace kvcache::tools
