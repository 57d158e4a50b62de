// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Byte products: one instruction with VNNI; on AVX2 two products of 16-bit halves, whose sums of
// pairs cannot saturate as the byte instruction's there could.

#include "targets/cpu/IntegerProducts.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;

/// Numbers whose low 16 bits are the two bytes. Added to 1.5 * 2^23, a number is rounded to an
/// integer that lies in the low bits. The low byte is signed: where it is negative, the high byte
/// holds one more.
static Value twoBytes(KernelBuilder &k, Value values, Value factors) {
  Value sum = k.fma(values, factors, k.splatF32(12582912.0));
  Value bits = k.bitcast(sum, k.vec(k.i32Type()));
  return k.xori(k.add(bits, k.splatI32(128)), k.splatI32(128));
}

Value mlir::kvcache::cpu::fixedPointBytes(KernelBuilder &k, Value values, Value factors) {
  auto narrow = VectorType::get({lanes}, k.builder().getI16Type());
  return arith::TruncIOp::create(k.builder(), k.loc(), narrow, twoBytes(k, values, factors));
}

FixedPoint mlir::kvcache::cpu::fixedPointWords(KernelBuilder &k, Value values, Value factors) {
  Value bits = twoBytes(k, values, factors), byte = k.splatI32(255);
  return {k.andi(k.shru(bits, k.splatI32(8)), byte), k.andi(bits, byte)};
}

Value mlir::kvcache::cpu::codeBytes(KernelBuilder &k, Value words, int64_t bits, int64_t plane) {
  if (bits == 8) {
    return words;
  }
  int64_t mask = (int64_t(1) << bits) - 1;
  Value shifted = plane == 0 ? words : k.shru(words, k.splatI32(bits * plane));
  return k.andi(shifted, k.splatI32(mask * 0x01010101));
}

/// Eight words as their 16 halves.
static Value halvesOf(KernelBuilder &k, Value words) {
  return k.bitcast(words, VectorType::get({16}, k.builder().getI16Type()));
}
static Value eight(KernelBuilder &k) {
  auto halves = VectorType::get({16}, k.builder().getI16Type());
  return arith::ConstantOp::create(k.builder(), k.loc(),
                                   DenseElementsAttr::get(halves, APInt(16, 8)));
}
/// The even or the odd bytes of eight words as 16-bit numbers.
static Value unsignedBytes(KernelBuilder &k, Value words, bool odd) {
  return odd ? Value(arith::ShRUIOp::create(k.builder(), k.loc(), halvesOf(k, words), eight(k)))
             : halvesOf(k, k.andi(words, k.splatI32(0x00FF00FF, lanes / 2)));
}
static Value signedBytes(KernelBuilder &k, Value words, bool odd) {
  Value halves = halvesOf(k, words);
  if (!odd) {
    halves = arith::ShLIOp::create(k.builder(), k.loc(), halves, eight(k));
  }
  return arith::ShRSIOp::create(k.builder(), k.loc(), halves, eight(k));
}

/// The same for 8 words, with AVX2.
static Value addHalf(KernelBuilder &k, Value sums, Value codes, Value factors) {
  for (bool odd : {false, true}) {
    Value products = k.callIntrinsic("llvm.x86.avx2.pmadd.wd", k.vec(k.i32Type(), 8),
                                     {unsignedBytes(k, codes, odd), signedBytes(k, factors, odd)});
    sums = k.add(sums, products);
  }
  return sums;
}

Value mlir::kvcache::cpu::addByteProducts(KernelBuilder &k, bool wide, Value sums, Value codes,
                                          Value factors) {
  if (wide) {
    auto bytes = VectorType::get({64}, k.builder().getI8Type());
    return k.callIntrinsic("llvm.x86.avx512.vpdpbusd.512", sums.getType(),
                           {sums, k.bitcast(codes, bytes), k.bitcast(factors, bytes)});
  }
  SmallVector<Value> parts;
  for (int64_t half = 0; half < lanes; half += lanes / 2) {
    auto cut = [&](Value vector) { return k.extractLanes(vector, half, lanes / 2); };
    parts.push_back(addHalf(k, cut(sums), cut(codes), cut(factors)));
  }
  SmallVector<int64_t> all;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    all.push_back(lane);
  }
  return k.shuffle(parts[0], parts[1], all);
}
