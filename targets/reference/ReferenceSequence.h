// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The states of one sequence under the reference target, and how a reader sees them. Values are
// immutable and shared, so that a fork costs nothing and an event that fails leaves no trace.

#pragma once

#include "targets/reference/PhaseArguments.h"
#include "targets/reference/ReferenceMethod.h"

#include "runtime/Execution.h"

#include <map>
#include <memory>
#include <vector>

namespace mlir::kvcache::reference {

/// What a layer of a sequence holds between events.
struct LayerState {
  std::map<std::string, RuntimeValue> states;
  RecentQueries recent;
  int64_t length = 0; ///< rows fed so far
  int64_t promptRows = -1; ///< those of the prompt; -1 until it has ended
  /// Where layers pass on fewer rows than they see: the rows of the prompt, as its first layer counts them, that entered
  /// this one, and those among them (by number here) that the next one sees.
  std::vector<int64_t> entered, passed;
  /// Queries of drafted tokens, while the prompt has not ended.
  RecentQueries draft;
  /// Once a second pass has begun: how many rows had arrived before it, by cache state and list.
  std::map<std::string, std::vector<int32_t>> beforeProbe;
  int32_t lastPosition = -1;
  std::shared_ptr<const Tensor> scores; ///< what the selection at the end of the prompt ranked
};

class ReferenceSequence final : public rt::Sequence {
public:
  /// Fails when a state has no initial value.
  static StatusOr<std::unique_ptr<ReferenceSequence>>
  create(std::shared_ptr<const ReferenceMethod> method, const rt::SequenceOptions &options);

  std::unique_ptr<rt::Sequence> fork() const override;
  rt::LayerReport report(int64_t layer) const override;
  StatusOr<rt::HeadContents> contents(int64_t layer, int64_t head) const override;
  int64_t length() const override { return layers.empty() ? 0 : layers.front().length; }

  const ReferenceMethod &method() const { return *method_; }
  int64_t budget() const { return options_.budget; }
  const rt::RequestTables &requests() const { return options_.requests; }

  int64_t promptLength = -1; ///< rows of the prompt; -1 until it has ended
  /// What the role prompt_length says now; -1: as many as were fed to the layer.
  int64_t knownPromptLength() const {
    bool known = promptLength < 0 && method_->thinsPrompt();
    return known ? static_cast<int64_t>(layers.front().entered.size()) : promptLength;
  }

  std::vector<LayerState> layers;

  /// Notes, before the first rows of a second pass, how many rows the caches of a layer have.
  void beginProbe(int64_t layer);
  /// Takes the rows of a second pass out of all caches.
  void forgetProbe();
  /// Notes that the rows fed so far are the prompt.
  void closePrompt();

private:
  ReferenceSequence(std::shared_ptr<const ReferenceMethod> method,
                    const rt::SequenceOptions &options)
      : method_(std::move(method)), options_(options) {}
  /// The cache that attention over stored entries reads: keys after RoPE.
  StatusOr<std::shared_ptr<const CacheTable>> readerView(int64_t layer) const;

  std::shared_ptr<const ReferenceMethod> method_;
  rt::SequenceOptions options_;
};

} // namespace mlir::kvcache::reference
