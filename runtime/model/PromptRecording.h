// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The activations of a prompt that was run once, to be given to any number of
// methods: the dense prefill of a sample is computed once and shared. A
// replayed method sees what it would see in its own prefill as long as its
// prefill attention is dense.

#pragma once

#include "runtime/Execution.h"
#include "runtime/model/Decoder.h"

#include <cstdint>
#include <vector>

namespace kvcache::rt {

/// What to keep of a prompt besides k and v.
struct RecordOptions {
  int64_t queryRows = -1;   ///< the last n rows of q; -1 = all, 0 = none
  bool preRopeKeys = false; ///< keys before RoPE too
  int64_t chunk = 512;
};

/// One layer of a recorded prompt of T tokens.
struct LayerRecording {
  std::vector<float> q;    ///< [min(T, queryRows), Hq, D], after RoPE: the last rows
  std::vector<float> k, v; ///< [T, Hkv, D]
  std::vector<float> kPre; ///< [T, Hkv, D], empty unless asked for
};

/// A prompt after its prefill.
struct PromptRecording {
  int64_t tokens = 0;    ///< T
  int64_t queryRows = 0; ///< rows in LayerRecording::q
  int64_t queryHeads = 0, kvHeads = 0, headDim = 0;
  std::vector<int32_t> positions, ids; ///< [T]
  RequestTables requests;              ///< tables that came with the prompt
  std::vector<LayerRecording> layers;
  std::vector<float> logits; ///< [V], of the last token
};

/// Prefills the prompts of `runs` with `dense` and returns what was seen, one
/// recording per run. The runs are left as after Decoder::prefill: promptEnd is
/// the caller's.
StatusOr<std::vector<PromptRecording>> recordPrompts(Decoder &decoder, Execution &dense,
                                                     const std::vector<SequenceRun *> &runs,
                                                     const RecordOptions &options);

/// Feeds a recording to `execution.ingest`, chunk by chunk, and sets prompt, position
/// and logits of `run`, whose sequence must be new. Queries before the
/// recorded ones are zeros for a method that needs queries, a null q for any
/// other; a chunk never mixes rows with and without. Bad input when the method
/// needs queries or keys that were not recorded.
Status replay(const PromptRecording &recording, Execution &execution, SequenceRun &run,
              int64_t chunk = 512);

/// Gives the prompt of a recording to the new sequence of `run`: by `replay`, or, where layers pass
/// on fewer rows than they see and so see other activations than the dense ones, by a prefill of
/// its own. Position and logits of `run` are set.
Status feedPrompt(Decoder &decoder, const PromptRecording &recording, Execution &execution,
                  SequenceRun &run);

/// Feeds the rows of a recording to the calibrate phase; `finishCalibration` is
/// the caller's.
Status calibrate(const PromptRecording &recording, Execution &execution);

/// Feeds a recording, of all queries and keys before RoPE, as a sequence of a source.
Status calibrateSequence(const PromptRecording &recording, size_t source,
                         const RequestTables &tables, Execution &execution);

} // namespace kvcache::rt
