// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The phases that end an event, in the order they run, and what holds of phases of model scope
// among them.

#pragma once

#include "dialect/MethodOps.h"

namespace mlir::kvcache {

/// The phases score, allocate, select and compress that run at `event` (prompt_end or step_end), in
/// their order. Without triggers a phase runs at the end of the prompt.
SmallVector<PhaseOp> phasesAt(MethodOp method, StringRef event);

/// The most rows of draft_queries that a phase of a specialized method takes: how many tokens are drafted.
int64_t draftSteps(MethodOp method);

/// The trigger of a phase calibrate that names the sequences it sees (text, repeat, needle); null for
/// other phases, and for one that sees the rows of all texts at once.
TriggerAttr calibrationSource(PhaseOp phase);

/// What ends a prompt around its phases of model scope: those of each layer before, those of all
/// layers, those of each layer behind. Without phases of model scope all are behind.
struct PromptEnd {
  SmallVector<PhaseOp> before, model, after;
};
PromptEnd promptEndOf(MethodOp method);

/// Drops results of phases that have a name of their own and that no phase takes: a phase which
/// `when` has left out may have been the one.
void dropUntakenResults(MethodOp method);

/// Checks, for the phases of model scope of a composed method, that they end the prompt, follow
/// each other, and plan from what every layer yields; and that what crosses between scopes is a
/// tensor or an index set, with the axis `layer` in front where all layers are seen. The same of
/// phases calibrate, which yield artefacts there. Emits one diagnostic on failure.
LogicalResult checkScopes(MethodOp method);

} // namespace mlir::kvcache
