// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Bulk conversions. Invariant: element i of the result equals the scalar
// function of element i.

#include "runtime/io/Half.h"

namespace kvcache::rt {

template <float (*Convert)(uint16_t)>
static void widen(const void *halves, float *values, int64_t count) {
  const auto *bytes = static_cast<const unsigned char *>(halves);
  for (int64_t i = 0; i < count; ++i) {
    uint16_t half;
    std::memcpy(&half, bytes + 2 * i, sizeof(half));
    values[i] = Convert(half);
  }
}

template <uint16_t (*Convert)(float)>
static void narrow(const float *values, void *halves, int64_t count) {
  auto *bytes = static_cast<unsigned char *>(halves);
  for (int64_t i = 0; i < count; ++i) {
    uint16_t half = Convert(values[i]);
    std::memcpy(bytes + 2 * i, &half, sizeof(half));
  }
}

void f32FromF16(const void *halves, float *values, int64_t count) {
  widen<f32FromF16>(halves, values, count);
}

void f16FromF32(const float *values, void *halves, int64_t count) {
  narrow<f16FromF32>(values, halves, count);
}

void f32FromBf16(const void *halves, float *values, int64_t count) {
  widen<f32FromBf16>(halves, values, count);
}

void bf16FromF32(const float *values, void *halves, int64_t count) {
  narrow<bf16FromF32>(values, halves, count);
}

} // namespace kvcache::rt
