// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The output file of `apply`, and the row that its report shows.

#pragma once

#include "tools/commands/ApplyMethod.h"
#include "tools/commands/Command.h"

#include <optional>
#include <string>

namespace kvcache::tools {

/// The result of one `apply`, as table, JSON and file metadata show it.
struct ApplyRow {
  std::string method, methodHash, target;
  std::map<std::string, std::string> parameters;
  int64_t tokens = 0, steps = 0;
  int64_t budget = -1;                          ///< -1: none
  std::vector<std::vector<int64_t>> keptTokens; ///< [L][Hkv]
  int64_t bytesMeasured = 0, bytesDense = 0;
  double bytesClaimed = 0;
  double bitsPerValueK = 0, bitsPerValueV = 0; ///< stored bits over values of the tokens seen
  bool verified = false;
  std::optional<int64_t> boundarySwaps; ///< with --verify
};

/// Sums the reports of `result`.
ApplyRow describe(const rt::Execution &execution, const CacheFile &file, const ApplyResult &result);

/// Check failed, naming the layer, when measured and claimed bytes differ by more than one page per
/// layer and head.
rt::Status checkBytes(const ApplyResult &result);

Json toJson(const ApplyRow &row);

/// The row as lines of text.
std::string toText(const ApplyRow &row, const std::vector<rt::KernelReport> &kernels);

/// Writes every tensor of the result and its metadata; the file appears whole or not at all.
rt::Status writeResult(const std::string &path, const CacheFile &file, const ApplyResult &result,
                       const ApplyRow &row, const std::vector<rt::KernelReport> &kernels);

} // namespace kvcache::tools
