// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of phases that let the model run again before a prompt ends: probe, draft, and the queries
// of drafted tokens. Markers C8.. refer to the phase in MethodOps.td.

#include "dialect/Axes.h"
#include "dialect/KVCacheTypes.h"
#include "dialect/MethodOps.h"
#include "dialect/MethodSymbols.h"

#include "llvm/ADT/STLExtras.h"

#include <cstdint>

namespace mlir::kvcache {

/// A second pass has nothing but its rows and states.
static LogicalResult verifyProbe(PhaseOp phase) {
  if (phase.getTriggers()) { // C8
    return phase.emitOpError("probe: expected no trigger: it runs for the rows of the second pass");
  }
  for (auto [binding, type] : llvm::zip_equal(phase.getBindings().getAsRange<BindingAttr>(),
                                              phase.getBlock().getArgumentTypes())) {
    if (binding.getRole() == "request" && findAxisOfKind(axesOf(type), "query")) { // C8
      return phase.emitOpError() << "probe: expected no rows of '" << binding.str()
                                 << "': tables are about the prompt, once";
    }
  }
  NextOp next = phase.getNext();
  for (Attribute name : next.getNames()) {
    auto word = dyn_cast<StringAttr>(name);
    if (word && word.getValue() != "out") { // C8
      return phase.emitOpError() << "probe: expected results out and @state, got '"
                                 << word.getValue() << "'";
    }
  }
  return success();
}

/// A draft makes caches, from what is there when a prompt has been read.
static LogicalResult verifyDraft(PhaseOp phase) {
  if (phase.getTriggers()) { // C9
    return phase.emitOpError("draft: expected no trigger: it runs at the end of the prompt");
  }
  for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
    if (llvm::is_contained({"query", "key", "value", "pos", "ids", "rows", "step"},
                           binding.getRole())) { // C9
      return phase.emitOpError() << "draft: expected what there is at the end of a prompt, got '"
                                 << binding.str() << "'";
    }
  }
  bool keep = false, caches = false;
  for (auto [name, value] :
       llvm::zip_equal(phase.getNext().getNames(), phase.getNext().getValues())) {
    auto word = dyn_cast<StringAttr>(name);
    keep |= word && word.getValue() == "keep" && isa<IndexSetType>(value.getType());
    caches |= !word && isa<CacheType>(value.getType());
  }
  if (keep == caches || phase.getNext().getNames().size() > (keep ? 1 : SIZE_MAX)) { // C9
    return phase.emitOpError("draft: expected one result keep, an index set, or new caches");
  }
  return success();
}

LogicalResult verifySecondLook(PhaseOp phase, MethodOp method) {
  if (phase.getBody().empty() || phase.getBlock().empty() ||
      !isa<NextOp>(phase.getBlock().back())) {
    return success(); // its own check says so
  }
  if ((phase.hasKind("probe") && failed(verifyProbe(phase))) ||
      (phase.hasKind("draft") && failed(verifyDraft(phase)))) {
    return failure();
  }
  for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
    if (binding.getRole() != "draft_queries") {
      continue;
    }
    auto most = dyn_cast<IntegerAttr>(binding.getArgument());
    bool none = most && most.getInt() == 0; // a draft of no tokens is none
    bool ends = llvm::all_of(phase.getKinds().getAsRange<StringAttr>(), [](StringAttr kind) {
      return llvm::is_contained({"score", "allocate", "select", "prompt_score", "prompt_end"},
                                kind.getValue());
    });
    if (!ends) { // C10
      return phase.emitOpError("draft_queries: expected a phase score, allocate or select");
    }
    bool drafts = llvm::any_of(method.getBody().front().getOps<PhaseOp>(), [](PhaseOp other) {
      return other.hasKind("draft") || other.hasKind("draft_end");
    });
    if (!drafts && !none && !hasBase(method)) { // C10
      return phase.emitOpError("draft_queries: expected a phase draft in the method");
    }
  }
  return success();
}

} // namespace mlir::kvcache
