// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// IEEE binary16 and bfloat16 to and from f32, by bit arithmetic: rounding is to
// nearest, ties to even, the same on every machine and in every rounding mode.
// Infinities stay, NaN stays NaN.

#pragma once

#include <cstdint>
#include <cstring>

namespace kvcache::rt {

/// The bits of `value`.
inline uint32_t bitsOfF32(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

/// The f32 with these bits.
inline float f32FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

/// Exact: every binary16 is an f32.
inline float f32FromF16(uint16_t half) {
  uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  uint32_t exponent = (half >> 10) & 0x1fu;
  uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0x1fu) {
    return f32FromBits(sign | 0x7f800000u | (mantissa << 13));
  }
  if (exponent != 0) {
    return f32FromBits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  }
  // Zero or subnormal: mantissa * 2^-24, exact in f32.
  float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return f32FromBits(sign | bitsOfF32(magnitude));
}

/// Rounds to nearest, ties to even; values of 65520 and more become infinity.
inline uint16_t f16FromF32(float value) {
  uint32_t bits = bitsOfF32(value);
  uint32_t sign = (bits >> 16) & 0x8000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) {
    uint32_t payload =
        magnitude > 0x7f800000u ? 0x200u | ((magnitude >> 13) & 0x3ffu) : 0u;
    return static_cast<uint16_t>(sign | 0x7c00u | payload);
  }
  if (magnitude >= 0x38800000u) { // normal in binary16, or too large
    uint32_t rounded =
        magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
    return static_cast<uint16_t>(
        sign | (rounded >= 0x0f800000u ? 0x7c00u : rounded >> 13));
  }
  if (magnitude < 0x33000000u) { // below half of the smallest subnormal
    return static_cast<uint16_t>(sign);
  }
  uint32_t shift = 126u - (magnitude >> 23); // 14..24
  uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  uint32_t quotient = mantissa >> shift;
  uint32_t rest = mantissa & ((1u << shift) - 1u);
  uint32_t half = 1u << (shift - 1u);
  quotient += (rest > half || (rest == half && (quotient & 1u))) ? 1u : 0u;
  return static_cast<uint16_t>(sign | quotient);
}

/// Exact: a bfloat16 is the upper half of an f32.
inline float f32FromBf16(uint16_t half) {
  return f32FromBits(static_cast<uint32_t>(half) << 16);
}

/// Rounds to nearest, ties to even.
inline uint16_t bf16FromF32(float value) {
  uint32_t bits = bitsOfF32(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<uint16_t>((bits >> 16) | 0x40u);
  }
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// The bulk forms take `count` elements; the 16-bit side may be unaligned (a
/// mapped file), and the two sides must not overlap.
void f32FromF16(const void *halves, float *values, int64_t count);
void f16FromF32(const float *values, void *halves, int64_t count);
void f32FromBf16(const void *halves, float *values, int64_t count);
void bf16FromF32(const float *values, void *halves, int64_t count);

} // namespace kvcache::rt
