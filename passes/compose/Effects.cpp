// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What would be compiled without doing anything. Methods that are right on their own can meet in
// such a way: one ranks, and the other selects without asking; one codes a cache, and the other
// keeps its rows elsewhere.

#include "passes/compose/Compose.h"

#include "dialect/CacheOps.h"
#include "dialect/KVCacheTypes.h"
#include "dialect/MethodOps.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"

namespace mlir::kvcache {

namespace {

/// Whether the phase may add rows to the cache: those of an event, or any that it appends.
bool addsRows(PhaseOp phase, StateOp state) {
  if (!phase.getNext().getValueFor(("@" + state.getSymName()).str())) {
    return false;
  }
  bool ofEvent = phase.hasKind("prefill") || phase.hasKind("decode");
  return ofEvent || phase
                        .walk([&](AppendOp append) {
                          return append.getType() == state.getType() ? WalkResult::interrupt()
                                                                     : WalkResult::advance();
                        })
                        .wasInterrupted();
}

/// `'decode' adds rows to '@raw'`: where rows of an event go.
void noteWhereRowsGo(InFlightDiagnostic &error, MethodOp method) {
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    for (Attribute name : phase.getNext().getNames()) {
      auto state = dyn_cast<FlatSymbolRefAttr>(name);
      if (state && phase.hasKind("decode")) {
        error.attachNote(phase.getLoc()) << "this 'decode' adds rows to " << state
                                         << "; expected both methods to keep rows in one state";
        return;
      }
    }
  }
}

LogicalResult checkStates(MethodOp method) {
  auto phases = method.getBody().front().getOps<PhaseOp>();
  for (auto state : method.getBody().front().getOps<StateOp>()) {
    if (!isa<CacheType>(state.getType()) ||
        llvm::any_of(phases, [&](PhaseOp phase) { return addsRows(phase, state); })) {
      continue;
    }
    InFlightDiagnostic error = state.emitError() << "state '@" << state.getSymName()
                                                 << "' stays empty: no phase adds rows to it";
    noteWhereRowsGo(error, method);
    return error;
  }
  return success();
}

bool endsEvent(StringRef kind) {
  return llvm::is_contained({"score", "allocate", "select", "compress"}, kind);
}

/// Rows of an event are there while it runs; phases that end it have the cache.
LogicalResult checkRows(MethodOp method) {
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    StringRef kind = cast<StringAttr>(phase.getKinds()[0]).getValue();
    for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
      StringRef role = binding.getRole();
      if (endsEvent(kind) && llvm::is_contained({"query", "key", "value", "pos", "ids"}, role)) {
        return phase.emitError() << "'" << role << "': a phase '" << kind
                                 << "' runs when the rows of the event have gone by; expected "
                                 << (role == "query" ? "last_queries(n)"
                                                     : "a column of a cache, set in prefill");
      }
    }
  }
  return success();
}

/// Phases that end an event yield what later ones take; one whose results nobody takes decides
/// nothing.
LogicalResult checkResults(MethodOp method) {
  llvm::StringSet<> taken;
  auto phases = method.getBody().front().getOps<PhaseOp>();
  for (PhaseOp phase : phases) {
    for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
      taken.insert(binding.getRole());
    }
  }
  for (PhaseOp phase : phases) {
    StringRef kind = cast<StringAttr>(phase.getKinds()[0]).getValue();
    ArrayAttr names = phase.getNext().getNames();
    if (!endsEvent(kind) || names.empty() || llvm::any_of(names, [&](Attribute name) {
          auto word = dyn_cast<StringAttr>(name);
          return !word || taken.contains(word.getValue());
        })) {
      continue;
    }
    StringRef result = cast<StringAttr>(names[0]).getValue();
    StringRef taker = kind == "select" ? "compress" : "select";
    InFlightDiagnostic error = phase.emitError()
                               << "phase '" << kind << "' yields '" << result
                               << "', which no phase takes: it would decide nothing";
    for (PhaseOp other : phases) {
      if (other.hasKind(taker)) {
        error.attachNote(other.getLoc())
            << "expected this '" << taker << "' to take '" << result << "'";
        break;
      }
    }
    return error;
  }
  return success();
}

} // namespace

LogicalResult checkEffects(MethodOp method) {
  return failure(failed(checkRows(method)) || failed(checkStates(method)) ||
                 failed(checkResults(method)));
}

} // namespace mlir::kvcache
