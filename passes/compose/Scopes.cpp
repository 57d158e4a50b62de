// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Order and types of the phases that end an event. Invariant: both targets run the phases in the
// order found here.

#include "passes/compose/Scopes.h"

#include "dialect/KVCacheTypes.h"
#include "dialect/LayerAxis.h"
#include "dialect/MethodOps.h"
#include "dialect/MethodSymbols.h"

#include "mlir/IR/Builders.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

namespace mlir::kvcache {

static bool runsAt(PhaseOp phase, StringRef event) {
  ArrayAttr triggers = phase.getTriggersAttr();
  if (!triggers) {
    return event == "prompt_end";
  }
  return llvm::any_of(triggers.getAsRange<TriggerAttr>(), [&](TriggerAttr trigger) {
    return trigger.getEvent() == event || trigger.getEvent() == "longer";
  });
}

SmallVector<PhaseOp> phasesAt(MethodOp method, StringRef event) {
  SmallVector<PhaseOp> due;
  for (StringRef kind : {"score", "allocate", "select", "compress"}) {
    for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
      if (phase.hasKind(kind) && runsAt(phase, event)) {
        due.push_back(phase);
      }
    }
  }
  return due;
}

int64_t draftSteps(MethodOp method) {
  int64_t steps = 0;
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
      if (binding.getRole() == "draft_queries") {
        steps = std::max(steps, cast<IntegerAttr>(binding.getArgument()).getInt());
      }
    }
  }
  return steps;
}

TriggerAttr calibrationSource(PhaseOp phase) {
  ArrayAttr triggers = phase.getTriggersAttr();
  return phase.hasKind("calibrate") && triggers && !triggers.empty()
             ? cast<TriggerAttr>(triggers[0])
             : TriggerAttr();
}

PromptEnd promptEndOf(MethodOp method) {
  PromptEnd end;
  SmallVector<PhaseOp> due = phasesAt(method, "prompt_end");
  bool anyModel = llvm::any_of(due, [](PhaseOp phase) { return phase.getModelScope(); });
  for (PhaseOp phase : due) {
    if (phase.getModelScope()) {
      end.model.push_back(phase);
    } else {
      (anyModel && end.model.empty() ? end.before : end.after).push_back(phase);
    }
  }
  return end;
}

void dropUntakenResults(MethodOp method) {
  llvm::StringSet<> taken;
  SmallVector<PhaseOp> phases(method.getBody().front().getOps<PhaseOp>());
  for (PhaseOp phase : phases) {
    for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
      taken.insert(binding.getRole());
    }
  }
  for (PhaseOp phase : phases) {
    NextOp next = phase.getNext();
    SmallVector<Attribute> names;
    SmallVector<Value> values;
    for (auto [name, value] : llvm::zip_equal(next.getNames(), next.getValues())) {
      auto word = dyn_cast<StringAttr>(name);
      if (!word || isResultRole(word.getValue()) || taken.contains(word.getValue())) {
        names.push_back(name);
        values.push_back(value);
      }
    }
    if (names.size() != next.getNames().size()) {
      next.setNamesAttr(ArrayAttr::get(method.getContext(), names));
      next.getValuesMutable().assign(values);
    }
  }
}

namespace {

/// Where a phase stands among those that end a prompt, or that calibrate.
enum class Place { Before, Model, After };

/// What the phases so far yield, by name.
class Yielded {
public:
  void add(PhaseOp phase, Place place) {
    NextOp next = phase.getNext();
    for (auto [name, value] : llvm::zip_equal(next.getNames(), next.getValues())) {
      if (auto word = dyn_cast<StringAttr>(name)) {
        known_[word.getValue()] = {value.getType(), place};
      }
    }
  }

  /// Whether `phase` takes what was yielded as the type that it has in the scope of `phase`.
  LogicalResult check(PhaseOp phase, Place place) const {
    for (auto [binding, type] : llvm::zip_equal(phase.getBindings().getAsRange<BindingAttr>(),
                                                phase.getBlock().getArgumentTypes())) {
      auto found = known_.find(binding.getRole());
      if (found != known_.end() && found->second.place != place &&
          failed(checkCrossing(phase, binding, type, found->second.type, found->second.place,
                               place))) {
        return failure();
      }
    }
    return success();
  }

private:
  static LogicalResult checkCrossing(PhaseOp phase, BindingAttr binding, Type taken, Type made,
                                     Place from, Place to) {
    if (!isa<AxisTensorType, IndexSetType>(made)) {
      return phase.emitError()
             << "'" << binding.getRole() << "' is " << made
             << " where it is yielded: only tensors and index sets cross between phases of one "
                "layer and phases of model scope";
    }
    Type expected = from == Place::Model ? typeOfOneLayer(made) : made;
    Type given = to == Place::Model ? typeOfOneLayer(taken) : taken;
    if (expected && given == expected) {
      return success();
    }
    return phase.emitError()
           << "phase takes '" << binding.getRole() << "' as " << taken
           << ", but an earlier phase yields " << made
           << (to == Place::Model ? " for each layer; expected the axis 'layer:L' in front"
               : from == Place::Model
                   ? " for all layers; expected its part without 'layer:L' in front"
                   : "");
  }

  struct Result {
    Type type;
    Place place;
  };
  llvm::StringMap<Result> known_;
};

LogicalResult checkModelPhase(PhaseOp phase, MethodOp method) {
  bool calibrates = phase.hasKind("calibrate");
  ArrayAttr triggers = phase.getTriggersAttr();
  bool other = triggers &&
               llvm::any_of(triggers.getAsRange<TriggerAttr>(),
                            [](TriggerAttr trigger) { return trigger.getEvent() != "prompt_end"; });
  if (other) {
    return phase.emitError(
        "scope(model): a step ends in one layer after the other, and so does what grows longer "
        "than its budget; expected on(prompt_end)");
  }
  if (phase.getExceptAttr()) {
    return phase.emitError(
        "scope(model): the phase runs for all layers; expected no layers(except(..))");
  }
  for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
    FlatSymbolRefAttr symbol = binding.getSymbol();
    Operation *target = symbol ? lookupInMethod(method, symbol) : nullptr;
    auto artefact = dyn_cast_or_null<ArtefactOp>(target);
    bool ofModel = artefact && typeOfOneLayer(artefact.getType());
    if (symbol && !ofModel && !isa_and_nonnull<ParamOp>(target)) {
      return phase.emitError() << "scope(model): expected results of phases, parameters and artefacts with "
                                  "an axis layer:L, got "
                               << symbol << ", which each layer has its own of";
    }
  }
  for (Attribute name : phase.getNext().getNames()) {
    auto symbol = dyn_cast<FlatSymbolRefAttr>(name);
    auto artefact =
        symbol ? dyn_cast_or_null<ArtefactOp>(lookupInMethod(method, symbol)) : ArtefactOp();
    if (calibrates && (!artefact || !typeOfOneLayer(artefact.getType()))) {
      return phase.emitError() << "scope(model): expected artefacts with an axis layer:L of a phase "
                                  "calibrate, got "
                               << name;
    }
    if (symbol && !calibrates) {
      return phase.emitError() << "scope(model): expected named results, got a new value of "
                               << name;
    }
  }
  return success();
}

/// Phases calibrate: those that see sequences yield for those of model scope, which stand behind them.
LogicalResult checkCalibration(MethodOp method) {
  Yielded yielded;
  llvm::StringSet<> names;
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    if (!phase.hasKind("calibrate")) {
      continue;
    }
    for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
      bool known = binding.getSymbol() || names.contains(binding.getRole());
      bool number = binding.getRole() == "layers";
      if (phase.getModelScope() ? !known && !number : names.contains(binding.getRole())) {
        return phase.emitError() << "calibrate: expected "
                                 << (phase.getModelScope() ? "what an earlier phase calibrate yields"
                                                           : "scope(model) to take means over sequences")
                                 << ", got '" << binding.getRole() << "'";
      }
    }
    if (phase.getModelScope()) {
      if (failed(yielded.check(phase, Place::Model))) {
        return failure();
      }
      continue;
    }
    yielded.add(phase, Place::Before);
    for (Attribute name : phase.getNext().getNames()) {
      auto word = dyn_cast<StringAttr>(name);
      if (word && !names.insert(word.getValue()).second) {
        return phase.emitError() << "calibrate: another phase yields '" << word.getValue() << "', too";
      }
    }
  }
  return success();
}

} // namespace

LogicalResult checkScopes(MethodOp method) {
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    if (phase.getModelScope() && failed(checkModelPhase(phase, method))) {
      return failure();
    }
  }
  if (failed(checkCalibration(method))) {
    return failure();
  }
  PromptEnd end = promptEndOf(method);
  if (end.model.empty()) {
    return success();
  }
  PhaseOp between;
  for (PhaseOp phase : phasesAt(method, "prompt_end")) {
    if (!phase.getModelScope()) {
      between = llvm::is_contained(end.after, phase) ? phase : between;
    } else if (between) {
      InFlightDiagnostic error =
          phase.emitError("scope(model): expected the phases of model scope to follow each other");
      error.attachNote(between.getLoc()) << "this phase of one layer stands between them";
      return error;
    }
  }
  for (PhaseOp phase : end.before) {
    if (phase.getExceptAttr()) {
      return phase.emitError(
          "layers(except(..)): a phase of model scope follows, which plans from what every layer "
          "yields");
    }
  }
  Yielded yielded;
  std::pair<Place, ArrayRef<PhaseOp>> parts[] = {
      {Place::Before, end.before}, {Place::Model, end.model}, {Place::After, end.after}};
  for (auto &[place, phases] : parts) {
    for (PhaseOp phase : phases) {
      if (failed(yielded.check(phase, place))) {
        return failure();
      }
      yielded.add(phase, place);
    }
  }
  return success();
}

} // namespace mlir::kvcache
