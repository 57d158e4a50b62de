// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A Llama-style decoder. It computes everything but attention, which is always
// a call into the Execution of a method. Linear layers of all sequences of a
// call run as one product.

#pragma once

#include "runtime/Execution.h"
#include "runtime/model/ModelConfig.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace kvcache::rt {

/// Where one sequence stands. A plain value: copy it and give the copy a fork
/// of `sequence` to answer several questions over one context.
struct SequenceRun {
  Sequence *sequence = nullptr; ///< made by the Execution it is used with; not owned
  std::vector<int32_t> prompt;  ///< what `prefill` feeds
  RequestTables requests;       ///< tables that came with it, for recordings
  int64_t position = 0;         ///< tokens fed so far = absolute position of the next token
  std::vector<float> logits;    ///< [V] after the last token fed; [prompt, V] with
                                ///< PrefillOptions::allLogits
};

/// Sees the activations of each layer right after its attention. `runs` are
/// indices into the runs of the call; the rows are valid during the call only
/// (q after RoPE, out filled in).
using LayerObserver = std::function<Status(int64_t layer, const std::vector<size_t> &runs,
                                           const std::vector<LayerRows> &rows)>;

struct PrefillOptions {
  int64_t chunk = 512;      ///< tokens of one sequence per pass
  bool allLogits = false;   ///< logits of every prompt token instead of the last
  bool preRopeKeys = false; ///< fill LayerRows::kPre for the observer even if
                            ///< the method needs none
  LayerObserver observer;   ///< may be empty
};

/// A loaded model. Thread-compatible: one call at a time.
class Decoder {
public:
  /// Loads `directory`/config.json and its weights.
  static StatusOr<std::unique_ptr<Decoder>> load(const std::string &directory);
  ~Decoder();

  const ModelConfig &config() const;
  /// What an executable for this model must be compiled for.
  Geometry geometry(ElementType act) const;

  /// Feeds the whole prompt of each run in chunks; attention is
  /// `execution.prefill`. Sets `logits`. `promptEnd` is a call of its own, so
  /// that it can be timed. Bad input: an empty prompt, a token outside the
  /// vocabulary, an execution for another geometry.
  Status prefill(Execution &execution, const std::vector<SequenceRun *> &runs,
                 const PrefillOptions &options = {});
  /// Feeds the prompt of each run once more, behind itself (`execution.probe`). Position and logits stay.
  Status secondPass(Execution &execution, const std::vector<SequenceRun *> &runs,
                    const LayerObserver &observer = {});
  /// Ends the prompt of each run (`execution.promptEnd`). Before that, what the method asks for: a second pass, and
  /// an answer that is drafted (Draft.h). Position and logits stay.
  Status promptEnd(Execution &execution, const std::vector<SequenceRun *> &runs);
  /// Feeds one token per run through the decode phase, `stepEnd` included. Sets
  /// `logits` of each run, and also writes them to `logits` [runs, V] unless
  /// that is null.
  Status step(Execution &execution, const std::vector<SequenceRun *> &runs, const int32_t *tokens,
              float *logits = nullptr, const LayerObserver &observer = {});

private:
  Decoder();
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

} // namespace kvcache::rt
