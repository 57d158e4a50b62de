// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The draft of one run after the other: copies of caches are large, and so one is held at a time.

#include "runtime/model/Draft.h"

#include "runtime/model/Generate.h"

#include <algorithm>

namespace kvcache::rt {

StatusOr<DraftQueries> draftAnswer(Decoder &decoder, Execution &execution, const SequenceRun &run) {
  if (static_cast<int64_t>(run.logits.size()) < decoder.config().vocabSize) {
    return Status::internal("a draft was started on a run without the logits of its last token");
  }
  StatusOr<std::unique_ptr<Sequence>> copy = execution.startDraft(*run.sequence);
  KVCACHE_RETURN_IF_ERROR(copy.status());
  const ModelConfig &config = decoder.config();
  SequenceRun draft;
  draft.sequence = copy->get();
  draft.position = run.position;
  draft.logits.assign(run.logits.end() - config.vocabSize, run.logits.end());
  DraftQueries queries;
  queries.layers.resize(static_cast<size_t>(config.layers));
  auto observe = [&](int64_t layer, const std::vector<size_t> &,
                     const std::vector<LayerRows> &rows) {
    std::vector<float> &to = queries.layers[static_cast<size_t>(layer)];
    to.insert(to.end(), rows[0].q, rows[0].q + config.queryHeads * config.headDim);
    return Status::ok();
  };
  for (; queries.rows < execution.draftSteps(); ++queries.rows) {
    int32_t token = argMax(draft.logits.data(), config.vocabSize);
    if (std::find(config.eosTokens.begin(), config.eosTokens.end(), token) !=
        config.eosTokens.end()) {
      break;
    }
    KVCACHE_RETURN_IF_ERROR(decoder.step(execution, {&draft}, &token, nullptr, observe));
  }
  return queries;
}

Status giveDraft(Execution &execution, Sequence &sequence, const DraftQueries &queries) {
  for (size_t layer = 0; layer < queries.layers.size(); ++layer) {
    KVCACHE_RETURN_IF_ERROR(execution.setDraftQueries(static_cast<int64_t>(layer), sequence,
                                                      queries.rows, queries.layers[layer].data()));
  }
  return Status::ok();
}

Status draftAnswers(Decoder &decoder, Execution &execution,
                    const std::vector<SequenceRun *> &runs) {
  for (const SequenceRun *run : runs) {
    StatusOr<DraftQueries> queries = draftAnswer(decoder, execution, *run);
    KVCACHE_RETURN_IF_ERROR(queries.status());
    KVCACHE_RETURN_IF_ERROR(giveDraft(execution, *run->sequence, *queries));
  }
  return Status::ok();
}

} // namespace kvcache::rt
