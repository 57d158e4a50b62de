// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Greedy generation with a compressed cache.

#pragma once

#include "runtime/model/Decoder.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace kvcache::rt {

/// The index of the largest value; the lowest index among equals. `count` >= 1.
int32_t argMax(const float *values, int64_t count);

struct GenerateOptions {
  int64_t maxNewTokens = 64;
  std::vector<int32_t> stopTokens; ///< end a sequence; not part of the result
  std::function<void(size_t run, int32_t token)>
      onToken; ///< called for each new token; may be empty
};

/// Continues each run from its logits (after prefill or replay, and promptEnd).
/// Runs that are done leave the batch. Returns the new tokens of each run. The
/// last token of a run is never fed.
StatusOr<std::vector<std::vector<int32_t>>> generateGreedy(Decoder &decoder, Execution &execution,
                                                           const std::vector<SequenceRun *> &runs,
                                                           const GenerateOptions &options);

} // namespace kvcache::rt
