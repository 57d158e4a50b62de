// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The output file of `apply`, and the row that its report shows.

#pragma once

#include "tools/commands/ApplyMethod.h"
#include "tools/commands/Proof.h"

#include <optional>
#include <string>

namespace kvcache::tools {

/// The result of one `apply`, as table, JSON and file metadata show it.
struct ApplyRow {
  std::string method, methodHash, target;
  std::map<std::string, std::string> parameters;
  int64_t tokens = 0, steps = 0;
  int64_t budget = -1; ///< -1: none
  Proof proof;
  bool verified = false;
  std::optional<int64_t> boundarySwaps; ///< with --verify
};

/// What `execution` made of the file.
ApplyRow describe(const rt::Execution &execution, const CacheFile &file, const ApplyResult &result);

Json toJson(const ApplyRow &row);

/// The row as lines of text.
std::string toText(const ApplyRow &row, const std::vector<rt::KernelReport> &kernels);

/// Writes every tensor of the result and its metadata; the file appears whole or not at all.
rt::Status writeResult(const std::string &path, const CacheFile &file, const ApplyResult &result,
                       const ApplyRow &row, const std::vector<rt::KernelReport> &kernels);

} // namespace kvcache::tools
