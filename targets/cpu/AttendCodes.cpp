// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Codes of words to f32 lanes: one mask and one conversion each. Shifting codes down first would cost the units that
// multiply; a code left in place is an integer times a power of two, which f32 holds exactly.

#include "targets/cpu/AttendCodes.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::ElementType;
using ::kvcache::abi::ZeroKind;

Value CodeUnpacker::unpack(Value words, int64_t j) {
  if (j == codesPerWord() - 1) {
    return k_.intToF32(k_.shru(words, k_.splatI32(32 - bits_)));
  }
  return k_.intToF32(k_.andi(words, k_.splatI32(((int64_t(1) << bits_) - 1) << (bits_ * j))));
}

double CodeUnpacker::weight(int64_t j) const {
  return j == codesPerWord() - 1 ? 1.0 : static_cast<double>(int64_t(1) << (bits_ * j));
}

Value CodeUnpacker::constantTerm(Value scale, Value zero) {
  switch (column_.zero) {
  case ZeroKind::Min:
    return zero;
  case ZeroKind::Point:
    return k_.mul(scale, k_.neg(zero));
  case ZeroKind::None: {
    auto n = cast<VectorType>(scale.getType()).getNumElements();
    return k_.mul(scale, k_.splatF32(-static_cast<double>(symmetricZero(bits_)), n));
  }
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
