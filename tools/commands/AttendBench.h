// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Decode attention of methods against one of them, at a stated geometry, over synthetic caches:
// paired, interleaved, cold. A round takes every variant once, in random order: it makes fresh
// copies of the variant's cache, times calls on them, and gives them back, so that the next variant
// gets the memory. Before each call a probe reads more than 4 times the last-level cache. Figures
// are ratios of the same round. The baseline is there twice, loaded and filled twice: the second is
// the control of the run, and what it says of itself bounds what may be said of others.

#pragma once

#include "tools/commands/MethodProvider.h"
#include "tools/commands/PairedRatios.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvcache::tools {

struct AttendBenchOptions {
  int64_t queryHeads = 32, kvHeads = 8, headDim = 128;
  int64_t tokens = 32768; ///< tokens of the sequence
  /// Share of them that methods with a token budget hold, the same on every head.
  double kept = 0.25;
  int64_t batch = 1; ///< sequences that a call attends to, one after another
  int64_t rounds = 25;
  /// When a run has taken so many seconds, no further round begins once 5 are done, and disturbed
  /// calls are not repeated; 0: no limit. What a round takes is mostly the probe's, which reads 4
  /// times whatever the last-level cache of the machine holds.
  double limitSeconds = 0;
  bool cold = true; ///< before each call, more than 4 times the last-level cache is read
  uint64_t seed = 1;
};

/// The least seconds that the machine allows for the work of one call, by rates measured in the
/// same run. Empty: not measured on this processor or for this width.
struct AttendBounds {
  double bytesSeconds = 0;               ///< need over read bandwidth
  std::optional<double> unpackSeconds;   ///< each stored value becomes f32 once
  std::optional<double> productsSeconds; ///< each stored value goes into G multiply-adds

  /// The largest, and its name: bytes | unpack | products.
  double tightestSeconds() const;
  const char *tightest() const;
};

struct AttendMeasurement {
  std::string method;
  bool integerProducts = false;
  int64_t rows = 0;            ///< rows per KV head that each cache held
  double bitsK = 0, bitsV = 0; ///< stored bits a value, metadata included
  int64_t needBytes = 0;       ///< bytes of K and V that a call has to read
  int64_t movedBytes = 0;      ///< bytes its kernels read and wrote, as they count them
  Interval seconds;            ///< of one call
  Interval ratio;              ///< time over the baseline's in the same round
  Interval ratioVsDense;       ///< time over dense's
  double drift = 0;            ///< of the ratio, from the first half of the rounds to the second
  AttendBounds bounds;
  double maxError = 0; ///< relative L2 against attention in double over what a reader sees
  const char *verdict = "no difference"; ///< faster | slower | no difference
  std::vector<rt::KernelReport> kernels;
};

/// One run: all methods in the same rounds.
struct AttendRun {
  int threads = 0;
  Interval control; ///< the baseline's second self over the baseline
  double controlDrift = 0;
  double readBytesPerSecond = 0; ///< median of the probe
  double disturbed = 0;          ///< share of the calls during which threads waited for a processor
  std::vector<AttendMeasurement> methods; ///< in the order they were added
};

class AttendBench {
public:
  /// Prepares the baseline and its control. Bad input for a geometry that is none.
  static rt::StatusOr<std::unique_ptr<AttendBench>>
  create(MethodProvider &provider, const std::string &baseline, const AttendBenchOptions &options);
  ~AttendBench();

  /// Prepares a method to be measured with these parameters, with integer products where kernels
  /// have them.
  rt::Status add(const std::string &method, const std::map<std::string, std::string> &parameters,
                 bool integerProducts = false);
  /// Measures what was added, on the threads of the pool. May be repeated.
  rt::StatusOr<AttendRun> run();
  /// "heads 32/8, D 128, T 32768".
  std::string geometryText() const;

private:
  struct State;
  explicit AttendBench(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// "dense against itself 1.01 [0.99, 1.02]", and what follows when that is off or the machine busy.
std::string controlText(const std::string &baseline, const AttendRun &run);

} // namespace kvcache::tools
