// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What lets the model run again before a prompt ends: the second pass over the prompt, whose rows
// are forgotten, and the copy of its cache that an answer is drafted on.

#include "targets/reference/ReferenceExecution.h"

namespace mlir::kvcache::reference {

Status ReferenceExecution::probe(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                                 const std::vector<rt::LayerRows> &rows) {
  if (!needsProbe()) {
    return Status::badInput("method '" + methodName() + "' makes no second pass over the prompt");
  }
  KVCACHE_RETURN_IF_ERROR(checkBatch(layer, sequences, rows));
  for (size_t i = 0; i < sequences.size(); ++i) {
    auto &sequence = static_cast<ReferenceSequence &>(*sequences[i]);
    sequence.beginProbe(layer);
    KVCACHE_RETURN_IF_ERROR(feed("probe", layer, sequence, rows[i], /*wantOutput=*/true));
  }
  return Status::ok();
}

StatusOr<std::unique_ptr<rt::Sequence>> ReferenceExecution::startDraft(const rt::Sequence &prompt) {
  if (draftSteps() == 0) {
    return Status::badInput("method '" + methodName() + "' drafts nothing");
  }
  std::unique_ptr<rt::Sequence> copy = prompt.fork();
  auto &draft = static_cast<ReferenceSequence &>(*copy);
  draft.forgetProbe();
  for (int64_t layer = 0; layer < geometry().layers; ++layer) {
    LayerState &state = draft.layers[static_cast<size_t>(layer)];
    PhaseEvent event = eventOf(layer, draft);
    for (PhaseOp phase : method_->phases("draft")) {
      if (!method_->skips(phase, layer)) {
        KVCACHE_RETURN_IF_ERROR(runPhase(phase, event, state, /*atPromptEnd=*/false));
      }
    }
    KVCACHE_RETURN_IF_ERROR(commit(layer, state));
  }
  draft.closePrompt();
  return copy;
}

Status ReferenceExecution::setDraftQueries(int64_t layer, rt::Sequence &sequence, int64_t rows,
                                           const float *q) {
  if (layer < 0 || layer >= geometry().layers || rows < 0 || rows > draftSteps() ||
      (rows > 0 && !q)) {
    return Status::badInput("layer " + std::to_string(layer) + ": expected queries of at most " +
                            std::to_string(draftSteps()) + " drafted tokens, got " +
                            std::to_string(rows));
  }
  LayerState &state = static_cast<ReferenceSequence &>(sequence).layers[static_cast<size_t>(layer)];
  state.draft.q.assign(q, q + rows * geometry().queryHeads * geometry().headDim);
  state.draft.positions.clear();
  for (int64_t row = 0; row < rows; ++row) {
    state.draft.positions.push_back(state.lastPosition + 1 + static_cast<int32_t>(row));
  }
  return Status::ok();
}

} // namespace mlir::kvcache::reference
