// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One line on stderr that says how far a command is: on a terminal only, nothing on a pipe.

#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace kvcache::tools {

class Progress {
public:
  /// `total` units of `unit` are ahead.
  Progress(std::string title, std::string unit, int64_t total);
  /// Wipes the line.
  ~Progress();
  Progress(const Progress &) = delete;
  Progress &operator=(const Progress &) = delete;

  /// `count` more are done: shows count, rate and remaining time, ten times a second at most.
  void advance(int64_t count = 1);

private:
  using Clock = std::chrono::steady_clock;
  std::string title_, unit_;
  int64_t total_, done_ = 0;
  bool onTerminal_;
  Clock::time_point started_, shown_;
};

} // namespace kvcache::tools
