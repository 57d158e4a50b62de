// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The sequences that methods are calibrated on: texts, random tokens that repeat, prompts with a
// needle. A seed, a source and an index fix every token of a prompt; the answer to a needle is the
// model's own. All text is from the part that is kept for calibration.

#pragma once

#include "runtime/eval/TaskMaterial.h"
#include "runtime/model/Decoder.h"

#include <cstdint>
#include <vector>

namespace kvcache::rt {

struct CalibrationSequence {
  std::vector<int32_t> tokens;
  RequestTables tables; ///< of a needle: `needle`, `produced`
};

/// The prompts of a source; those of a needle still without its answer, so that `produced` is -1
/// throughout. Bad input when a text is too short.
StatusOr<std::vector<CalibrationSequence>>
drawSequences(const TaskMaterial &material, const CalibrationSource &source, uint64_t seed);

/// Feeds the sequences of all sources of `method`, prefilled with `dense`, and finishes the
/// calibration. Returns what was fed, source after source.
StatusOr<std::vector<CalibrationSequence>> calibrateOnSequences(Decoder &decoder, Execution &dense,
                                                                const TaskMaterial &material,
                                                                uint64_t seed, Execution &method);

/// "repeat(300, 4)".
std::string describeSource(const CalibrationSource &source);
/// "repeat(300, 4), text(50, 512)": the sources of a method; empty when it has none.
std::string describeSources(const Execution &method);

} // namespace kvcache::rt
