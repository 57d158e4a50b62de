// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From phases to programs: what the executor runs at each event of a sequence.

#pragma once

#include "mlir/Support/LLVM.h"

namespace mlir::kvcache {

class MethodOp;

/// Replaces the phases of a specialized method by programs, which are phases of these kinds:
///   prefill, decode   as written
///   ingest            prefill without its attention output and all that only served it
///   probe             as written
///   draft_end         the draft phase, where tokens are drafted
///   attend            the query phase
///   prompt_end, step_end   score, allocate, select, compress of this event in a row; phases on
///                     `longer(@state, budget)` stand inside an scf.if on the row count
///   prompt_score, prompt_model   where phases of model scope end the prompt: what precedes them in each
///                     layer, and they; prompt_end is then what follows in each layer. Named results
///                     cross between the three, with an axis `layer` in front in prompt_model
///   calibrate         what sees all rows at once as one program; each phase that sees sequences as one
///                     with its trigger. calibrate_model: those of model scope
/// Values flow between phases as SSA values; states are block arguments and results of `next`.
/// Emits a diagnostic when a phase needs a result that no earlier phase of the event yields.
LogicalResult formPrograms(MethodOp method);

} // namespace mlir::kvcache
