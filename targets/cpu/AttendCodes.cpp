// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Codes of words to f32 lanes: one mask and one conversion each. Shifting codes down first would
// cost the units that multiply; a code left in place is an integer times a power of two, which f32
// holds exactly.

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

Value mlir::kvcache::cpu::loadGroupValues(AttendContext &ctx, Value address, ElementType elem,
                                          int64_t n) {
  // A load of one narrow value would be merged into a register, and wait for whoever wrote that
  // last.
  n = ::kvcache::abi::bytesOf(elem) < 4 ? std::max<int64_t>(n, 4) : n;
  bool isFloat = elem == ElementType::F32 || elem == ElementType::F16 || elem == ElementType::BF16;
  return isFloat ? ctx.store.loadF32(address, elem, n)
                 : ctx.k.intToF32(ctx.store.loadI32(address, elem, n));
}

Value mlir::kvcache::cpu::spreadLanes(KernelBuilder &k, Value values, ArrayRef<int64_t> which) {
  return k.shuffle(values, values, which);
}

LaneSums::LaneSums(SmallVector<Value> originals) : vectors(std::move(originals)) {
  for (int64_t i = 0; i < static_cast<int64_t>(vectors.size()); ++i) {
    labels.emplace_back();
    for (int64_t lane = 0; lane < lanes; ++lane) {
      labels.back().push_back(i * lanes + lane);
    }
  }
}

void LaneSums::halve(KernelBuilder &k) {
  if (vectors.size() % 2 != 0) {
    bool integers = cast<VectorType>(vectors[0].getType()).getElementType().isInteger();
    vectors.push_back(integers ? k.splatI32(0) : k.splatF32(0));
    labels.push_back(SmallVector<int64_t>(lanes, -1));
  }
  // Two rounds within 128 bits (vshufps), two of whole 128 bits (vshuff64x2).
  SmallVector<int64_t> lower, upper;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    int64_t unit = halvings < 2 ? 1 : 4, place = lane / unit % 4, block = lane / (4 * unit);
    lower.push_back(place / 2 * lanes + (4 * block + 2 * (place % 2)) * unit + lane % unit);
    upper.push_back(lower.back() + unit);
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
  labels.resize(vectors.size());
  ++halvings;
}
