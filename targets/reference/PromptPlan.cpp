// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The end of a prompt where phases of model scope plan for all layers: each layer's phases before
// them, they once, each layer's phases behind them.

#include "targets/reference/LayerStack.h"
#include "targets/reference/ReferenceExecution.h"

#include "passes/compose/Scopes.h"

namespace mlir::kvcache::reference {

/// The names that a phase takes from others.
static std::vector<std::string> takenBy(PhaseOp phase) {
  std::vector<std::string> names;
  for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
    if (!binding.getSymbol()) {
      names.push_back(binding.getRole().str());
    }
  }
  return names;
}

Status ReferenceExecution::runModelPhase(PhaseOp phase, PhaseEvent &all,
                                         std::vector<PhaseEvent> &layers) {
  for (const std::string &name : takenBy(phase)) {
    if (all.results.count(name) || !layers.front().results.count(name)) {
      continue;
    }
    std::vector<RuntimeValue> values;
    for (PhaseEvent &event : layers) {
      values.push_back(event.results[name]);
    }
    StatusOr<RuntimeValue> stacked = stackLayers(values);
    if (!stacked.isOk()) {
      return Status(stacked.status().code(), "'" + name + "': " + stacked.status().message());
    }
    all.results[name] = *stacked;
  }
  LayerState none;
  KVCACHE_RETURN_IF_ERROR(runPhase(phase, all, none, /*atPromptEnd=*/false));
  for (Attribute attr : phase.getNext().getNames()) {
    std::string name = cast<StringAttr>(attr).getValue().str();
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      StatusOr<RuntimeValue> part = layerOf(all.results[name], static_cast<int64_t>(layer));
      KVCACHE_RETURN_IF_ERROR(part.status());
      layers[layer].results[name] = *part;
    }
  }
  return Status::ok();
}

Status ReferenceExecution::planPrompt(ReferenceSequence &sequence) {
  PromptEnd end = promptEndOf(method_->op());
  std::vector<PhaseEvent> events;
  for (int64_t layer = 0; layer < geometry().layers; ++layer) {
    events.push_back(eventOf(layer, sequence));
    KVCACHE_RETURN_IF_ERROR(runDuePhases("prompt_end", end.before, events.back(), sequence));
  }
  PhaseEvent all = eventOf(0, sequence);
  all.states = nullptr;
  all.recent = nullptr;
  for (PhaseOp phase : end.model) {
    KVCACHE_RETURN_IF_ERROR(runModelPhase(phase, all, events));
  }
  for (PhaseEvent &event : events) {
    KVCACHE_RETURN_IF_ERROR(runDuePhases("prompt_end", end.after, event, sequence));
  }
  return Status::ok();
}

} // namespace mlir::kvcache::reference
