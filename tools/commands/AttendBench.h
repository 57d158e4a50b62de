// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Decode attention of a method against another one, at a stated geometry, over synthetic caches:
// paired, interleaved, cold. One round calls every variant and a read-bandwidth probe once, in
// random order; figures are per-round ratios.

#pragma once

#include "tools/commands/MethodProvider.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvcache::tools {

struct AttendBenchOptions {
  int64_t queryHeads = 32, kvHeads = 8, headDim = 128;
  int64_t tokens = 32768; ///< tokens of the sequence
  double kept =
      0.25; ///< share of them that methods with a token budget hold, the same on every head
  int64_t rounds = 15;
  bool cold = true; ///< calls cycle through caches that together exceed 4x the last-level cache
  uint64_t seed = 1;
};

/// A median and its 95 % bootstrap interval.
struct Interval {
  double median = 0, low = 0, high = 0;
};

struct AttendMeasurement {
  std::string method;
  int64_t rows = 0;               ///< rows per KV head that the cache held
  int64_t needBytes = 0;          ///< bytes of K and V that a call has to read
  Interval seconds;               ///< of one call
  Interval ratio;                 ///< time over the baseline's time in the same round
  double probeBytesPerSecond = 0; ///< median of the probe
  double maxError =
      0;            ///< relative L2 against attention in double over what a reader sees, 512 rows
  double drift = 0; ///< median of the second half of the rounds over the first, minus 1

  /// faster | slower | no difference.
  const char *verdict() const;
};

/// Holds the baseline's caches, so that several methods are compared with the same ones.
class AttendBench {
public:
  static rt::StatusOr<std::unique_ptr<AttendBench>>
  create(MethodProvider &provider, const std::string &baseline, const AttendBenchOptions &options);
  ~AttendBench();

  const AttendBenchOptions &options() const;
  /// Measures `method` with these parameters beside the baseline.
  rt::StatusOr<AttendMeasurement> measure(const std::string &method,
                                          const std::map<std::string, std::string> &parameters);
  /// "heads 32/8, D 128, T 32768".
  std::string geometryText() const;

private:
  struct State;
  explicit AttendBench(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace kvcache::tools
