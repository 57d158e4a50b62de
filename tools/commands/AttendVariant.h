// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One method under the attention bench: its execution, a filled cache of one layer, and copies of
// that cache that are made to be timed and given back. No copy is timed in two rounds: where its
// pages lie in memory costs or saves several percent, and has to be drawn anew each time.

#pragma once

#include "tools/commands/MethodProvider.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvcache::tools {

/// Values and widths of a stored column.
struct StoredValues {
  int64_t codes = 0;   ///< coded values, over all heads
  int codeBits = 0;    ///< of each; 0: none is coded
  int64_t exact = 0;   ///< values held in f16
  double bitsEach = 0; ///< stored bits a value, metadata included
};

/// What fills a cache.
struct CacheContents {
  int64_t tokens = 0; ///< rows of methods without a token budget
  double kept = 1;    ///< share of `tokens` that methods with one hold, the same on every head
  uint64_t seed = 1;
};

class AttendVariant {
public:
  /// Loads a method and fills one cache; measures the error of its attention beside it. Bad input
  /// as the provider says; unavailable without memory.
  static rt::StatusOr<std::unique_ptr<AttendVariant>>
  create(MethodProvider &provider, const MethodRequest &request, const CacheContents &contents);

  const rt::Execution &execution() const { return *execution_; }
  int64_t rows() const { return rows_; }
  /// Bytes of K and V that one call has to read.
  int64_t needBytes() const { return needBytes_; }
  const StoredValues &keys() const { return keys_; }
  const StoredValues &values() const { return values_; }
  /// Relative L2 against attention in double over what a reader sees, 512 rows.
  double maxError() const { return maxError_; }

  /// Makes `count` copies of the cache. Unavailable without memory.
  rt::Status makeCopies(int64_t count);
  void dropCopies() { copies_.clear(); }
  /// Attends with one query to every copy, one after another; the seconds it took.
  rt::StatusOr<double> attend(const float *q, float *out);

private:
  AttendVariant() = default;

  std::unique_ptr<rt::Execution> execution_;
  std::unique_ptr<rt::Sequence> filled_;
  std::vector<std::unique_ptr<rt::Sequence>> copies_;
  int64_t rows_ = 0, needBytes_ = 0;
  StoredValues keys_, values_;
  double maxError_ = 0;
};

/// A query [Hq, D] of uniform values.
std::vector<float> randomQuery(const rt::Geometry &geometry, uint64_t seed);

} // namespace kvcache::tools
