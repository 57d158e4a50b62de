// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Events: checks what the caller gives, keeps the books of each sequence, runs the programs. A
// sequence in whose event something failed is not used again.

#include "runtime/exec/Executor.h"

#include "runtime/PassedRows.h"
#include "runtime/RowChunks.h"
#include "runtime/exec/Kvx.h"

#include <algorithm>
#include <cmath>

namespace kvcache::rt {

Status checkGeometry(const Geometry &compiled, const Geometry &model) {
  auto differs = [](const char *what, int64_t expected, int64_t found) {
    return Status::badInput(std::string("the method is compiled for ") + what + " " +
                            std::to_string(expected) + ", the model has " + std::to_string(found));
  };
  const std::pair<const char *, int64_t Geometry::*> fields[] = {
      {"layers", &Geometry::layers},
      {"query heads", &Geometry::queryHeads},
      {"KV heads", &Geometry::kvHeads},
      {"head dim", &Geometry::headDim},
      {"sliding window", &Geometry::slidingWindow}};
  for (const auto &[name, field] : fields) {
    if (compiled.*field != model.*field) {
      return differs(name, compiled.*field, model.*field);
    }
  }
  for (size_t i = 0; i < compiled.ropeInvFreq.size() && i < model.ropeInvFreq.size(); ++i) {
    if (std::fabs(compiled.ropeInvFreq[i] - model.ropeInvFreq[i]) >
        1e-5f * std::fabs(model.ropeInvFreq[i])) {
      return Status::badInput("the method is compiled for RoPE frequency " +
                              std::to_string(compiled.ropeInvFreq[i]) + " of pair " +
                              std::to_string(i) + ", the model has " +
                              std::to_string(model.ropeInvFreq[i]));
    }
  }
  return Status::ok();
}

CompiledExecution::CompiledExecution(std::shared_ptr<ExecutionCore> core) : core_(std::move(core)) {
  auto artefacts = std::make_shared<Artefacts>();
  for (int t = 0; t < message().tensors_size(); ++t) {
    artefacts->values.emplace_back(geometry().layers);
    for (int layer = 0;
         message().tensors(t).artefact() && layer < message().tensors(t).values_size(); ++layer) {
      const std::string &values = message().tensors(t).values(layer);
      artefacts->values[t][layer].assign(values.begin(), values.end());
    }
  }
  artefacts_ = std::move(artefacts);
  calibration_.resize(geometry().layers);
  usesIds_ = executable().usesIds();
  stepsLookBack_ = looksBack(proto::Program::DECODE) || looksBack(proto::Program::STEP_END);
}

StatusOr<std::unique_ptr<CompiledExecution>>
CompiledExecution::create(std::shared_ptr<const proto::Executable> message,
                          const CompiledOptions &options, const HostCpu &host) {
  StatusOr<std::shared_ptr<CodeObject>> code = CodeObject::loadBest(*message, host);
  KVCACHE_RETURN_IF_ERROR(code.status());
  auto loaded = LoadedExecutable::load(std::move(message), *code);
  KVCACHE_RETURN_IF_ERROR(loaded.status());
  StatusOr<std::unique_ptr<Arena>> arena = Arena::create(options.arenaBytes);
  KVCACHE_RETURN_IF_ERROR(arena.status());
  auto core = std::make_shared<ExecutionCore>(*loaded, std::move(*arena), options.captureScores);
  return std::unique_ptr<CompiledExecution>(new CompiledExecution(std::move(core)));
}

StatusOr<std::unique_ptr<CompiledExecution>> CompiledExecution::open(const std::string &path,
                                                                     const CompiledOptions &options,
                                                                     const HostCpu &host) {
  StatusOr<std::shared_ptr<proto::Executable>> message = readKvx(path);
  KVCACHE_RETURN_IF_ERROR(message.status());
  auto execution = create(*message, options, host);
  return execution.isOk()
             ? std::move(execution)
             : Status(execution.status().code(), path + ": " + execution.status().message());
}

std::map<std::string, std::string> CompiledExecution::parameters() const {
  return {message().parameters().begin(), message().parameters().end()};
}

bool CompiledExecution::looksBack(proto::Program::Kind kind) const {
  return executable().anyUses(kind, proto::Buffer::LAST_QUERIES) ||
         executable().anyUses(kind, proto::Buffer::LAST_POSITIONS);
}

Status CompiledExecution::checkLayer(int64_t layer) const {
  return layer >= 0 && layer < geometry().layers
             ? Status::ok()
             : Status::badInput("expected a layer below " + std::to_string(geometry().layers) +
                                ", got " + std::to_string(layer));
}

Status CompiledExecution::checkRows(int64_t layer, const LayerRows &rows, bool calibrating) const {
  const char *missing = rows.k == nullptr           ? "keys"
                        : rows.v == nullptr         ? "values"
                        : rows.positions == nullptr ? "positions"
                        : usesIds_ && rows.ids == nullptr && !calibrating ? "token ids"
                        : needsPreRopeKeys() && rows.kPre == nullptr && !calibrating
                            ? "keys before RoPE"
                            : nullptr;
  if (rows.rows < 0 || missing != nullptr) {
    return Status::badInput(
        "layer " + std::to_string(layer) + ": " +
        (missing ? "no " + std::string(missing) + " given" : "a negative number of rows given"));
  }
  return Status::ok();
}

StatusOr<std::unique_ptr<Sequence>>
CompiledExecution::createSequence(const SequenceOptions &options) {
  if (hasTokenBudget() && options.budget < 1) {
    return Status::badInput("method '" + methodName() +
                            "' needs a budget of at least 1 token, got " +
                            std::to_string(options.budget));
  }
  if (!hasTokenBudget() && options.budget != -1) {
    return Status::badInput("method '" + methodName() + "' takes no token budget" +
                            (budgetRefusal().empty() ? "" : ": " + budgetRefusal()));
  }
  if (needsCalibration()) {
    return Status::badInput("method '" + methodName() + "' must be calibrated first");
  }
  KVCACHE_RETURN_IF_ERROR(checkRequests(*this, options));
  return std::unique_ptr<Sequence>(std::make_unique<CompiledSequence>(core_, artefacts_, options));
}

/// Fills `batch_` with the sequences, each checked to be ours, usable and there once.
Status CompiledExecution::takeBatch(const std::vector<Sequence *> &sequences) {
  batch_.clear();
  for (Sequence *sequence : sequences) {
    auto *ours = dynamic_cast<CompiledSequence *>(sequence);
    if (ours == nullptr || ours->core_ != core_) {
      return Status::badInput("a sequence was made by another execution");
    }
    if (std::find(batch_.begin(), batch_.end(), ours) != batch_.end()) {
      return Status::badInput("a sequence is in the batch twice");
    }
    KVCACHE_RETURN_IF_ERROR(ours->broken_);
    batch_.push_back(ours);
  }
  return Status::ok();
}

/// Books the rows of an event before its programs run.
void CompiledExecution::record(CompiledSequence &sequence, int64_t layer, const LayerRows &rows,
                               bool keepsQueries) {
  LayerState &state = *sequence.layers_[layer];
  if (state.length == sequence.length()) { // the first layer that sees these rows
    sequence.appended_.insert(sequence.appended_.end(), rows.positions, rows.positions + rows.rows);
  }
  state.length += rows.rows;
  if (thinsPrompt() && !sequence.promptEnded_) {
    sequence.requests_.promptLength = sequence.length();
  }
  if (keepsQueries) {
    state.recent.append(rows.rows, rows.q, rows.positions);
  }
  if (sequence.promptEnded_) {
    sequence.extendRequests(state.length);
  }
  ++sequence.version_;
}

Status CompiledExecution::feedPrompt(proto::Program::Kind kind, int64_t layer,
                                     const std::vector<Sequence *> &sequences,
                                     const std::vector<LayerRows> &rows) {
  KVCACHE_RETURN_IF_ERROR(checkLayer(layer));
  const std::vector<const LoadedProgram *> &programs = executable().programs(kind, layer);
  int64_t chunk = programs.empty() ? 0 : programs.front()->chunkRows;
  if (chunk == 0) {
    return feed(kind, layer, sequences, rows);
  }
  return feedInChunks(rows, geometry(), chunk, [&](const std::vector<LayerRows> &parts) {
    return feed(kind, layer, sequences, parts);
  });
}

Status CompiledExecution::feed(proto::Program::Kind kind, int64_t layer,
                               const std::vector<Sequence *> &sequences,
                               const std::vector<LayerRows> &rows) {
  KVCACHE_RETURN_IF_ERROR(checkLayer(layer));
  KVCACHE_RETURN_IF_ERROR(takeBatch(sequences));
  bool decoding = kind == proto::Program::DECODE;
  bool probing = kind == proto::Program::PROBE;
  bool keepsQueries = neededQueryRows() != 0 && !probing && (!decoding || stepsLookBack_);
  if (rows.size() != sequences.size() || executable().programs(kind, layer).empty()) {
    return Status::badInput(rows.size() != sequences.size()
                                ? "expected rows for " + std::to_string(sequences.size()) +
                                      " sequences, got " + std::to_string(rows.size())
                                : "method '" + methodName() + "' has no " + programKindName(kind) +
                                      " program for layer " + std::to_string(layer));
  }
  for (const LayerRows &r : rows) {
    KVCACHE_RETURN_IF_ERROR(checkRows(layer, r, false));
    if ((decoding && r.rows != 1) || ((keepsQueries || probing) && r.q == nullptr)) {
      return Status::badInput("layer " + std::to_string(layer) + ": " +
                              (decoding && r.rows != 1
                                   ? "decode takes 1 row, got " + std::to_string(r.rows)
                                   : "no queries given"));
    }
  }
  if (!decoding) {
    KVCACHE_RETURN_IF_ERROR(checkPromptOpen());
    KVCACHE_RETURN_IF_ERROR(checkThinned(layer, rows));
  }
  items_.clear();
  for (size_t i = 0; i < batch_.size(); ++i) {
    if (rows[i].rows > 0) {
      batch_[items_.size()] = batch_[i];
      if (probing) {
        batch_[i]->layers_[layer]->beginProbe();
      } else {
        record(*batch_[i], layer, rows[i], keepsQueries);
      }
      batch_[i]->layers_[layer]->decodeReadBytes = 0;
      items_.push_back(batch_[i]->item(layer, rows[i]));
    }
  }
  batch_.resize(items_.size());
  return runPrograms(kind, layer);
}

/// Kernels of the prompt read exact rows, and after its end rows may be coded.
Status CompiledExecution::checkPromptOpen() const {
  for (const CompiledSequence *sequence : batch_) {
    if (sequence->promptEnded_) {
      return Status::badInput("the prompt of a sequence ends once, and only decode steps follow it");
    }
  }
  return Status::ok();
}

/// Runs the programs of a kind on a layer for `batch_`, whose items are in `items_`.
Status CompiledExecution::runPrograms(proto::Program::Kind kind, int64_t layer) {
  for (const LoadedProgram *program : executable().programs(kind, layer)) {
    Status status = core_->runner.run(*program, layer, items_);
    for (size_t i = 0; i < batch_.size(); ++i) {
      ++batch_[i]->version_;
      if (!status.isOk()) {
        batch_[i]->broken_ =
            Status(status.code(), "the sequence is not usable after an error: " + status.message());
      } else if (program->hasRanked) {
        batch_[i]->capture(*program, layer, i);
      }
    }
    KVCACHE_RETURN_IF_ERROR(status);
    for (size_t i = 0; i < batch_.size() && program->uses(proto::Buffer::PASSED); ++i) {
      Status passed = takePassed(*program, layer, i);
      batch_[i]->broken_ = passed.isOk() ? batch_[i]->broken_ : passed;
      KVCACHE_RETURN_IF_ERROR(passed);
    }
  }
  return Status::ok();
}

/// Where layers pass on fewer rows than they see: each gets its prompt at once, and what the one
/// before it passed on.
Status CompiledExecution::checkThinned(int64_t layer, const std::vector<LayerRows> &rows) const {
  for (size_t i = 0; i < batch_.size() && thinsPrompt(); ++i) {
    const auto &layers = batch_[i]->layers_;
    int64_t expected = layer == 0 ? -1 : static_cast<int64_t>(layers[layer - 1]->passed.size());
    KVCACHE_RETURN_IF_ERROR(
        checkThinnedFeed(methodName(), layer, layers[layer]->length, rows[i].rows, expected));
  }
  return Status::ok();
}

/// Keeps which rows the program that has just run, as item `index` of the batch, passes on.
Status CompiledExecution::takePassed(const LoadedProgram &program, int64_t layer, size_t index) {
  Frame &frame = core_->runner.frame(index);
  int32_t rows = program.buffer(proto::Buffer::PASSED),
          count = program.buffer(proto::Buffer::PASSED_ROWS);
  int64_t most = frame.bufferBytes(rows) / static_cast<int64_t>(sizeof(int32_t));
  const auto *chosen = static_cast<const int32_t *>(frame.used(rows));
  const auto *number = count < 0 ? nullptr : static_cast<const int32_t *>(frame.used(count));
  if (chosen == nullptr || number == nullptr || *number < 0 || *number > most) {
    return Status::internal("the prefill of method '" + methodName() + "' does not tell its rows");
  }
  std::vector<int64_t> &passed = batch_[index]->layers_[layer]->passed;
  passed.assign(chosen, chosen + *number);
  return checkPassedRows(methodName(), layer, items_[index].rows.rows, passed);
}

StatusOr<std::vector<int64_t>> CompiledExecution::passedRows(int64_t layer,
                                                             const Sequence &sequence) const {
  KVCACHE_RETURN_IF_ERROR(checkLayer(layer));
  const auto *ours = dynamic_cast<const CompiledSequence *>(&sequence);
  if (ours == nullptr || ours->core_ != core_) {
    return Status::badInput("a sequence was made by another execution");
  }
  return ours->layers_[layer]->passed;
}

Status CompiledExecution::prefill(int64_t layer, const std::vector<Sequence *> &sequences,
                                  const std::vector<LayerRows> &rows) {
  return feedPrompt(proto::Program::PREFILL, layer, sequences, rows);
}

Status CompiledExecution::ingest(int64_t layer, const std::vector<Sequence *> &sequences,
                                 const std::vector<LayerRows> &rows) {
  return feedPrompt(proto::Program::INGEST, layer, sequences, rows);
}

Status CompiledExecution::probe(int64_t layer, const std::vector<Sequence *> &sequences,
                                const std::vector<LayerRows> &rows) {
  return feedPrompt(proto::Program::PROBE, layer, sequences, rows);
}

StatusOr<std::unique_ptr<Sequence>> CompiledExecution::startDraft(const Sequence &prompt) {
  const auto *ours = dynamic_cast<const CompiledSequence *>(&prompt);
  if (ours == nullptr || ours->core_ != core_ || draftSteps() == 0) {
    return Status::badInput(draftSteps() == 0 ? "method '" + methodName() + "' drafts nothing"
                                              : "a sequence was made by another execution");
  }
  std::unique_ptr<Sequence> copy = ours->fork();
  if (copy == nullptr) {
    return Status::unavailable("out of memory for the cache that an answer is drafted on");
  }
  KVCACHE_RETURN_IF_ERROR(takeBatch({copy.get()}));
  KVCACHE_RETURN_IF_ERROR(checkPromptOpen());
  KVCACHE_RETURN_IF_ERROR(dropProbeRows());
  KVCACHE_RETURN_IF_ERROR(endEvent(proto::Program::DRAFT_END, geometry().layers));
  closePrompt();
  return copy;
}

Status CompiledExecution::setDraftQueries(int64_t layer, Sequence &sequence, int64_t rows,
                                          const float *q) {
  KVCACHE_RETURN_IF_ERROR(checkLayer(layer));
  KVCACHE_RETURN_IF_ERROR(takeBatch({&sequence}));
  KVCACHE_RETURN_IF_ERROR(checkPromptOpen());
  CompiledSequence &ours = *batch_.front();
  if (rows < 0 || rows > draftSteps() || (rows > 0 && q == nullptr) || ours.appended_.empty()) {
    return Status::badInput("layer " + std::to_string(layer) + ": expected queries of at most " +
                            std::to_string(draftSteps()) + " drafted tokens behind a prompt, got " +
                            std::to_string(rows));
  }
  std::vector<int32_t> positions;
  for (int64_t row = 0; row < rows; ++row) {
    positions.push_back(ours.appended_.back() + 1 + static_cast<int32_t>(row));
  }
  RecentRows &draft = ours.layers_[layer]->draft;
  draft.clear();
  draft.append(rows, q, positions.data());
  return Status::ok();
}

Status CompiledExecution::decode(int64_t layer, const std::vector<Sequence *> &sequences,
                                 const std::vector<LayerRows> &rows) {
  return feed(proto::Program::DECODE, layer, sequences, rows);
}

/// Runs the programs of a kind at the end of an event of `batch_`, for the layers below `layers` in order.
Status CompiledExecution::endEvent(proto::Program::Kind kind, int64_t layers) {
  for (int64_t layer = 0; layer < layers; ++layer) {
    items_.clear();
    for (size_t i = 0; i < batch_.size(); ++i) {
      items_.push_back(batch_[i]->item(layer, {}));
      items_.back().carried = carried_.empty() ? nullptr : &carried_[i];
    }
    KVCACHE_RETURN_IF_ERROR(runPrograms(kind, layer));
  }
  return Status::ok();
}

/// The programs that end a prompt. What crosses from one to the next lives here only.
Status CompiledExecution::endPrompt() {
  bool plans = !executable().programs(proto::Program::PROMPT_MODEL, 0).empty();
  carried_.clear();
  carried_.resize(plans ? batch_.size() : 0);
  for (CarriedTensors &tensors : carried_) {
    tensors.resize(executable().tensors().size());
  }
  KVCACHE_RETURN_IF_ERROR(endEvent(proto::Program::PROMPT_SCORE, geometry().layers));
  KVCACHE_RETURN_IF_ERROR(endEvent(proto::Program::PROMPT_MODEL, 1));
  return endEvent(proto::Program::PROMPT_END, geometry().layers);
}

Status CompiledExecution::promptEnd(const std::vector<Sequence *> &sequences) {
  KVCACHE_RETURN_IF_ERROR(takeBatch(sequences));
  KVCACHE_RETURN_IF_ERROR(checkPromptOpen());
  KVCACHE_RETURN_IF_ERROR(dropProbeRows());
  Status ended = endPrompt();
  carried_.clear();
  KVCACHE_RETURN_IF_ERROR(ended);
  closePrompt();
  return Status::ok();
}

/// The rows of a second pass have done what they came for.
Status CompiledExecution::dropProbeRows() {
  for (CompiledSequence *sequence : batch_) {
    for (auto &state : sequence->layers_) {
      KVCACHE_RETURN_IF_ERROR(state->endProbe());
    }
    ++sequence->version_;
  }
  return Status::ok();
}

/// What the prompt needed and decode steps do not goes back now.
void CompiledExecution::closePrompt() {
  core_->runner.releaseScratch();
  for (CompiledSequence *sequence : batch_) {
    sequence->promptEnded_ = true;
    sequence->requests_.promptLength = sequence->length();
    for (auto &state : sequence->layers_) {
      state->promptLength = state->length;
    }
    for (auto &state : sequence->layers_) {
      state->draft.clear();
      if (!stepsLookBack_) {
        state->recent.clear();
      }
    }
  }
}

Status CompiledExecution::stepEnd(const std::vector<Sequence *> &sequences) {
  KVCACHE_RETURN_IF_ERROR(takeBatch(sequences));
  return endEvent(proto::Program::STEP_END, geometry().layers);
}

Status CompiledExecution::attend(int64_t layer, const Sequence &sequence, int64_t rows,
                                 const float *q, float *out, float *lse) {
  KVCACHE_RETURN_IF_ERROR(checkLayer(layer));
  const auto *ours = dynamic_cast<const CompiledSequence *>(&sequence);
  if (ours == nullptr || ours->core_ != core_) {
    return Status::badInput("a sequence was made by another execution");
  }
  KVCACHE_RETURN_IF_ERROR(ours->broken_);
  const auto &programs = executable().programs(proto::Program::ATTEND, layer);
  if (programs.size() != 1 || rows < 0) {
    return Status::badInput(rows < 0
                                ? "expected a number of query rows, got " + std::to_string(rows)
                                : "method '" + methodName() + "' has no attend program for layer " +
                                      std::to_string(layer));
  }
  if (rows == 0) {
    return Status::ok();
  }
  LayerRows given;
  given.rows = rows;
  given.q = q;
  given.out = out;
  // Probes stand where the next token would.
  std::vector<int32_t> positions(static_cast<size_t>(rows),
                                 ours->appended_.empty() ? 0 : ours->appended_.back() + 1);
  given.positions = positions.data();
  RunItem item = ours->item(layer, given);
  item.lse = lse;
  return core_->runner.run(*programs[0], layer, {item});
}

std::vector<KernelReport> CompiledExecution::kernels() const {
  std::vector<KernelReport> reports;
  const KernelCounters &counters = core_->runner.counters();
  for (int i = 0; i < message().kernels_size(); ++i) {
    const proto::KernelInfo &info = message().kernels(i);
    reports.push_back({info.name(),
                       {info.ops().begin(), info.ops().end()},
                       target(),
                       info.status(),
                       info.reason(),
                       counters.bytesRead[i],
                       counters.bytesWritten[i],
                       counters.seconds[i]});
  }
  return reports;
}

} // namespace kvcache::rt
