// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A method in detail, as its page tells it: everything is read off the method's file.

#pragma once

#include <string>
#include <vector>

namespace kvcache::tools {

/// A phase as its author wrote it.
struct DescribedPhase {
  std::string kinds;    ///< "prefill, decode"
  std::string inputs;   ///< "query, key, last_queries(window), @kv", in the order of its arguments
  std::string triggers; ///< "longer(@kv, budget)"; empty: none
};

/// A state or artefact.
struct DescribedValue {
  std::string name, type; ///< with symbols, before a geometry is chosen
  bool isArtefact = false, isFromFile = false;
};

/// A column of a cache state, for heads of 128 channels in f16.
struct DescribedColumn {
  std::string state, name;
  std::string rows;                      ///< lists of rows in a layer: "Hkv", "Hkv * G"
  double exactBytes = 0, codedBytes = 0; ///< of a row; equal unless the column is coded
};

struct MethodDescription {
  std::string header; ///< the comment at the top of the file, without slashes
  std::vector<DescribedPhase> phases;
  std::vector<DescribedValue> values;
  std::vector<DescribedColumn> columns;
};

} // namespace kvcache::tools
