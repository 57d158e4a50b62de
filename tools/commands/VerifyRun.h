// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `run --verify`: the prompt is run once more by the reference alone, and what the target computes
// is held against it. Nothing on the reference's side comes from the target.

#pragma once

#include "tools/commands/RunMethod.h"

#include <vector>

namespace kvcache::tools {

/// Compares `execution` with `reference` on each prompt; `rows` are what `runMethod` made of it and
/// become `verified`. In this order, each of
///   the attention output of every layer and prompt row, given the reference's activations,
///   the rows that every head keeps after the prompt, with scores, positions and values,
///   the logits of the run's own prefill, and those of the first step.
/// Check failed, naming the first that differs.
rt::Status verifyRun(rt::Decoder &decoder, rt::Execution &execution, rt::Execution &reference,
                     const std::vector<NamedPrompt> &prompts, std::vector<RunRow> &rows);

} // namespace kvcache::tools
