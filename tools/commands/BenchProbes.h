// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What this machine can do at the moment, measured beside the times that are judged by it: read
// memory, multiply and add, turn stored values into f32. All on the threads of the pool.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvcache::tools {

class BenchProbes {
public:
  /// `bytes` is what a reading probe reads; more than 4 times the last-level cache leaves that
  /// cold.
  explicit BenchProbes(int64_t bytes) : buffer_(static_cast<size_t>(bytes / 8), 1) {}

  /// Reads the buffer once; bytes per second.
  double readBytesPerSecond();
  int64_t bytes() const { return static_cast<int64_t>(buffer_.size()) * 8; }

private:
  std::vector<uint64_t> buffer_;
};

/// Multiply-adds of f32 per second, from registers; 0 on a processor without AVX2 and FMA.
double productsPerSecond();

/// Values per second that become f32 in registers, read from the first-level cache; no scale, no
/// zero point. `bits` 16: f16, converted; 2, 3, 4, 8: codes in 32-bit words, shifted, masked,
/// converted. 0 on a processor without AVX2 and F16C, and for other widths.
double unpackedPerSecond(int bits);

} // namespace kvcache::tools
