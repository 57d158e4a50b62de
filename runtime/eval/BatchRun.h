// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One batch of samples through one method: replay of the recorded prompts, their end, then question
// and answer tokens one at a time. Dense and method take the same way with the same samples in the
// same order, so that equal caches give bit-equal logits.

#pragma once

#include "runtime/eval/Outcome.h"
#include "runtime/eval/Tasks.h"
#include "runtime/model/PromptRecording.h"

#include <cstdint>
#include <vector>

namespace kvcache::rt {

/// What the dense pass computed for one sample; the reference of every metric.
struct DenseReference {
  std::vector<float> logits;  ///< [tokens fed, V], questions in order
  std::vector<float> queries; ///< [tokens fed, L, Hq, D]; empty: not recorded
  std::vector<float> outputs; ///< [tokens fed, L, Hq, D], attention outputs; empty: not recorded
};

/// The samples of a batch after the dense prefill, which every method shares.
struct Batch {
  std::vector<Sample> samples;
  std::vector<PromptRecording> recordings;
  std::vector<DenseReference> references; ///< filled by runReference
  double prefillSeconds = 0;              ///< of the whole batch
};

/// Prefills the contexts with `dense` and records them.
StatusOr<Batch> prefillBatch(Decoder &decoder, Execution &dense, std::vector<Sample> samples,
                             const RecordOptions &options);

/// Runs `dense` over the batch and keeps its logits; with `attention`, its attention inputs and
/// outputs too.
Status runReference(Decoder &decoder, Execution &dense, Batch &batch, bool attention);

/// Runs a method over the batch, sample i with `budgets[i]` tokens (-1: none), against the
/// references. The attention error is measured when the references hold attention outputs.
StatusOr<std::vector<SampleOutcome>> runMethod(Decoder &decoder, Execution &method,
                                               const Batch &batch,
                                               const std::vector<int64_t> &budgets, uint64_t seed);

/// What `sequence` holds, its proof of compression included; `tokens` of it were prompt.
CacheFigures figuresOf(const Sequence &sequence, const Geometry &geometry, int64_t tokens);

} // namespace kvcache::rt
