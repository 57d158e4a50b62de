// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a compiled method will do, read off its executable without running it.

#pragma once

#include "runtime/abi/executable.pb.h"
#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"

#include <string>
#include <vector>

namespace kvcache::tools {

/// A column of a cache state.
struct ExplainedColumn {
  std::string name, storage;
  int64_t width = 0; ///< values per row
  double bitsPerExactRow = 0, bitsPerCodedRow = 0;
};

struct ExplainedStore {
  std::string name;
  int64_t rowHeads = 0;
  std::vector<ExplainedColumn> columns;
};

/// A buffer whose size grows with the tokens, or a persistent tensor.
struct ExplainedTensor {
  std::string name, shape, elem; ///< shape: "[2, T, 4]"
  std::string where;             ///< the phase that holds it, or "state", "artefact"
};

struct ExplainedKernel {
  std::string program, name, status, reason;
  std::vector<std::string> ops;
  std::vector<std::string> stores; ///< caches it works on
};

struct Explanation {
  MethodSummary summary;
  rt::Geometry geometry;
  int64_t tokens = 0; ///< T that byte figures are for
  std::string inputs; ///< what the prompt must give besides k and v
  std::vector<ExplainedStore> stores;
  std::vector<ExplainedTensor> tensors;
  std::vector<ExplainedKernel> kernels;
  double storedBytesPerToken = 0; ///< of all layers and heads, coded rows
  double denseBytesPerToken = 0;  ///< K and V in f16
  double readBytesPerStep = 0;    ///< K and V rows of T kept tokens, read once by a decode step
  double flopsPerStep =
      0; ///< floating-point operations of a decode step over T kept tokens: 4 Hq D T of each layer
};

/// Reads the programs of an executable that was compiled for `geometry`.
Explanation explain(const proto::Executable &executable, const MethodSummary &summary,
                    const rt::Geometry &geometry, int64_t tokens);

Json toJson(const Explanation &explanation);
std::string toText(const Explanation &explanation);
} // namespace kvcache::tools
