// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Half precision: every 16-bit value, and rounding around every pair of
// neighbours.

#include "runtime/io/Half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

using namespace kvcache::rt;

/// A binary16 by its definition.
static double f16ByDefinition(uint16_t bits) {
  int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

TEST(Half, f16_every_value_widens_by_definition_and_returns) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    auto half = static_cast<uint16_t>(bits);
    float value = f32FromF16(half);
    if ((bits & 0x7c00) != 0x7c00) {
      ASSERT_EQ(double(value), f16ByDefinition(half)) << bits;
    }
    if (!std::isnan(value)) {
      ASSERT_EQ(f16FromF32(value), half) << bits;
    } else {
      ASSERT_TRUE(std::isnan(f32FromF16(f16FromF32(value)))) << bits;
    }
  }
}

TEST(Half, f16_rounds_to_nearest_ties_to_even) {
  for (uint16_t low = 0; low < 0x7bff; ++low) {
    uint16_t high = low + 1, even = low % 2 == 0 ? low : high;
    // Neighbours differ by one unit, so the midpoint is exact in f32.
    auto middle = static_cast<float>((f16ByDefinition(low) + f16ByDefinition(high)) / 2);
    ASSERT_EQ(f16FromF32(middle), even) << low;
    ASSERT_EQ(f16FromF32(std::nextafter(middle, 0.0f)), low) << low;
    ASSERT_EQ(f16FromF32(std::nextafter(middle, 1e9f)), high) << low;
    ASSERT_EQ(f16FromF32(-middle), even | 0x8000) << low;
  }
}

TEST(Half, f16_overflow_and_underflow) {
  EXPECT_EQ(f16FromF32(65519.996f), 0x7bff);
  EXPECT_EQ(f16FromF32(65520.0f), 0x7c00);
  EXPECT_EQ(f16FromF32(-1e30f), 0xfc00);
  EXPECT_EQ(f16FromF32(std::numeric_limits<float>::infinity()), 0x7c00);
  EXPECT_EQ(f16FromF32(std::ldexp(1.0f, -25)), 0); // a tie: 0 is even
  EXPECT_EQ(f16FromF32(std::ldexp(1.0001f, -25)), 1);
  EXPECT_EQ(f16FromF32(-1e-40f), 0x8000);
}

TEST(Half, bf16_rounds_to_nearest_ties_to_even) {
  for (uint32_t low = 0; low < 0x7f80; ++low) {
    uint32_t middle = low << 16 | 0x8000u;
    uint16_t even = low % 2 == 0 ? low : low + 1;
    ASSERT_EQ(bf16FromF32(f32FromBits(low << 16)), low);
    ASSERT_EQ(bf16FromF32(f32FromBits(middle)), even) << low;
    ASSERT_EQ(bf16FromF32(f32FromBits(middle - 1)), low) << low;
    ASSERT_EQ(bf16FromF32(f32FromBits(middle + 1)), low + 1) << low;
  }
  EXPECT_TRUE(std::isnan(f32FromBf16(bf16FromF32(f32FromBits(0x7f800001u)))));
}

TEST(Half, bulk_forms_agree_with_scalars_on_unaligned_memory) {
  std::vector<float> values;
  for (int i = 0; i < 1000; ++i) {
    values.push_back(std::sin(i * 0.37f) * std::ldexp(1.0f, i % 40 - 24));
  }
  std::vector<uint8_t> halves(2 * values.size() + 1);
  std::vector<float> back(values.size());
  f16FromF32(values.data(), halves.data() + 1, 1000);
  f32FromF16(halves.data() + 1, back.data(), 1000);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(back[i], f32FromF16(f16FromF32(values[i])));
  }
  bf16FromF32(values.data(), halves.data() + 1, 1000);
  f32FromBf16(halves.data() + 1, back.data(), 1000);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(back[i], f32FromBf16(bf16FromF32(values[i])));
  }
}
