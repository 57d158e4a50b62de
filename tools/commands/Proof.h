// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Proof of compression: what a sequence holds, counted by the allocator that holds it, beside what
// the types of its caches claim.

#pragma once

#include "tools/commands/Command.h"

#include <string>
#include <vector>

namespace kvcache::tools {

struct Proof {
  std::vector<std::vector<int64_t>> keptTokens; ///< [L][row heads]
  int64_t tokens = 0;                           ///< rows fed, prompt and steps
  int64_t bytesMeasured = 0;                    ///< pages held, metadata included
  double bytesClaimed = 0;                      ///< from the formulas of the types
  int64_t bytesDense = 0;                       ///< K and V of all tokens in f16
  double bitsPerValueK = 0, bitsPerValueV = 0;  ///< stored bits over values of the tokens seen
  int64_t readBytesPerToken = 0;                ///< of the last decode step; 0 before the first
  /// Check failed, naming the layer, when measured and claimed differ by more than one page per
  /// layer and head.
  rt::Status check;
};

/// Reads the reports of a sequence that was fed `sequence.length()` rows.
Proof proveCompression(const rt::Sequence &sequence, const rt::Geometry &geometry);

/// Adds kept_tokens, bytes_measured, bytes_claimed, bytes_dense, bits_per_value_k,
/// bits_per_value_v.
void addTo(Json &row, const Proof &proof);

/// "96" or "20 to 120": tokens kept over layers and heads.
std::string keptText(const Proof &proof);

/// Lines of tokens kept, bytes and bits.
std::string toText(const Proof &proof);

} // namespace kvcache::tools
