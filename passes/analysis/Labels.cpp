// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each label is one question about where values come from.

#include "passes/analysis/Labels.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/MethodOps.h"
#include "dialect/RowOps.h"
#include "dialect/ScoreOps.h"

namespace mlir::kvcache {

namespace {

/// Phases and programs that run at the end of an event rather than with its rows.
bool endsEvent(PhaseOp phase) {
  return llvm::any_of(ArrayRef<StringRef>{"score", "allocate", "select", "compress"},
                      [&](StringRef kind) { return phase.hasKind(kind); });
}

struct Facts {
  bool dropsRows = false;    ///< a gather of a cache
  bool rewritesRows = false; ///< set_column of k or v
  bool keepsPerHead = false; ///< some gather takes other rows for each head
  bool queriesAtEnd =
      false; ///< an end-of-event phase takes queries, or statistics of attention decide
  bool dropsBeforeEnd = false; ///< prefill itself takes rows out
  bool thinsPrompt = false;    ///< layers pass on fewer rows of the prompt than they see
  bool extraPass = false;      ///< the model runs again before the prompt ends
  bool artefacts = false;      ///< that calibration makes
  bool trained = false;        ///< artefacts from a file
};

/// Statistics of attention that a column carries from prefill to a selection.
bool usesStatistics(PhaseOp phase) {
  bool found = false;
  phase.walk([&](Operation *op) {
    auto attend = dyn_cast<AttendOp>(op);
    found = found || isa<ScoreAttentionOp, ScoreReduceOp>(op) ||
            (attend && !attend.getStatistics().empty());
  });
  return found;
}

Facts factsOf(MethodOp method) {
  Facts facts;
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    facts.extraPass = facts.extraPass || phase.hasKind("probe") || phase.hasKind("draft");
    if (phase.hasKind("draft") || phase.hasKind("calibrate")) {
      continue; // what it takes out is missing from a copy alone, and no rows of a prompt are there
    }
    bool ends = endsEvent(phase);
    phase.walk([&](GatherOp gather) {
      if (!isa<CacheType>(gather.getType())) {
        return;
      }
      facts.dropsRows = true;
      facts.keepsPerHead = facts.keepsPerHead || findAxisOfKind(axesOf(gather.getAt()), "head");
      facts.dropsBeforeEnd = facts.dropsBeforeEnd || phase.hasKind("prefill");
    });
    phase.walk([&](NextOp next) {
      bool passes = static_cast<bool>(next.getValueFor("rows"));
      facts.thinsPrompt = facts.thinsPrompt || passes;
      facts.dropsBeforeEnd = facts.dropsBeforeEnd || passes;
    });
    phase.walk([&](SetColumnOp set) {
      for (StringAttr column : set.getColumns().getAsRange<StringAttr>()) {
        facts.rewritesRows =
            facts.rewritesRows || column.getValue() == "k" || column.getValue() == "v";
      }
    });
    if (ends) {
      for (auto [binding, argument] : llvm::zip_equal(phase.getBindings().getAsRange<BindingAttr>(),
                                                      phase.getBlock().getArguments())) {
        bool queries = binding.getRole() == "last_queries" || binding.getRole() == "draft_queries";
        facts.queriesAtEnd = facts.queriesAtEnd || (queries && !argument.use_empty());
      }
    } else if (phase.hasKind("prefill") || phase.hasKind("probe")) {
      facts.queriesAtEnd = facts.queriesAtEnd || usesStatistics(phase);
    }
  }
  for (auto artefact : method.getBody().front().getOps<ArtefactOp>()) {
    (artefact.getFromFile() ? facts.trained : facts.artefacts) = true;
  }
  return facts;
}

} // namespace

std::vector<std::string> legalityLabels(MethodOp method) {
  Facts facts = factsOf(method);
  std::vector<std::string> labels;
  if (!facts.dropsRows && !facts.rewritesRows) {
    labels.push_back("append-only");
  }
  if (!facts.keepsPerHead) {
    labels.push_back("page-safe");
  }
  if (!facts.dropsBeforeEnd) {
    labels.push_back("chunked-prefill-honest");
  }
  bool loses = facts.dropsRows || facts.rewritesRows || facts.thinsPrompt;
  labels.push_back(facts.queriesAtEnd && loses ? "needs-question" : "multi-turn-safe");
  if (facts.extraPass) {
    labels.push_back("needs-extra-pass");
  }
  if (facts.artefacts) {
    labels.push_back("needs-calibration");
  }
  if (facts.trained) {
    labels.push_back("needs-training");
  }
  return labels;
}

} // namespace mlir::kvcache
