// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Drafting: a few tokens are decoded on a throw-away compressed copy of a prompt's cache, and their queries help to
// choose what the prompt keeps.

#pragma once

#include "runtime/model/Decoder.h"

#include <vector>

namespace kvcache::rt {

/// Queries of drafted tokens: rows, and for each layer [rows, Hq, D].
struct DraftQueries {
  int64_t rows = 0;
  std::vector<std::vector<float>> layers;
};

/// Drafts greedily behind the prompt of `run`, which must hold the logits of its last token; stops at an end of text.
StatusOr<DraftQueries> draftAnswer(Decoder &decoder, Execution &execution, const SequenceRun &run);

/// `setDraftQueries` of every layer.
Status giveDraft(Execution &execution, Sequence &sequence, const DraftQueries &queries);

/// Drafts `execution.draftSteps()` tokens for each run, greedily from its logits, fewer where an end of text comes first,
/// and hands their queries over (`setDraftQueries`). Each run must stand behind its prompt; nothing of it changes.
Status draftAnswers(Decoder &decoder, Execution &execution, const std::vector<SequenceRun *> &runs);

} // namespace kvcache::rt
