// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scratch memory: what a program needs while it runs.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

namespace kvcache::rt {

/// Memory handed out from the front and taken back all at once.
class Scratch {
public:
  /// `bytes` bytes, 64-byte aligned, until `reset`; null when memory is out.
  char *take(int64_t bytes);
  /// Takes everything back; one chunk then serves what needed several.
  void reset();

private:
  struct Free {
    void operator()(char *chunk) const { std::free(chunk); }
  };
  std::vector<std::unique_ptr<char, Free>> full_;
  std::unique_ptr<char, Free> chunk_;
  int64_t size_ = 0, used_ = 0, total_ = 0;
};

} // namespace kvcache::rt
