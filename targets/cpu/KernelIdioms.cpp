// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Memory access and vector idioms of KernelBuilder. What lies in memory is widened to f32 on load
// and rounded to nearest even on store; every idiom is one that LLVM turns into the instructions
// named beside it.

#include "targets/cpu/KernelBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

static Type withElement(Type shape, Type elem) {
  if (auto vector = dyn_cast<VectorType>(shape)) {
    return VectorType::get(vector.getShape(), elem);
  }
  return elem;
}

static int64_t lengthOf(Value vector) {
  return cast<VectorType>(vector.getType()).getNumElements();
}

static Type elementOf(Value memref) { return cast<MemRefType>(memref.getType()).getElementType(); }

// ---- memory
// ---------------------------------------------------------------------------------------------------------

/// bf16 never reaches LLVM, whose code for it on machines without bf16 arithmetic calls library
/// functions: memory is seen as i16 (the cast joins two memref types of equal descriptors and
/// vanishes), values are bit-cast.
static Value seenAsBits(OpBuilder &b, Location loc, Value memref) {
  if (!elementOf(memref).isBF16()) {
    return memref;
  }
  Type bits = MemRefType::get({ShapedType::kDynamic}, b.getI16Type());
  return UnrealizedConversionCastOp::create(b, loc, bits, memref).getResult(0);
}
static Value bitsOf(KernelBuilder &k, Value value) {
  bool brain = getElementTypeOrSelf(value.getType()).isBF16();
  return brain ? k.bitcast(value, withElement(value.getType(), k.builder().getI16Type())) : value;
}

Value KernelBuilder::load(Value memref, Value index) {
  Value raw = memref::LoadOp::create(b_, loc_, seenAsBits(b_, loc_, memref), index);
  return bitcast(raw, elementOf(memref));
}
void KernelBuilder::store(Value value, Value memref, Value index) {
  memref::StoreOp::create(b_, loc_, bitsOf(*this, value), seenAsBits(b_, loc_, memref), index);
}
Value KernelBuilder::loadScalarF32(Value memref, Value index) { return widen(load(memref, index)); }
void KernelBuilder::storeScalarF32(Value value, Value memref, Value index) {
  store(narrow(value, elementOf(memref)), memref, index);
}

Value KernelBuilder::loadVector(Value memref, Value index, Value mask, int64_t n) {
  Value bits = seenAsBits(b_, loc_, memref);
  VectorType type = vec(elementOf(bits), n);
  Value raw;
  if (mask) {
    Value zeros = arith::ConstantOp::create(b_, loc_, b_.getZeroAttr(type));
    raw = vector::MaskedLoadOp::create(b_, loc_, type, bits, index, mask, zeros);
  } else {
    raw = vector::LoadOp::create(b_, loc_, type, bits, index);
  }
  return bitcast(raw, vec(elementOf(memref), n));
}
void KernelBuilder::storeVector(Value vector, Value memref, Value index, Value mask) {
  Value bits = seenAsBits(b_, loc_, memref);
  if (mask) {
    vector::MaskedStoreOp::create(b_, loc_, bits, index, mask, bitsOf(*this, vector));
  } else {
    vector::StoreOp::create(b_, loc_, bitsOf(*this, vector), bits, index);
  }
}
Value KernelBuilder::loadF32(Value memref, Value index, Value mask, int64_t n) {
  return widen(loadVector(memref, index, mask, n));
}
void KernelBuilder::storeF32(Value vector, Value memref, Value index, Value mask) {
  storeVector(narrow(vector, elementOf(memref)), memref, index, mask);
}
Value KernelBuilder::loadI32(Value memref, Value index, Value mask, int64_t n) {
  Value raw = loadVector(memref, index, mask, n);
  return elementOf(memref).isInteger(8) ? extendU8(raw) : toI32(raw);
}
Value KernelBuilder::gather(Value memref, Value index, Value offsets, Value mask) {
  Value bits = seenAsBits(b_, loc_, memref);
  VectorType type = vec(elementOf(bits), lengthOf(offsets));
  if (!mask) {
    mask = broadcast(i1(true), lengthOf(offsets));
  }
  Value zeros = arith::ConstantOp::create(b_, loc_, b_.getZeroAttr(type));
  Value raw = vector::GatherOp::create(b_, loc_, type, bits, index, offsets, mask, zeros);
  return bitcast(raw, vec(elementOf(memref), lengthOf(offsets)));
}

Value KernelBuilder::widen(Value value) {
  Type elem = getElementTypeOrSelf(value.getType());
  Type wide = withElement(value.getType(), f32Type());
  if (elem.isF32()) {
    return value;
  }
  if (elem.isF16()) {
    return arith::ExtFOp::create(b_, loc_, wide, value); // vcvtph2ps
  }
  if (elem.isBF16()) { // vpmovzxwd, vpslld
    Type bits16 = withElement(value.getType(), b_.getI16Type());
    Type bits32 = withElement(value.getType(), i32Type());
    Value bits = arith::ExtUIOp::create(b_, loc_, bits32, bitcast(value, bits16));
    Value sixteen = isa<VectorType>(wide) ? splatI32(16, lengthOf(value)) : i32(16);
    return bitcast(shl(bits, sixteen), wide);
  }
  return intToF32(elem.isInteger(8) ? extendU8(value) : value);
}

Value KernelBuilder::narrow(Value value, Type elem) {
  Type type = withElement(value.getType(), elem);
  if (elem.isF32()) {
    return value;
  }
  if (elem.isF16()) {
    return arith::TruncFOp::create(b_, loc_, type, value); // vcvtps2ph
  }
  if (elem.isBF16()) { // bits + 0x7fff + lowest kept bit; a nan keeps its upper bits and stays
                       // quiet
    auto same = [&](int64_t x) {
      return isa<VectorType>(type) ? splatI32(x, lengthOf(value)) : i32(x);
    };
    Value bits = bitcast(value, withElement(value.getType(), i32Type()));
    Value odd = andi(shru(bits, same(16)), same(1));
    Value rounded = add(add(bits, same(0x7fff)), odd);
    Value kept = select(ne(value, value), ori(bits, same(0x400000)), rounded);
    Value upper = arith::TruncIOp::create(b_, loc_, withElement(value.getType(), b_.getI16Type()),
                                          shru(kept, same(16)));
    return bitcast(upper, type);
  }
  Value number = f32ToInt(value);
  return elem.isInteger(32)   ? number
         : elem.isInteger(64) ? toI64(number)
                              : Value(arith::TruncIOp::create(b_, loc_, type, number));
}

Value KernelBuilder::typedAt(Value bytes, Value offset, abi::ElementType elem) {
  auto type = MemRefType::get({ShapedType::kDynamic}, elemType(elem));
  Value size = index(std::numeric_limits<int64_t>::max());
  return memref::ViewOp::create(b_, loc_, type, bytes, offset, size);
}
Value KernelBuilder::loadBytesAs(Value bytes, Value offset, VectorType type) {
  int64_t n = type.getNumElements() * type.getElementTypeBitWidth() / 8;
  return bitcast(loadVector(bytes, offset, Value(), n), type); // vmovups
}
void KernelBuilder::storeBytesOf(Value vector, Value bytes, Value offset) {
  auto type = cast<VectorType>(vector.getType());
  int64_t n = type.getNumElements() * type.getElementTypeBitWidth() / 8;
  storeVector(bitcast(vector, vec(b_.getI8Type(), n)), bytes, offset);
}

Value KernelBuilder::scalarI64(Value scalars, int64_t i) { return load(scalars, index(i)); }
Value KernelBuilder::scalarIndex(Value scalars, int64_t i) {
  return toIndex(scalarI64(scalars, i));
}
Value KernelBuilder::scalarF32(Value scalars, int64_t i) {
  return bitcast(toI32(scalarI64(scalars, i)), f32Type());
}
Value KernelBuilder::scalarF64(Value scalars, int64_t i) {
  return bitcast(scalarI64(scalars, i), b_.getF64Type());
}

// ---- vector idioms
// --------------------------------------------------------------------------------------------------

Value KernelBuilder::extractLane(Value vector, int64_t lane) {
  return vector::ExtractOp::create(b_, loc_, vector, ArrayRef<int64_t>{lane});
}
Value KernelBuilder::extractLanes(Value vector, int64_t lo, int64_t n) {
  return vector::ExtractStridedSliceOp::create(b_, loc_, vector, ArrayRef<int64_t>{lo},
                                               ArrayRef<int64_t>{n}, ArrayRef<int64_t>{1});
}
Value KernelBuilder::shuffle(Value a, Value b, ArrayRef<int64_t> which) {
  return vector::ShuffleOp::create(b_, loc_, a, b, which);
}

Value KernelBuilder::reduceTree(Value vector, llvm::function_ref<Value(Value, Value)> combine) {
  for (int64_t half = lengthOf(vector) / 2; half >= 1; half /= 2) {
    vector = combine(extractLanes(vector, 0, half), extractLanes(vector, half, half));
  }
  return extractLane(vector, 0);
}
Value KernelBuilder::reduceAdd(Value vector) {
  return reduceTree(vector, [&](Value a, Value b) { return add(a, b); });
}
Value KernelBuilder::reduceMax(Value vector) {
  return reduceTree(vector, [&](Value a, Value b) { return max(a, b); });
}
Value KernelBuilder::reduceMin(Value vector) {
  return reduceTree(vector, [&](Value a, Value b) { return min(a, b); });
}

/// One halving of pairs of vectors whose lanes are groups of 2 * half lanes, each on the way to one
/// sum: lanes to take from the pair for the lower and the upper halves of its groups. Groups of the
/// two alternate once a group fits into 128 bits, so that the shuffle stays within its 128 bits
/// (vunpcklpd, vshufps) and otherwise is one vshuff64x2.
static void halvingLanes(int64_t half, SmallVector<int64_t> &lower, SmallVector<int64_t> &upper) {
  int64_t groups = lanes / (2 * half);
  auto take = [&](int64_t vector, int64_t group) {
    for (int64_t lane = 0; lane < half; ++lane) {
      lower.push_back(vector * lanes + group * 2 * half + lane);
      upper.push_back(vector * lanes + group * 2 * half + half + lane);
    }
  };
  if (half >= 4) {
    for (int64_t i = 0; i < 2 * groups; ++i) {
      take(i / groups, i % groups);
    }
  } else {
    for (int64_t i = 0; i < 2 * groups; ++i) { // half = 2: one group in 128 bits; half = 1: two
      int64_t per = 2 / half, block = i / (2 * per), within = i % (2 * per);
      take(within / per, block * per + within % per);
    }
  }
}

Value KernelBuilder::reduceAddRows(ArrayRef<Value> vectors) {
  assert(vectors.size() == lanes && "expected one vector per lane of the result");
  // Where each input ends up: run the shuffles on labels first, then feed the inputs in the order
  // that gives lane i to vector i.
  std::vector<std::vector<int64_t>> labels(lanes, std::vector<int64_t>(1));
  for (int64_t i = 0; i < lanes; ++i) {
    labels[i].assign(lanes, i);
  }
  for (int64_t half = lanes / 2; half >= 1; half /= 2) {
    SmallVector<int64_t> lower, upper;
    halvingLanes(half, lower, upper);
    for (size_t pair = 0; pair < labels.size() / 2; ++pair) {
      std::vector<int64_t> joined;
      for (int64_t lane : lower) {
        joined.push_back(labels[2 * pair + lane / lanes][lane % lanes]);
      }
      labels[pair] = joined;
    }
    labels.resize(labels.size() / 2);
  }
  SmallVector<Value> level(lanes);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    level[labels[0][lane]] = vectors[lane];
  }
  for (int64_t half = lanes / 2; half >= 1; half /= 2) {
    SmallVector<int64_t> lower, upper;
    halvingLanes(half, lower, upper);
    for (size_t pair = 0; pair < level.size() / 2; ++pair) {
      Value a = level[2 * pair], b = level[2 * pair + 1];
      level[pair] = add(shuffle(a, b, lower), shuffle(a, b, upper));
    }
    level.resize(level.size() / 2);
  }
  return level[0];
}

/// The parts of e^x both forms share: n = round(x / ln 2) as f32 bits plus 1.5 * 2^23, and e^(x - n
/// ln 2).
static std::pair<Value, Value> reduceExponent(KernelBuilder &k, Value x,
                                              llvm::function_ref<Value(double)> c) {
  // Adding 1.5 * 2^23 rounds to an integer, held in the low bits of the sum; no float-to-int
  // conversion, so a nan stays a nan.
  Value shifted = k.fma(x, c(1.44269504088896341), c(12582912.0));
  Value n = k.sub(shifted, c(12582912.0));
  Value r = k.fma(n, c(-0.693359375), x);
  r = k.fma(n, c(2.12194440e-4), r);
  Value p = c(1.9875691500e-4);
  for (double coefficient :
       {1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}) {
    p = k.fma(p, r, c(coefficient));
  }
  Value e = k.add(k.fma(k.mul(p, r), r, r), c(1.0));
  return {shifted, e};
}

Value KernelBuilder::expNonPositive(Value x) {
  Type bitsType = withElement(x.getType(), i32Type());
  bool vector = isa<VectorType>(x.getType());
  auto c = [&](double v) { return vector ? splatF32(v, lengthOf(x)) : f32(v); };
  auto ci = [&](int64_t v) { return vector ? splatI32(v, lengthOf(x)) : i32(v); };
  auto [shifted, e] = reduceExponent(*this, x, c);
  // The low bits of `shifted` are n; shifting left by 23 drops the rest, and 2^n * e adds n to e's
  // exponent.
  Value scaled =
      bitcast(add(bitcast(e, bitsType), shl(bitcast(shifted, bitsType), ci(23))), x.getType());
  return select(lt(x, c(-87.3365402)), c(0.0), scaled);
}

Value KernelBuilder::exp(Value x) {
  Type bitsType = withElement(x.getType(), i32Type());
  bool vector = isa<VectorType>(x.getType());
  auto c = [&](double v) { return vector ? splatF32(v, lengthOf(x)) : f32(v); };
  auto ci = [&](int64_t v) { return vector ? splatI32(v, lengthOf(x)) : i32(v); };
  auto [shifted, e] = reduceExponent(*this, x, c);
  // 2^n in two factors, because 2^128 is no f32 and e^88.7 is one.
  Value n = sub(bitcast(shifted, bitsType), ci(0x4b400000));
  Value half = b_.createOrFold<arith::ShRSIOp>(loc_, n, ci(1));
  auto power = [&](Value m) { return bitcast(shl(add(m, ci(127)), ci(23)), x.getType()); };
  Value scaled = mul(mul(e, power(half)), power(sub(n, half)));
  Value high = select(gt(x, c(88.7228394)), c(std::numeric_limits<double>::infinity()), scaled);
  return select(lt(x, c(-87.3365402)), c(0.0), high);
}

Value KernelBuilder::sqrt(Value x) { return math::SqrtOp::create(b_, loc_, x); }
Value KernelBuilder::abs(Value x) { return math::AbsFOp::create(b_, loc_, x); }
Value KernelBuilder::roundEven(Value x) { return math::RoundEvenOp::create(b_, loc_, x); }

Value KernelBuilder::callIntrinsic(StringRef name, Type result, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(b_, loc_, result, b_.getStringAttr(name), operands)
      .getResult(0);
}

Value KernelBuilder::pointerTo(Value memref) {
  Value address = memref::ExtractAlignedPointerAsIndexOp::create(b_, loc_, memref);
  return LLVM::IntToPtrOp::create(b_, loc_, LLVM::LLVMPointerType::get(b_.getContext()),
                                  toI64(address));
}
