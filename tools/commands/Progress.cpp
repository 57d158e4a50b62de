// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rewrites one terminal line.

#include "tools/commands/Progress.h"

#include <fmt/format.h>

#include <cstdio>
#include <unistd.h>

namespace kvcache::tools {

Progress::Progress(std::string title, std::string unit, int64_t total)
    : title_(std::move(title)), unit_(std::move(unit)), total_(total), onTerminal_(isatty(2) != 0),
      started_(Clock::now()), shown_(started_) {}

Progress::~Progress() {
  if (onTerminal_) {
    fmt::print(stderr, "\r\033[K");
  }
}

void Progress::advance(int64_t count) {
  done_ += count;
  Clock::time_point now = Clock::now();
  if (!onTerminal_ || now - shown_ < std::chrono::milliseconds(100)) {
    return;
  }
  shown_ = now;
  double rate = static_cast<double>(done_) / std::chrono::duration<double>(now - started_).count();
  fmt::print(stderr, "\r\033[K{}: {} of {} {}, {:.1f}/s, {:.0f} s left", title_, done_, total_,
             unit_, rate, static_cast<double>(total_ - done_) / rate);
  std::fflush(stderr);
}

} // namespace kvcache::tools
