// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The events of Execution.h: which phases are due, what they are bound to, when rows are coded.

#include "targets/reference/ReferenceExecution.h"

#include "targets/reference/Interpreter.h"
#include "targets/reference/ReferenceTarget.h"

#include "runtime/PassedRows.h"
#include "runtime/RowChunks.h"

#include <numeric>

#include "dialect/Axes.h"

#include "llvm/ADT/StringSet.h"

namespace mlir::kvcache::reference {

ReferenceExecution::ReferenceExecution(std::unique_ptr<ReferenceMethod> method)
    : method_(std::move(method)), samples_(static_cast<size_t>(method_->geometry().layers)) {}

std::string ReferenceExecution::budgetRefusal() const {
  if (hasTokenBudget()) {
    return {};
  }
  std::string names;
  for (const auto &[name, value] : parameters()) {
    names += (names.empty() ? "" : ", ") + name;
  }
  return "method '" + methodName() + "' has no token budget; " +
         (names.empty() ? "it keeps every token" : "what it keeps is set by --set of " + names);
}

static ReferenceSequence &ours(rt::Sequence *sequence) {
  return *static_cast<ReferenceSequence *>(sequence);
}

StatusOr<std::unique_ptr<rt::Sequence>>
ReferenceExecution::createSequence(const rt::SequenceOptions &options) {
  if (hasTokenBudget() && options.budget < 1) {
    return Status::badInput("method '" + methodName() +
                            "' needs a budget of at least 1 token, got " +
                            std::to_string(options.budget));
  }
  if (!hasTokenBudget() && options.budget != -1) {
    return Status::badInput(budgetRefusal());
  }
  if (needsCalibration()) {
    return Status::badInput("method '" + methodName() + "' must be calibrated first");
  }
  KVCACHE_RETURN_IF_ERROR(rt::checkRequests(*this, options));
  StatusOr<std::unique_ptr<ReferenceSequence>> sequence =
      ReferenceSequence::create(method_, options);
  KVCACHE_RETURN_IF_ERROR(sequence.status());
  return std::unique_ptr<rt::Sequence>(std::move(*sequence));
}

//===-- rows
//----------------------------------------------------------------------------------------===//

Status ReferenceExecution::checkBatch(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                                      const std::vector<rt::LayerRows> &rows) const {
  if (layer < 0 || layer >= geometry().layers) {
    return Status::badInput("expected a layer below " + std::to_string(geometry().layers) +
                            ", got " + std::to_string(layer));
  }
  if (rows.size() != sequences.size()) {
    return Status::badInput("expected rows for " + std::to_string(sequences.size()) +
                            " sequences, got " + std::to_string(rows.size()));
  }
  for (const rt::LayerRows &given : rows) {
    if (given.rows < 0 || (given.rows > 0 && !given.positions)) {
      return Status::badInput("layer " + std::to_string(layer) + ": expected rows with positions");
    }
  }
  return Status::ok();
}

/// Writes attention output [head, group, query, channel] as f32 [query, head, group, channel].
static Status writeOutput(const Tensor &output, ArrayRef<AxisAttr> axes, float *out) {
  std::vector<std::string> names(4);
  for (AxisAttr axis : axes) {
    StringRef kind = axis.getKind();
    names[kind == "query" ? 0 : kind == "head" ? 1 : kind == "group" ? 2 : 3] = axis.getName();
  }
  llvm::erase_if(names, [](const std::string &name) { return name.empty(); });
  StatusOr<Tensor> ordered = inOrder(output, names);
  KVCACHE_RETURN_IF_ERROR(ordered.status());
  std::copy(ordered->values.begin(), ordered->values.end(), out);
  return Status::ok();
}

/// Keeps the last `window` of the rows fed.
static void remember(RecentQueries &recent, const rt::LayerRows &rows, int64_t window,
                     int64_t stride) {
  recent.q.insert(recent.q.end(), rows.q, rows.q + rows.rows * stride);
  recent.positions.insert(recent.positions.end(), rows.positions, rows.positions + rows.rows);
  int64_t beyond = static_cast<int64_t>(recent.positions.size()) - window;
  if (beyond > 0) {
    recent.q.erase(recent.q.begin(), recent.q.begin() + beyond * stride);
    recent.positions.erase(recent.positions.begin(), recent.positions.begin() + beyond);
  }
}

Status ReferenceExecution::enter(int64_t layer, ReferenceSequence &sequence, int64_t rows) const {
  LayerState &state = sequence.layers[static_cast<size_t>(layer)];
  const LayerState *before =
      layer == 0 ? nullptr : &sequence.layers[static_cast<size_t>(layer - 1)];
  KVCACHE_RETURN_IF_ERROR(
      rt::checkThinnedFeed(methodName(), layer, state.length, rows,
                           before ? static_cast<int64_t>(before->passed.size()) : -1));
  state.entered.resize(static_cast<size_t>(rows));
  if (!before) {
    std::iota(state.entered.begin(), state.entered.end(), 0);
    return Status::ok();
  }
  for (size_t row = 0; row < state.entered.size(); ++row) {
    state.entered[row] = before->entered[static_cast<size_t>(before->passed[row])];
  }
  return Status::ok();
}

StatusOr<std::vector<int64_t>> ReferenceExecution::passedRows(int64_t layer,
                                                              const rt::Sequence &sequence) const {
  const auto &layers = static_cast<const ReferenceSequence &>(sequence).layers;
  if (layer < 0 || layer >= static_cast<int64_t>(layers.size())) {
    return Status::badInput("expected a layer below " + std::to_string(layers.size()) + ", got " +
                            std::to_string(layer));
  }
  return layers[static_cast<size_t>(layer)].passed;
}

Status ReferenceExecution::feed(StringRef kind, int64_t layer, ReferenceSequence &sequence,
                                const rt::LayerRows &rows, bool wantOutput) {
  if (rows.rows == 0) {
    return Status::ok();
  }
  LayerState &state = sequence.layers[static_cast<size_t>(layer)];
  int64_t window = method_->windowRows();
  if (!rows.q && (wantOutput || neededQueryRows() != 0)) {
    return Status::badInput("layer " + std::to_string(layer) + ": no queries given");
  }
  if (method_->thinsPrompt() && kind == "prefill") {
    KVCACHE_RETURN_IF_ERROR(enter(layer, sequence, rows.rows));
  }
  PhaseOp phase = method_->phase(kind);
  PhaseEvent event;
  event.layer = layer;
  event.budget = sequence.budget();
  // A second pass leaves the prompt as long as it is.
  bool probing = kind == "probe";
  event.length = state.length + (probing ? 0 : rows.rows);
  // Queries that no state depends on need not be there.
  rt::LayerRows given = rows;
  std::vector<float> noQueries;
  if (!given.q) {
    noQueries.assign(static_cast<size_t>(rows.rows * geometry().queryHeads * geometry().headDim),
                     0.0F);
    given.q = noQueries.data();
  }
  event.rows = &given;
  event.recent = &state.recent;
  event.states = &state.states;
  event.requests = &sequence.requests();
  event.promptLength = sequence.knownPromptLength();
  event.step = state.promptRows < 0 ? 0 : event.length - state.promptRows;
  Interpreter in(geometry());
  KVCACHE_RETURN_IF_ERROR(bindArguments(*method_, phase, event, in));
  NextOp next = phase.getNext();
  SmallVector<Value> wanted = ReferenceMethod::statesOf(phase);
  Value output = next.getValueFor("out");
  if (wantOutput && output) {
    wanted.push_back(output);
  }
  Value passed = next.getValueFor("rows");
  if (passed) {
    wanted.push_back(passed);
  }
  KVCACHE_RETURN_IF_ERROR(in.evaluate(phase.getBlock(), wanted));
  if (wantOutput && output && rows.out) {
    KVCACHE_RETURN_IF_ERROR(writeOutput(in.tensor(output), axesOf(output), rows.out));
  }
  for (auto [name, value] : llvm::zip_equal(next.getNames(), next.getValues())) {
    if (auto symbol = dyn_cast<FlatSymbolRefAttr>(name)) {
      state.states[symbol.getValue().str()] = in.valueOf(value);
    }
  }
  if (passed) {
    const Tensor &chosen = in.tensor(passed);
    state.passed.assign(chosen.values.begin(), chosen.values.end());
    KVCACHE_RETURN_IF_ERROR(rt::checkPassedRows(methodName(), layer, rows.rows, state.passed));
  }
  if (probing) {
    return Status::ok();
  }
  state.length += rows.rows;
  state.lastPosition = rows.positions[rows.rows - 1];
  if (window > 0) {
    remember(state.recent, given, window, geometry().queryHeads * geometry().headDim);
  }
  return Status::ok();
}

Status ReferenceExecution::feedAll(StringRef kind, int64_t layer,
                                   const std::vector<rt::Sequence *> &sequences,
                                   const std::vector<rt::LayerRows> &rows, bool wantOutput) {
  KVCACHE_RETURN_IF_ERROR(checkBatch(layer, sequences, rows));
  int64_t chunk = kind == "prefill" ? method_->phase(kind).getChunkRows() : 0;
  if (chunk > 0) {
    return rt::feedInChunks(rows, geometry(), chunk, [&](const std::vector<rt::LayerRows> &parts) {
      for (size_t i = 0; i < parts.size(); ++i) {
        KVCACHE_RETURN_IF_ERROR(feed(kind, layer, ours(sequences[i]), parts[i], wantOutput));
      }
      return Status::ok();
    });
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    if (kind == "decode" && rows[i].rows != 1) {
      return Status::badInput("layer " + std::to_string(layer) + ": decode takes 1 row, got " +
                              std::to_string(rows[i].rows));
    }
    KVCACHE_RETURN_IF_ERROR(feed(kind, layer, ours(sequences[i]), rows[i], wantOutput));
  }
  return Status::ok();
}

Status ReferenceExecution::prefill(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                                   const std::vector<rt::LayerRows> &rows) {
  return feedAll("prefill", layer, sequences, rows, /*wantOutput=*/true);
}

Status ReferenceExecution::ingest(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                                  const std::vector<rt::LayerRows> &rows) {
  return feedAll("prefill", layer, sequences, rows, /*wantOutput=*/false);
}

Status ReferenceExecution::decode(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                                  const std::vector<rt::LayerRows> &rows) {
  return feedAll("decode", layer, sequences, rows, /*wantOutput=*/true);
}

//===-- the end of an event
//-------------------------------------------------------------------------===//

bool ReferenceExecution::isDue(PhaseOp phase, StringRef event, bool dueBefore,
                               const PhaseEvent &given) const {
  if (method_->skips(phase, given.layer)) {
    return false;
  }
  SmallVector<TriggerAttr> triggers = triggersOf(phase);
  if (triggers.empty()) {
    return dueBefore;
  }
  return llvm::any_of(triggers, [&](TriggerAttr trigger) {
    if (trigger.getEvent() != "longer") {
      return trigger.getEvent() == event;
    }
    auto state = given.states->find(trigger.getState().getValue().str());
    const auto *table = state == given.states->end()
                            ? nullptr
                            : std::get_if<std::shared_ptr<const CacheTable>>(&state->second);
    auto limit = dyn_cast_or_null<IntegerAttr>(trigger.getLimit());
    return table && (*table)->maxRows() > (limit ? limit.getInt() : given.budget);
  });
}

Status ReferenceExecution::evaluateYields(PhaseOp phase, const PhaseEvent &event,
                                          Interpreter &in) const {
  KVCACHE_RETURN_IF_ERROR(bindArguments(*method_, phase, event, in));
  return in.evaluate(phase.getBlock(), SmallVector<Value>(phase.getNext().getValues()));
}

Status ReferenceExecution::runPhase(PhaseOp phase, PhaseEvent &event, LayerState &state,
                                    bool atPromptEnd) {
  Interpreter in(geometry());
  KVCACHE_RETURN_IF_ERROR(evaluateYields(phase, event, in));
  NextOp next = phase.getNext();
  for (auto [name, value] : llvm::zip_equal(next.getNames(), next.getValues())) {
    if (auto symbol = dyn_cast<FlatSymbolRefAttr>(name)) {
      state.states[symbol.getValue().str()] = in.valueOf(value);
    } else {
      event.results[cast<StringAttr>(name).getValue().str()] = in.valueOf(value);
    }
  }
  if (atPromptEnd && !in.ranked.axes.empty()) {
    state.scores = std::make_shared<const Tensor>(std::move(in.ranked));
  }
  return Status::ok();
}

PhaseEvent ReferenceExecution::eventOf(int64_t layer, ReferenceSequence &sequence) const {
  LayerState &state = sequence.layers[static_cast<size_t>(layer)];
  PhaseEvent event;
  event.layer = layer;
  event.budget = sequence.budget();
  event.length = state.length;
  event.recent = &state.recent;
  event.draft = &state.draft;
  event.states = &state.states;
  event.requests = &sequence.requests();
  event.promptLength = sequence.knownPromptLength();
  event.step = state.promptRows < 0 ? 0 : event.length - state.promptRows;
  return event;
}

Status ReferenceExecution::runDuePhases(StringRef name, ArrayRef<PhaseOp> phases, PhaseEvent &event,
                                        ReferenceSequence &sequence) {
  LayerState &state = sequence.layers[static_cast<size_t>(event.layer)];
  // A phase without triggers follows the one before it; the first one runs at the end of the
  // prompt.
  bool dueBefore = name == "prompt_end";
  for (StringRef kind : {"score", "allocate", "select", "compress"}) {
    bool any = false, anyDue = false;
    for (PhaseOp phase : phases) {
      if (!phase.hasKind(kind)) {
        continue;
      }
      any = true;
      if (isDue(phase, name, dueBefore, event)) {
        KVCACHE_RETURN_IF_ERROR(runPhase(phase, event, state, name == "prompt_end"));
        anyDue = true;
      }
    }
    dueBefore = any ? anyDue : dueBefore;
  }
  return Status::ok();
}

/// What an encoder yields for the rows of a column that are due.
static StatusOr<Tensor> encodedRows(const ReferenceMethod &method, EncoderOp encoder, int64_t layer,
                                    const Tensor &rows) {
  Interpreter in(method.geometry());
  Block &block = encoder.getBlock();
  for (auto [binding, argument] :
       llvm::zip_equal(encoder.getBindings().getAsRange<BindingAttr>(), block.getArguments())) {
    FlatSymbolRefAttr symbol = binding.getSymbol();
    if (!symbol) {
      KVCACHE_RETURN_IF_ERROR(in.set(argument, rows));
      continue;
    }
    const auto &artefacts = method.artefacts[static_cast<size_t>(layer)];
    auto found = artefacts.find(symbol.getValue().str());
    if (found == artefacts.end()) {
      return Status::badInput("artefact '@" + symbol.getValue().str() +
                              "' has not been calibrated");
    }
    in.bind(argument, found->second);
  }
  KVCACHE_RETURN_IF_ERROR(in.evaluate(block, {encoder.getCodedRows()}));
  return in.tensor(encoder.getCodedRows());
}

Status ReferenceExecution::commit(int64_t layer, LayerState &state) const {
  for (StateOp declared : method_->states()) {
    RuntimeValue &value = state.states[declared.getSymName().str()];
    const auto *table = std::get_if<std::shared_ptr<const CacheTable>>(&value);
    if (!table) {
      continue;
    }
    CacheTable coded = **table;
    std::map<std::string, RowEncoder> encoders;
    for (NamedAttribute entry : declared.getEncodeAttr() ? declared.getEncodeAttr().getValue()
                                                         : ArrayRef<NamedAttribute>()) {
      EncoderOp encoder = method_->encoder(cast<FlatSymbolRefAttr>(entry.getValue()).getAttr());
      encoders[entry.getName().str()] = [this, encoder, layer](const Tensor &rows) {
        return encodedRows(*method_, encoder, layer, rows);
      };
    }
    auto factor = [&](const ColumnSchema &column, int64_t list) {
      return method_->factor(declared, column, layer, list);
    };
    Status status = coded.commit(factor, encoders);
    if (!status.isOk()) {
      return Status(status.code(),
                    "state '@" + declared.getSymName().str() + "': " + status.message());
    }
    value = std::make_shared<const CacheTable>(std::move(coded));
  }
  return Status::ok();
}

Status ReferenceExecution::endEvent(StringRef event, const std::vector<rt::Sequence *> &sequences) {
  bool plans = event == "prompt_end" && method_->plansForAllLayers();
  for (rt::Sequence *sequence : sequences) {
    if (plans) {
      KVCACHE_RETURN_IF_ERROR(planPrompt(ours(sequence)));
    }
    for (int64_t layer = 0; layer < geometry().layers; ++layer) {
      if (!plans) {
        PhaseEvent given = eventOf(layer, ours(sequence));
        KVCACHE_RETURN_IF_ERROR(
            runDuePhases(event, method_->endPhases(), given, ours(sequence)));
      }
      KVCACHE_RETURN_IF_ERROR(commit(layer, ours(sequence).layers[static_cast<size_t>(layer)]));
    }
  }
  return Status::ok();
}

Status ReferenceExecution::promptEnd(const std::vector<rt::Sequence *> &sequences) {
  for (rt::Sequence *sequence : sequences) {
    ours(sequence).forgetProbe();
  }
  KVCACHE_RETURN_IF_ERROR(endEvent("prompt_end", sequences));
  for (rt::Sequence *sequence : sequences) {
    ours(sequence).closePrompt();
  }
  return Status::ok();
}

Status ReferenceExecution::stepEnd(const std::vector<rt::Sequence *> &sequences) {
  return endEvent("step_end", sequences);
}

Status ReferenceExecution::attend(int64_t layer, const rt::Sequence &sequence, int64_t rows,
                                  const float *q, float *out, float *lse) {
  if (layer < 0 || layer >= geometry().layers || rows < 0) {
    return Status::badInput("expected a layer below " + std::to_string(geometry().layers) +
                            " and query rows, got layer " + std::to_string(layer) + " and " +
                            std::to_string(rows) + " rows");
  }
  const auto &mine = static_cast<const ReferenceSequence &>(sequence);
  const LayerState &state = mine.layers[static_cast<size_t>(layer)];
  PhaseOp phase = method_->phase("query");
  // A probe stands where the next token would.
  std::vector<int32_t> positions(static_cast<size_t>(rows), state.lastPosition + 1);
  rt::LayerRows given;
  given.rows = rows;
  given.q = q;
  given.positions = positions.data();
  PhaseEvent event;
  event.layer = layer;
  event.budget = mine.budget();
  event.length = state.length;
  event.rows = &given;
  event.states = &state.states;
  event.requests = &mine.requests();
  event.promptLength = mine.knownPromptLength();
  event.step = state.promptRows < 0 ? 0 : event.length - state.promptRows;
  Interpreter in(geometry());
  KVCACHE_RETURN_IF_ERROR(bindArguments(*method_, phase, event, in));
  Value output = phase.getNext().getValueFor("out");
  KVCACHE_RETURN_IF_ERROR(in.evaluate(phase.getBlock(), {output}));
  KVCACHE_RETURN_IF_ERROR(writeOutput(in.tensor(output), axesOf(output), out));
  for (int64_t row = 0; lse && row < rows; ++row) {
    for (int64_t head = 0; head < geometry().queryHeads;
         ++head) { // [head, group] is the query head
      lse[row * geometry().queryHeads + head] =
          static_cast<float>(in.lastLse.values[static_cast<size_t>(head * rows + row)]);
    }
  }
  return Status::ok();
}

//===-- report
//-----------------------------------------------------------------------------------------===//

std::vector<rt::KernelReport> ReferenceExecution::kernels() const {
  std::vector<rt::KernelReport> reports;
  MethodOp method = method_->op();
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    rt::KernelReport report;
    report.name = cast<StringAttr>(phase.getKinds()[0]).getValue().str();
    report.target = "reference";
    report.status = "reference";
    report.reason = "the reference target evaluates each op by itself";
    llvm::StringSet<> seen;
    for (Operation &op : phase.getBlock().without_terminator()) {
      if (seen.insert(op.getName().getStringRef()).second) {
        report.ops.push_back(op.getName().getStringRef().str());
      }
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

} // namespace mlir::kvcache::reference

namespace mlir::kvcache {

FailureOr<std::unique_ptr<::kvcache::rt::Execution>>
createReferenceExecution(MethodOp method, const ::kvcache::rt::Geometry &geometry) {
  FailureOr<std::unique_ptr<reference::ReferenceMethod>> bound =
      reference::ReferenceMethod::create(method, geometry);
  if (failed(bound)) {
    return failure();
  }
  return std::unique_ptr<::kvcache::rt::Execution>(
      std::make_unique<reference::ReferenceExecution>(std::move(*bound)));
}

} // namespace mlir::kvcache
