// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sums of codes times fixed-point numbers, in integers. A number of 16 bits is held as two signed
// bytes, so that the byte products of the processor serve it; the sum is exact, so every
// instruction set gives the same bits.
//
// Invariant: |number| <= fixedPointLimit, codes are unsigned bytes, and sums stay within 32 bits:
// 64 products of a byte and a number do.

#pragma once

#include "targets/cpu/KernelBuilder.h"

namespace mlir::kvcache::cpu {

/// Largest fixed-point number: both its bytes are 127.
constexpr int64_t fixedPointLimit = 127 * 256 + 127;

/// Vectors of 16 words of 4 signed bytes: number = 256 high + low.
struct FixedPoint {
  Value high, low;
};

/// The numbers nearest to values * factors, ties to even, as vector<16xi16> of their two bytes: the
/// low one first, both signed.
Value fixedPointBytes(KernelBuilder &k, Value values, Value factors);
/// The same as words: a number's bytes in the low 8 bits of a lane of each.
FixedPoint fixedPointWords(KernelBuilder &k, Value values, Value factors);
/// Codes `plane`, `plane` + 8 / bits, .. of each lane's word as four unsigned bytes.
Value codeBytes(KernelBuilder &k, Value words, int64_t bits, int64_t plane);
/// sums[l] + the products of the four unsigned bytes of codes[l] with the four signed bytes of
/// factors[l]; vectors of 16 words. `wide`: with AVX-512 VNNI, else with AVX2.
Value addByteProducts(KernelBuilder &k, bool wide, Value sums, Value codes, Value factors);

} // namespace mlir::kvcache::cpu
