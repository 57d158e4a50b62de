// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The draft of one run after the other: copies of caches are large, and so one is held at a time.

#include "runtime/model/Draft.h"

#include "runtime/model/Generate.h"

#include <algorithm>

namespace kvcache::rt {

/// Decodes the draft of one run and collects the queries of each layer, [rows, Hq, D]; returns how many rows.
static StatusOr<int64_t> draftOne(Decoder &decoder, Execution &execution, const SequenceRun &run,
                                  std::vector<std::vector<float>> &queries) {
  StatusOr<std::unique_ptr<Sequence>> copy = execution.startDraft(*run.sequence);
  KVCACHE_RETURN_IF_ERROR(copy.status());
  const ModelConfig &config = decoder.config();
  SequenceRun draft;
  draft.sequence = copy->get();
  draft.position = run.position;
  draft.logits.assign(run.logits.end() - config.vocabSize, run.logits.end());
  auto observe = [&](int64_t layer, const std::vector<size_t> &,
                     const std::vector<LayerRows> &rows) {
    std::vector<float> &to = queries[static_cast<size_t>(layer)];
    to.insert(to.end(), rows[0].q, rows[0].q + config.queryHeads * config.headDim);
    return Status::ok();
  };
  int64_t made = 0;
  for (; made < execution.draftSteps(); ++made) {
    int32_t token = argMax(draft.logits.data(), config.vocabSize);
    if (std::find(config.eosTokens.begin(), config.eosTokens.end(), token) !=
        config.eosTokens.end()) {
      break;
    }
    KVCACHE_RETURN_IF_ERROR(decoder.step(execution, {&draft}, &token, nullptr, observe));
  }
  return made;
}

Status draftAnswers(Decoder &decoder, Execution &execution,
                    const std::vector<SequenceRun *> &runs) {
  const ModelConfig &config = decoder.config();
  for (size_t i = 0; i < runs.size(); ++i) {
    if (static_cast<int64_t>(runs[i]->logits.size()) < config.vocabSize) {
      return Status::internal("a draft was started on a run without the logits of its last token");
    }
    std::vector<std::vector<float>> queries(static_cast<size_t>(config.layers));
    StatusOr<int64_t> rows = draftOne(decoder, execution, *runs[i], queries);
    KVCACHE_RETURN_IF_ERROR(rows.status());
    for (int64_t layer = 0; layer < config.layers; ++layer) {
      KVCACHE_RETURN_IF_ERROR(execution.setDraftQueries(
          layer, *runs[i]->sequence, *rows, queries[static_cast<size_t>(layer)].data()));
    }
  }
  return Status::ok();
}

} // namespace kvcache::rt
