// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each loop has a form for AVX-512 and one for AVX2. An empty asm statement uses a result without
// an instruction, so that the loop costs what it measures and no more.

#include "tools/commands/BenchProbes.h"

#include "runtime/parallel/Parallel.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>

namespace kvcache::tools {

namespace {

constexpr int accumulators = 12; ///< more than the latency of an FMA times its ports
constexpr int64_t cachedBytes = 16 << 10;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool hasAvx512() { return __builtin_cpu_supports("avx512f") != 0; }
bool hasAvx2() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
         __builtin_cpu_supports("f16c") != 0;
}

__attribute__((target("avx512f"))) int64_t multiplyAvx512(int64_t times) {
  __m512 sums[accumulators], factor = _mm512_set1_ps(0.5F), term = _mm512_set1_ps(1.0F);
  std::fill(sums, sums + accumulators, term);
  for (int64_t i = 0; i < times; ++i) {
#pragma GCC unroll 12
    for (__m512 &sum : sums) {
      sum = _mm512_fmadd_ps(sum, factor, term);
    }
  }
  for (const __m512 &sum : sums) {
    asm volatile("" : : "v"(sum));
  }
  return times * accumulators * 16;
}

__attribute__((target("avx2,fma"))) int64_t multiplyAvx2(int64_t times) {
  __m256 sums[accumulators], factor = _mm256_set1_ps(0.5F), term = _mm256_set1_ps(1.0F);
  std::fill(sums, sums + accumulators, term);
  for (int64_t i = 0; i < times; ++i) {
#pragma GCC unroll 12
    for (__m256 &sum : sums) {
      sum = _mm256_fmadd_ps(sum, factor, term);
    }
  }
  for (const __m256 &sum : sums) {
    asm volatile("" : : "x"(sum));
  }
  return times * accumulators * 8;
}

/// Values that the bytes of one pass held.
template <int Bits>
__attribute__((target("avx512f"))) int64_t unpackAvx512(const char *data) {
  constexpr int64_t step = Bits == 16 ? 32 : 64;
#pragma GCC unroll 4
  for (int64_t at = 0; at < cachedBytes; at += step) {
    if constexpr (Bits == 16) {
      __m512 value =
          _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(data + at)));
      asm volatile("" : : "v"(value));
    } else {
      __m512i words = _mm512_loadu_si512(data + at);
#pragma GCC unroll 16
      for (int shift = 0; shift + Bits <= 32; shift += Bits) {
        __m512i code = _mm512_and_si512(_mm512_srli_epi32(words, static_cast<unsigned>(shift)),
                                        _mm512_set1_epi32((1 << Bits) - 1));
        __m512 value = _mm512_cvtepi32_ps(code);
        asm volatile("" : : "v"(value));
      }
    }
  }
  return cachedBytes / step * 16 * (Bits == 16 ? 1 : 32 / Bits);
}

template <int Bits>
__attribute__((target("avx2,f16c"))) int64_t unpackAvx2(const char *data) {
  constexpr int64_t step = Bits == 16 ? 16 : 32;
#pragma GCC unroll 4
  for (int64_t at = 0; at < cachedBytes; at += step) {
    if constexpr (Bits == 16) {
      __m256 value = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(data + at)));
      asm volatile("" : : "x"(value));
    } else {
      __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(data + at));
#pragma GCC unroll 16
      for (int shift = 0; shift + Bits <= 32; shift += Bits) {
        __m256i code =
            _mm256_and_si256(_mm256_srli_epi32(words, shift), _mm256_set1_epi32((1 << Bits) - 1));
        __m256 value = _mm256_cvtepi32_ps(code);
        asm volatile("" : : "x"(value));
      }
    }
  }
  return cachedBytes / step * 8 * (Bits == 16 ? 1 : 32 / Bits);
}

template <int Bits>
int64_t unpack(int64_t times) {
  alignas(64) char data[cachedBytes] = {};
  int64_t values = 0;
  bool wide = hasAvx512();
  for (int64_t i = 0; i < times; ++i) {
    values += wide ? unpackAvx512<Bits>(data) : unpackAvx2<Bits>(data);
  }
  return values;
}

/// Items per second when every thread makes the same number of calls of `body(times)`.
template <typename Body>
double rateOf(int64_t times, Body body) {
  if (!hasAvx2()) {
    return 0;
  }
  std::vector<int64_t> items(static_cast<size_t>(rt::threads()) * 4);
  double start = now();
  rt::parallelFor(static_cast<int64_t>(items.size()),
                  [&](int64_t i) { items[static_cast<size_t>(i)] = body(times); });
  double seconds = now() - start;
  return static_cast<double>(items[0]) * static_cast<double>(items.size()) / seconds;
}

} // namespace

double BenchProbes::readBytesPerSecond() {
  constexpr int64_t pieces = 64;
  int64_t words = static_cast<int64_t>(buffer_.size()) / pieces;
  std::vector<uint64_t> sums(static_cast<size_t>(pieces) * 8);
  double start = now();
  rt::parallelFor(pieces, [&](int64_t piece) {
    const uint64_t *data = buffer_.data() + piece * words;
    uint64_t lanes[8] = {};
    for (int64_t i = 0; i + 8 <= words; i += 8) {
      for (int lane = 0; lane < 8; ++lane) {
        lanes[lane] += data[i + lane];
      }
    }
    std::copy(lanes, lanes + 8, sums.begin() + piece * 8);
  });
  double seconds = now() - start;
  // The sums are used, so that the reads are made.
  return static_cast<double>(buffer_.size() * sizeof(uint64_t)) /
         (seconds + (sums[0] == 1 ? 1e-12 : 0));
}

double productsPerSecond() { return rateOf(50000, hasAvx512() ? multiplyAvx512 : multiplyAvx2); }

double unpackedPerSecond(int bits) {
  switch (bits) {
  case 2:
    return rateOf(120, unpack<2>);
  case 3:
    return rateOf(120, unpack<3>);
  case 4:
    return rateOf(240, unpack<4>);
  case 8:
    return rateOf(360, unpack<8>);
  case 16:
    return rateOf(600, unpack<16>);
  default:
    return 0;
  }
}

} // namespace kvcache::tools
