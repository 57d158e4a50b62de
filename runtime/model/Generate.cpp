// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The generation loop. Invariant: every run in the batch gets one token per
// step.

#include "runtime/model/Generate.h"

#include <algorithm>

namespace kvcache::rt {

int32_t argMax(const float *values, int64_t count) {
  return static_cast<int32_t>(std::max_element(values, values + count) - values);
}

StatusOr<std::vector<std::vector<int32_t>>> generateGreedy(Decoder &decoder, Execution &execution,
                                                           const std::vector<SequenceRun *> &runs,
                                                           const GenerateOptions &options) {
  std::vector<std::vector<int32_t>> results(runs.size());
  std::vector<size_t> active;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (static_cast<int64_t>(runs[i]->logits.size()) != decoder.config().vocabSize) {
      return Status::internal("generation was started on a run without the "
                              "logits of its last token");
    }
    active.push_back(i);
  }
  for (int64_t made = 0; made < options.maxNewTokens && !active.empty(); ++made) {
    std::vector<size_t> next;
    std::vector<SequenceRun *> batch;
    std::vector<int32_t> tokens;
    for (size_t i : active) {
      int32_t token = argMax(runs[i]->logits.data(), static_cast<int64_t>(runs[i]->logits.size()));
      if (std::find(options.stopTokens.begin(), options.stopTokens.end(), token) !=
          options.stopTokens.end()) {
        continue;
      }
      results[i].push_back(token);
      if (options.onToken) {
        options.onToken(i, token);
      }
      next.push_back(i);
      batch.push_back(runs[i]);
      tokens.push_back(token);
    }
    if (made + 1 < options.maxNewTokens) {
      KVCACHE_RETURN_IF_ERROR(decoder.step(execution, batch, tokens.data()));
    }
    active = std::move(next);
  }
  return results;
}

} // namespace kvcache::rt
