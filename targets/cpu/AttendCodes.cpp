// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Codes of words to f32 lanes. With AVX-512 a 16-entry register table replaces mask and conversion: the low four bits of a
// lane choose the entry, so that a table for 2-bit codes ignores the two bits above.

#include "targets/cpu/AttendCodes.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::ElementType;
using ::kvcache::abi::ZeroKind;

CodeUnpacker::CodeUnpacker(AttendContext &ctx, const ColumnLayout &column) : k_(ctx.k), column_(column), bits_(column.bits), centre_(symmetricZero(column.bits)) {
  if (!ctx.spec.tableLookup || bits_ > 4) {
    return;
  }
  SmallVector<float> entries;
  for (int64_t i = 0; i < lanes; ++i) {
    int64_t code = i & ((1 << bits_) - 1);
    entries.push_back(static_cast<float>(column.zero == ZeroKind::None ? code - centre_ : code));
  }
  auto value = DenseElementsAttr::get(k_.vec(k_.f32Type()), ArrayRef<float>(entries));
  table_ = arith::ConstantOp::create(k_.builder(), k_.loc(), value);
}

Value CodeUnpacker::unpack(Value words, int64_t j) {
  return unpack(words, j == 0 ? Value() : k_.splatI32(j * bits_));
}

Value CodeUnpacker::unpack(Value words, Value shifts) {
  Value shifted = shifts ? k_.shru(words, shifts) : words;
  if (table_) {
    return k_.callIntrinsic("llvm.x86.avx512.permvar.sf.512", k_.vec(k_.f32Type()), {table_, shifted});
  }
  return k_.intToF32(k_.andi(shifted, k_.splatI32((int64_t(1) << bits_) - 1)));
}

double CodeUnpacker::missingOffset() const {
  return column_.zero == ZeroKind::None && !table_ ? -static_cast<double>(centre_) : 0.0;
}

Value CodeUnpacker::constantTerm(Value scale, Value zero) {
  switch (column_.zero) {
  case ZeroKind::Min:
    return zero;
  case ZeroKind::Point:
    return k_.mul(scale, k_.neg(zero));
  case ZeroKind::None:
    return k_.mul(scale, k_.splatF32(missingOffset(), cast<VectorType>(scale.getType()).getNumElements()));
  }
  return Value();
}

Value mlir::kvcache::cpu::loadGroupValues(AttendContext &ctx, Value address, ElementType elem, int64_t n) {
  bool isFloat = elem == ElementType::F32 || elem == ElementType::F16 || elem == ElementType::BF16;
  return isFloat ? ctx.store.loadF32(address, elem, n) : ctx.k.intToF32(ctx.store.loadI32(address, elem, n));
}

Value mlir::kvcache::cpu::spreadLanes(KernelBuilder &k, Value values, ArrayRef<int64_t> which) { return k.shuffle(values, values, which); }

Value mlir::kvcache::cpu::reduceSegments(KernelBuilder &k, SmallVector<Value> vectors) {
  auto count = static_cast<int64_t>(vectors.size());
  std::vector<SmallVector<int64_t>> labels(vectors.size());
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      labels[i].push_back(i * (lanes / count) + lane / count);
    }
  }
  for (int64_t half = count / 2; half >= 1; half /= 2) {
    SmallVector<int64_t> lower;
    for (int64_t i = 0; i < lanes / half; ++i) { // segments of the pair, alternating within 128 bits where they fit
      int64_t per = half >= 4 ? lanes / (2 * half) : 2 / half;
      int64_t block = i / (2 * per), within = i % (2 * per), segment = block * per + within % per;
      for (int64_t lane = 0; lane < half; ++lane) {
        lower.push_back(within / per * lanes + segment * 2 * half + lane);
      }
    }
    SmallVector<int64_t> upper;
    for (int64_t lane : lower) {
      upper.push_back(lane + half);
    }
    for (size_t pair = 0; pair < vectors.size() / 2; ++pair) {
      SmallVector<int64_t> joined;
      for (int64_t lane : lower) {
        joined.push_back(labels[2 * pair + lane / lanes][lane % lanes]);
      }
      Value a = vectors[2 * pair], b = vectors[2 * pair + 1];
      vectors[pair] = k.add(k.shuffle(a, b, lower), k.shuffle(a, b, upper));
      labels[pair] = joined;
    }
    vectors.resize(vectors.size() / 2);
  }
  SmallVector<int64_t> order(lanes);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    order[labels[0][lane]] = lane;
  }
  return k.shuffle(vectors[0], vectors[0], order);
}
