// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Making artefacts: from the rows of all texts at once, or from the means of what single sequences
// yield.

#include "passes/compose/Scopes.h"
#include "targets/reference/LayerStack.h"
#include "targets/reference/ReferenceExecution.h"

namespace mlir::kvcache::reference {

Status ReferenceExecution::calibrate(int64_t layer, const rt::LayerRows &rows) {
  KVCACHE_RETURN_IF_ERROR(checkBatch(layer, {nullptr}, {rows}));
  Samples &samples = samples_[static_cast<size_t>(layer)];
  int64_t kv = rows.rows * geometry().kvHeads * geometry().headDim,
          all = rows.rows * geometry().queryHeads * geometry().headDim;
  auto add = [](std::vector<float> &to, const float *from, int64_t count) {
    if (from) {
      to.insert(to.end(), from, from + count);
    }
  };
  add(samples.q, rows.q, all);
  add(samples.k, rows.k, kv);
  add(samples.v, rows.v, kv);
  add(samples.kPre, rows.kPre, kv);
  samples.positions.insert(samples.positions.end(), rows.positions, rows.positions + rows.rows);
  return Status::ok();
}

SmallVector<PhaseOp> ReferenceExecution::sampledPhases() const {
  SmallVector<PhaseOp> sampled;
  for (PhaseOp phase : method_->phases("calibrate")) {
    if (calibrationSource(phase)) {
      sampled.push_back(phase);
    }
  }
  return sampled;
}

std::vector<rt::CalibrationSource> ReferenceExecution::calibrationSources() const {
  std::vector<rt::CalibrationSource> sources;
  for (PhaseOp phase : sampledPhases()) {
    TriggerAttr source = calibrationSource(phase);
    auto sizes = cast<ArrayAttr>(source.getLimit());
    sources.push_back({source.getEvent().str(), cast<IntegerAttr>(sizes[0]).getInt(),
                       cast<IntegerAttr>(sizes[1]).getInt()});
  }
  return sources;
}

Status ReferenceExecution::calibrateSequence(size_t source,
                                             const std::vector<rt::LayerRows> &layers,
                                             const rt::RequestTables &tables) {
  SmallVector<PhaseOp> sampled = sampledPhases();
  if (source >= sampled.size() || static_cast<int64_t>(layers.size()) != geometry().layers) {
    return Status::internal("a sequence of no source, or of another number of layers, is given");
  }
  PhaseOp phase = sampled[source];
  NextOp next = phase.getNext();
  for (int64_t layer = 0; layer < geometry().layers; ++layer) {
    const rt::LayerRows &rows = layers[static_cast<size_t>(layer)];
    KVCACHE_RETURN_IF_ERROR(checkBatch(layer, {nullptr}, {rows}));
    RecentQueries queries;
    if (rows.q) {
      int64_t values = rows.rows * geometry().queryHeads * geometry().headDim;
      queries.q.assign(rows.q, rows.q + values);
      queries.positions.assign(rows.positions, rows.positions + rows.rows);
    }
    std::map<std::string, RuntimeValue> states;
    for (StateOp state : method_->states()) {
      StatusOr<RuntimeValue> value = method_->initialState(state);
      KVCACHE_RETURN_IF_ERROR(value.status());
      states[state.getSymName().str()] = *value;
    }
    PhaseEvent event;
    event.layer = layer;
    event.length = rows.rows;
    event.rows = &rows;
    event.recent = &queries;
    event.states = &states;
    event.requests = &tables;
    Interpreter in(geometry());
    KVCACHE_RETURN_IF_ERROR(evaluateYields(phase, event, in));
    for (auto [name, value] : llvm::zip_equal(next.getNames(), next.getValues())) {
      Sums &sums = sums_[cast<StringAttr>(name).getValue().str()];
      sums.layers.resize(layers.size());
      Tensor &sum = sums.layers[static_cast<size_t>(layer)];
      const Tensor &one = in.tensor(value);
      if (sums.sequences == 0) {
        sum = one;
      } else if (sum.values.size() != one.values.size()) {
        return Status::badInput("'" + cast<StringAttr>(name).getValue().str() +
                                "': its mean over sequences is taken, expected the same extents in "
                                "each of them");
      } else {
        std::transform(sum.values.begin(), sum.values.end(), one.values.begin(), sum.values.begin(),
                       std::plus<>());
      }
      sums.sequences += layer + 1 == geometry().layers ? 1 : 0;
    }
  }
  return Status::ok();
}

Status ReferenceExecution::calibrateOnRows(PhaseOp phase, int64_t layer) {
  const Samples &samples = samples_[static_cast<size_t>(layer)];
  rt::LayerRows rows;
  rows.rows = static_cast<int64_t>(samples.positions.size());
  if (rows.rows == 0) {
    return Status::badInput("layer " + std::to_string(layer) + ": no calibration rows given");
  }
  rows.q = samples.q.empty() ? nullptr : samples.q.data();
  rows.k = samples.k.data();
  rows.v = samples.v.data();
  rows.kPre = samples.kPre.empty() ? nullptr : samples.kPre.data();
  rows.positions = samples.positions.data();
  PhaseEvent event;
  event.layer = layer;
  event.length = rows.rows;
  event.rows = &rows;
  return makeArtefacts(phase, event, layer, layer + 1);
}

/// Runs a phase and gives what it yields to the layers [first, end).
Status ReferenceExecution::makeArtefacts(PhaseOp phase, const PhaseEvent &event, int64_t first,
                                         int64_t end) {
  Interpreter in(geometry());
  KVCACHE_RETURN_IF_ERROR(evaluateYields(phase, event, in));
  NextOp next = phase.getNext();
  for (auto [name, value] : llvm::zip_equal(next.getNames(), next.getValues())) {
    auto symbol = dyn_cast<FlatSymbolRefAttr>(name);
    for (int64_t layer = first; symbol && layer < end; ++layer) {
      method_->artefacts[static_cast<size_t>(layer)][symbol.getValue().str()] = in.valueOf(value);
    }
  }
  return Status::ok();
}

Status ReferenceExecution::calibrateModel(PhaseOp phase) {
  PhaseEvent all;
  for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
    std::string name = binding.getRole().str();
    if (binding.getSymbol() || name == "layers") {
      continue;
    }
    auto found = sums_.find(name);
    if (found == sums_.end()) {
      return Status::badInput("method '" + methodName() + "': calibration got no sequences for '" +
                              name + "'");
    }
    std::vector<RuntimeValue> means;
    for (Tensor mean : found->second.layers) {
      for (double &value : mean.values) {
        value /= static_cast<double>(found->second.sequences);
      }
      means.push_back(valueOf(std::move(mean)));
    }
    StatusOr<RuntimeValue> stacked = stackLayers(means);
    KVCACHE_RETURN_IF_ERROR(stacked.status());
    all.results[name] = *stacked;
  }
  return makeArtefacts(phase, all, 0, geometry().layers);
}

Status ReferenceExecution::finishCalibration() {
  for (PhaseOp phase : method_->phases("calibrate")) {
    if (phase.getModelScope()) {
      KVCACHE_RETURN_IF_ERROR(calibrateModel(phase));
      continue;
    }
    for (int64_t layer = 0; layer < geometry().layers && !calibrationSource(phase); ++layer) {
      KVCACHE_RETURN_IF_ERROR(calibrateOnRows(phase, layer));
    }
  }
  samples_.assign(samples_.size(), Samples());
  sums_.clear();
  return Status::ok();
}

} // namespace mlir::kvcache::reference
