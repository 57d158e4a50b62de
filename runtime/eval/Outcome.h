// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What one sample gave under one method: everything that a report is later computed from, so that a
// journal of outcomes is a report that can be finished later.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kvcache::rt {

/// What the cache of one sequence held after the end of its prompt; sums over layers.
struct CacheFigures {
  int64_t tokens = 0;                         ///< T, tokens of the prompt
  std::vector<std::vector<int64_t>> keptRows; ///< [L][Hkv]
  int64_t bytesMeasured = 0;
  double bytesClaimed = 0;
  int64_t bytesDense = 0;        ///< of k and v of T tokens in f16
  double bitsK = 0, bitsV = 0;   ///< stored bits of the columns
  int64_t readBytesPerToken = 0; ///< by the first decoded token
  /// Empty, or the first layer whose measured and claimed bytes differ by more than one page per
  /// head, with both numbers.
  std::string mismatch;
};

struct SampleOutcome {
  std::vector<int64_t> correct; ///< per question: 1 when every answer byte was the arg-max
  std::vector<double> klds;     ///< nats, per token fed after the compression
  int64_t agreed = 0;           ///< tokens fed whose arg-max is that of dense
  double answerBits = 0;        ///< -log2 of the probability of all answer bytes
  int64_t answerBytes = 0;
  std::vector<double> attentionError; ///< [L], mean over heads and tokens; empty: not measured
  CacheFigures cache;
  double prefillSeconds = 0, compressSeconds = 0, decodeSeconds = 0; ///< this sample's share
  int64_t decodedTokens = 0;
  int64_t residentBytes = 0; ///< growth of the process while the cache was made, its share
};

} // namespace kvcache::rt
