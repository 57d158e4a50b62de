// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One method on edge shapes: every target against the reference, or an executable against the
// results recorded in it.

#pragma once

#include "tools/commands/CacheFile.h"
#include "tools/commands/CompareResults.h"
#include "tools/commands/GeneratedDump.h"
#include "tools/commands/MethodArguments.h"

#include <functional>
#include <string>
#include <vector>

namespace kvcache::tools {

/// One case on one target.
struct VerifyRow {
  std::string method, target, shape;
  std::string act; ///< element type of the cache; empty: as recorded
  DumpSpec spec;
  int64_t group = 0; ///< query heads per KV head; 0: as recorded
  Comparison comparison;
};

/// A row of "kvasir.verify/1".
Json toJson(const VerifyRow &row);

/// Cases that `verifyMethod` runs on each target.
int64_t edgeCaseCount();

/// Runs `arguments.method` on generated inputs of every edge shape, on the reference and on each of
/// `targets`. Adds a row to `rows` for each case and target, and the kernels to `report`; calls
/// `advance` after each case. Check failed, naming the first case, when a target differs.
rt::Status verifyMethod(MethodProvider &provider, const MethodArguments &arguments,
                        const std::vector<std::string> &targets,
                        const std::function<void()> &advance, std::vector<VerifyRow> &rows,
                        CommandReport &report);

/// Holds the executable `path` against the results recorded in it.
rt::Status verifyExecutable(const std::string &path, std::vector<VerifyRow> &rows,
                            CommandReport &report);

} // namespace kvcache::tools
