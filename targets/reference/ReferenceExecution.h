// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs a method with the reference kernels, event by event, one sequence after the other.

#pragma once

#include "runtime/Artefacts.h"
#include "targets/reference/ReferenceSequence.h"

namespace mlir::kvcache::reference {

class ReferenceExecution final : public rt::Execution, public rt::ArtefactHolder {
public:
  explicit ReferenceExecution(std::unique_ptr<ReferenceMethod> method);

  const rt::Geometry &geometry() const override { return method_->geometry(); }
  std::string methodName() const override { return method_->name(); }
  std::string methodHash() const override { return method_->hash(); }
  std::string target() const override { return "reference"; }
  std::map<std::string, std::string> parameters() const override { return method_->parameters(); }
  bool hasTokenBudget() const override { return method_->hasTokenBudget(); }
  std::string budgetRefusal() const override;
  int64_t neededQueryRows() const override { return method_->neededQueryRows(); }
  bool needsPreRopeKeys() const override { return method_->needsPreRopeKeys(); }
  bool needsIds() const override { return method_->needsIds(); }
  std::vector<std::string> neededRequests() const override { return method_->neededRequests(); }
  bool needsCalibration() const override { return method_->needsCalibration(); }
  Status calibrate(int64_t layer, const rt::LayerRows &rows) override;
  std::vector<rt::CalibrationSource> calibrationSources() const override;
  Status calibrateSequence(size_t source, const std::vector<rt::LayerRows> &layers,
                           const rt::RequestTables &tables) override;
  Status finishCalibration() override;
  StatusOr<std::unique_ptr<rt::Sequence>>
  createSequence(const rt::SequenceOptions &options) override;
  Status prefill(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                 const std::vector<rt::LayerRows> &rows) override;
  Status ingest(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                const std::vector<rt::LayerRows> &rows) override;
  bool thinsPrompt() const override { return method_->thinsPrompt(); }
  StatusOr<std::vector<int64_t>> passedRows(int64_t layer,
                                            const rt::Sequence &sequence) const override;
  bool needsProbe() const override { return method_->needsProbe(); }
  Status probe(int64_t layer, const std::vector<rt::Sequence *> &sequences,
               const std::vector<rt::LayerRows> &rows) override;
  int64_t draftSteps() const override { return method_->draftSteps(); }
  StatusOr<std::unique_ptr<rt::Sequence>> startDraft(const rt::Sequence &prompt) override;
  Status setDraftQueries(int64_t layer, rt::Sequence &sequence, int64_t rows,
                         const float *q) override;
  Status promptEnd(const std::vector<rt::Sequence *> &sequences) override;
  Status decode(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                const std::vector<rt::LayerRows> &rows) override;
  Status stepEnd(const std::vector<rt::Sequence *> &sequences) override;
  Status attend(int64_t layer, const rt::Sequence &sequence, int64_t rows, const float *q,
                float *out, float *lse) override;
  std::vector<rt::KernelReport> kernels() const override;
  rt::ArtefactHolder *artefactHolder() override { return this; }
  std::vector<rt::ArtefactShape> artefactShapes() const override;
  std::vector<float> artefactValues(size_t index, int64_t layer) const override;
  Status setArtefactValues(size_t index, int64_t layer, const std::vector<float> &values) override;

private:
  /// Rows of one layer given to `calibrate` so far.
  struct Samples {
    std::vector<float> q, k, v, kPre;
    std::vector<int32_t> positions;
  };

  /// What sequences have made of a named result: sums over them, by layer.
  struct Sums {
    int64_t sequences = 0;
    std::vector<Tensor> layers;
  };

  /// The phases calibrate that see sequences: the sources by number.
  SmallVector<PhaseOp> sampledPhases() const;
  /// A phase calibrate that sees the rows of all texts of a layer.
  Status calibrateOnRows(PhaseOp phase, int64_t layer);
  /// One that sees the means of all layers.
  Status calibrateModel(PhaseOp phase);
  Status makeArtefacts(PhaseOp phase, const PhaseEvent &event, int64_t first, int64_t end);
  Status checkBatch(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                    const std::vector<rt::LayerRows> &rows) const;
  /// Runs the phase that appends `rows`; with `wantOutput`, fills rows.out.
  Status feed(StringRef kind, int64_t layer, ReferenceSequence &sequence, const rt::LayerRows &rows,
              bool wantOutput);
  /// Checks and notes which rows of the prompt enter a layer, where layers pass on fewer than they
  /// see.
  Status enter(int64_t layer, ReferenceSequence &sequence, int64_t rows) const;
  /// As `feed` for each sequence of a batch.
  Status feedAll(StringRef kind, int64_t layer, const std::vector<rt::Sequence *> &sequences,
                 const std::vector<rt::LayerRows> &rows, bool wantOutput);
  /// What phases of a layer may be bound to at the end of an event.
  PhaseEvent eventOf(int64_t layer, ReferenceSequence &sequence) const;
  /// Those of `phases` (score, allocate, select and compress of one layer) that are due at the event called
  /// `name`.
  Status runDuePhases(StringRef name, ArrayRef<PhaseOp> phases, PhaseEvent &event,
                      ReferenceSequence &sequence);
  /// The end of a prompt with phases of model scope, without the commit.
  Status planPrompt(ReferenceSequence &sequence);
  /// Runs a phase of model scope on what `layers` have; gives each its part of what it yields.
  Status runModelPhase(PhaseOp phase, PhaseEvent &all, std::vector<PhaseEvent> &layers);
  bool isDue(PhaseOp phase, StringRef event, bool dueBefore, const PhaseEvent &given) const;
  /// Binds the arguments of a phase and computes what it yields: values of `in`.
  Status evaluateYields(PhaseOp phase, const PhaseEvent &event, Interpreter &in) const;
  Status runPhase(PhaseOp phase, PhaseEvent &event, LayerState &state, bool atPromptEnd);
  Status endEvent(StringRef event, const std::vector<rt::Sequence *> &sequences);
  Status commit(int64_t layer, LayerState &state) const;

  std::shared_ptr<ReferenceMethod> method_;
  std::vector<Samples> samples_;
  std::map<std::string, Sums> sums_;
};

} // namespace mlir::kvcache::reference
