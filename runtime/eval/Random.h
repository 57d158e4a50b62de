// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The random numbers of the evaluation: SplitMix64 (Steele, Lea, Flood 2014). A stream is fixed by
// its key words, so a sample does not depend on how many others are made or in which order.

#pragma once

#include <cstdint>
#include <initializer_list>

namespace kvcache::rt {

class Random {
public:
  /// The stream of a key: each word is mixed into the state in turn.
  explicit Random(std::initializer_list<uint64_t> key) {
    for (uint64_t word : key) {
      state_ = next() ^ word;
    }
  }

  /// 64 uniform bits.
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// Uniform in [low, high]; low <= high. The modulo's bias is below 2^-40 for every range in use.
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low + 1));
  }

private:
  uint64_t state_ = 0;
};

} // namespace kvcache::rt
