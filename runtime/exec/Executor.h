// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The executor: an Execution over a compiled method. It feeds events to the programs of the
// executable; what those mean is the compiler's business.

#pragma once

#include "runtime/Artefacts.h"
#include "runtime/exec/CompiledSequence.h"

#include <memory>
#include <string>
#include <vector>

namespace kvcache::rt {

struct CompiledOptions {
  /// Keep what each selection ranked, for HeadContents::scores.
  bool captureScores = false;
  /// Most addresses to reserve for cache pages.
  int64_t arenaBytes = int64_t(64) << 30;
};

/// Bad input, naming the first difference, when a method compiled for `compiled` cannot serve
/// `model`.
Status checkGeometry(const Geometry &compiled, const Geometry &model);

class CompiledExecution final : public Execution, public ArtefactHolder {
public:
  /// Loads the widest code that runs here and checks every program. Bad input with the reason when
  /// that fails.
  static StatusOr<std::unique_ptr<CompiledExecution>>
  create(std::shared_ptr<const proto::Executable> message, const CompiledOptions &options = {},
         const HostCpu &host = HostCpu::detect());
  /// As `create` with the .kvx at `path`; messages begin with the path.
  static StatusOr<std::unique_ptr<CompiledExecution>> open(const std::string &path,
                                                           const CompiledOptions &options = {},
                                                           const HostCpu &host = HostCpu::detect());

  const Geometry &geometry() const override { return executable().geometry(); }
  std::string methodName() const override { return message().method(); }
  std::string methodHash() const override { return message().method_hash(); }
  std::string target() const override {
    return message().target().empty() ? "cpu" : message().target();
  }
  std::map<std::string, std::string> parameters() const override;
  bool hasTokenBudget() const override { return message().has_token_budget(); }
  std::string budgetRefusal() const override { return message().budget_refusal(); }
  int64_t neededQueryRows() const override { return message().needed_query_rows(); }
  bool needsPreRopeKeys() const override { return message().needs_pre_rope_keys(); }
  bool needsIds() const override { return executable().usesIds(); }
  std::vector<std::string> neededRequests() const override { return executable().requests(); }
  bool needsCalibration() const override;
  Status calibrate(int64_t layer, const LayerRows &rows) override;
  std::vector<CalibrationSource> calibrationSources() const override;
  Status calibrateSequence(size_t source, const std::vector<LayerRows> &layers,
                           const RequestTables &tables) override;
  Status finishCalibration() override;

  StatusOr<std::unique_ptr<Sequence>> createSequence(const SequenceOptions &options) override;
  Status prefill(int64_t layer, const std::vector<Sequence *> &sequences,
                 const std::vector<LayerRows> &rows) override;
  Status ingest(int64_t layer, const std::vector<Sequence *> &sequences,
                const std::vector<LayerRows> &rows) override;
  bool needsProbe() const override {
    return !executable().programs(proto::Program::PROBE, 0).empty();
  }
  Status probe(int64_t layer, const std::vector<Sequence *> &sequences,
               const std::vector<LayerRows> &rows) override;
  int64_t draftSteps() const override { return message().draft_steps(); }
  StatusOr<std::unique_ptr<Sequence>> startDraft(const Sequence &prompt) override;
  Status setDraftQueries(int64_t layer, Sequence &sequence, int64_t rows, const float *q) override;
  bool thinsPrompt() const override { return executable().thinsPrompt(); }
  StatusOr<std::vector<int64_t>> passedRows(int64_t layer, const Sequence &sequence) const override;
  Status promptEnd(const std::vector<Sequence *> &sequences) override;
  Status decode(int64_t layer, const std::vector<Sequence *> &sequences,
                const std::vector<LayerRows> &rows) override;
  Status stepEnd(const std::vector<Sequence *> &sequences) override;
  Status attend(int64_t layer, const Sequence &sequence, int64_t rows, const float *q, float *out,
                float *lse) override;
  std::vector<KernelReport> kernels() const override;

  /// The message it was made from (provenance, recorded vectors).
  const proto::Executable &message() const { return executable().message(); }
  /// The persistent tensors of the method; those with `artefact` set are what calibration makes.
  const std::vector<LoadedTensor> &tensors() const { return executable().tensors(); }
  /// The bytes of an artefact of a layer; empty when it is not calibrated or no artefact.
  const std::vector<char> &artefact(int32_t tensor, int64_t layer) const {
    return artefacts_->values[tensor][layer];
  }
  /// Sets an artefact of a layer for the sequences made from now on. Bad input when there is none
  /// or the size differs.
  Status setArtefact(int32_t tensor, int64_t layer, std::vector<char> values);
  ArtefactHolder *artefactHolder() override { return this; }
  std::vector<ArtefactShape> artefactShapes() const override;
  std::vector<float> artefactValues(size_t index, int64_t layer) const override;
  Status setArtefactValues(size_t index, int64_t layer, const std::vector<float> &values) override;
  /// Bytes of cache pages in use by all sequences.
  int64_t cacheBytes() const { return core_->arena->bytesInUse(); }

private:
  /// Rows of one layer collected for calibration.
  struct CalibrationRows {
    std::vector<float> q, k, v, kPre;
    std::vector<int32_t> positions;
  };
  /// What sequences of a source have made of a carried tensor: sums over sequences, of all layers.
  struct CalibrationSums {
    int64_t sequences = 0;
    std::vector<int64_t> extents; ///< of one layer
    std::vector<double> values;
  };
  using Batch = std::vector<CompiledSequence *>;

  explicit CompiledExecution(std::shared_ptr<ExecutionCore> core);
  const LoadedExecutable &executable() const { return *core_->executable; }
  /// The number among all tensors of the artefact called number `index`.
  int32_t tensorOfArtefact(size_t index) const;
  /// The calibrate programs that see sequences, in order: the sources by number.
  std::vector<const LoadedProgram *> sampledPrograms() const;
  /// Runs calibrate programs of one layer that see all rows at once.
  Status calibrateOnRows(const std::vector<const LoadedProgram *> &programs, int64_t layer,
                         const Artefacts &made);
  Status calibrateModel(Artefacts &made);
  Status checkLayer(int64_t layer) const;
  Status checkRows(int64_t layer, const LayerRows &rows, bool calibrating) const;
  Status takeBatch(const std::vector<Sequence *> &sequences);
  Status checkPromptOpen() const;
  Status feedPrompt(proto::Program::Kind kind, int64_t layer,
                    const std::vector<Sequence *> &sequences, const std::vector<LayerRows> &rows);
  Status feed(proto::Program::Kind kind, int64_t layer, const std::vector<Sequence *> &sequences,
              const std::vector<LayerRows> &rows);
  void record(CompiledSequence &sequence, int64_t layer, const LayerRows &rows, bool keepsQueries);
  Status endEvent(proto::Program::Kind kind, int64_t layers);
  Status endPrompt();
  Status checkThinned(int64_t layer, const std::vector<LayerRows> &rows) const;
  Status takePassed(const LoadedProgram &program, int64_t layer, size_t index);
  Status dropProbeRows();
  void closePrompt();
  Status runPrograms(proto::Program::Kind kind, int64_t layer);
  bool looksBack(proto::Program::Kind kind) const;

  std::shared_ptr<ExecutionCore> core_;
  std::shared_ptr<const Artefacts> artefacts_;
  std::vector<CalibrationRows> calibration_;
  std::vector<CalibrationSums> sums_; ///< by tensor number
  bool usesIds_ = false;              ///< a program reads the token ids of its rows
  bool stepsLookBack_ = false;        ///< a program of a decode step reads the last queries
  Batch batch_;
  std::vector<RunItem> items_;
  std::vector<CarriedTensors> carried_; ///< of `batch_`, while the end of a prompt is planned
};

} // namespace kvcache::rt
