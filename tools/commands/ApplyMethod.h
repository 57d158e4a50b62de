// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs a method over a dumped cache: ingest, end of prompt, decode steps, attention of extra
// queries.

#pragma once

#include "runtime/Execution.h"
#include "tools/commands/Budget.h"
#include "tools/commands/CacheFile.h"
#include "tools/commands/Proof.h"

#include <memory>
#include <vector>

namespace kvcache::tools {

/// What a method made of one layer.
struct LayerResult {
  std::vector<rt::HeadContents> heads; ///< [row heads], after the last step
  std::vector<std::vector<float>>
      scores; ///< [row heads][T]: what the cut at the end of the prompt ranked; empty if none
  std::vector<float> stepOut; ///< [Hq, S, D]
  std::vector<float> out;     ///< [Hq, n, D] with --attend
  std::vector<float> lse;     ///< [Hq, n] with --attend
};

struct ApplyResult {
  int64_t budget = -1; ///< tokens per KV head and layer; -1: the method has no token budget
  std::vector<LayerResult> layers;
  Proof proof;
};

/// Feeds the calibrate phase from `from` and ends it. Bad input when its geometry is not the
/// method's.
rt::Status calibrate(rt::Execution &execution, const CacheFile &from);

/// Runs the method over the file; `attend`: with its `queries` too. The execution must be
/// calibrated.
rt::StatusOr<ApplyResult> applyMethod(rt::Execution &execution, const CacheFile &file,
                                      const Budget &budget, bool attend);

} // namespace kvcache::tools
