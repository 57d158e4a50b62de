// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Dumped caches made from a seed, the same on every machine: inputs of `verify`.

#pragma once

#include "runtime/Execution.h"
#include "tools/commands/CacheFile.h"

#include <memory>
#include <string>

namespace kvcache::tools {

struct DumpSpec {
  uint64_t seed = 1;
  int64_t tokens = 1; ///< T
  int64_t steps = 0;  ///< S
  int64_t period = 0; ///< > 0: prompt rows repeat with this period, so that scores tie
  int64_t budget = 0; ///< tokens per KV head and layer for methods that take one

  /// "seed=1 T=96 S=8 period=0 budget=48"
  std::string str() const;
  /// The spec that `str` wrote. Bad input naming the word that is not one.
  static rt::StatusOr<DumpSpec> parse(const std::string &text);
};

/// A dump for `geometry`: keys in clusters, queries aimed at them, all T query rows, S steps, 2
/// extra queries, token ids, the request tables `question`, `segments`, `shots`, `keep`, `special`
/// and `punctuation`. It goes through a temporary file that has no name by the time this returns.
rt::StatusOr<std::shared_ptr<CacheFile>> generateDump(const DumpSpec &spec,
                                                      const rt::Geometry &geometry);

/// A path for a file that nobody else uses, in the folder for temporary files; the file exists and
/// is empty.
rt::StatusOr<std::string> temporaryPath();

} // namespace kvcache::tools
