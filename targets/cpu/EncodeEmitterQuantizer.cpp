// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Emission of the affine quantizers. The order of operations is that of EncodeEmitter.h; no op here
// may be reassociated, contracted or replaced by a reciprocal.

#include "targets/cpu/EncodeEmitterQuantizer.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

Quantizer::Quantizer(KernelBuilder &kernel, const abi::ColumnLayout &column)
    : k_(kernel), column_(column) {}

Value Quantizer::constant(double value, Value like) {
  auto vector = dyn_cast<VectorType>(like.getType());
  return vector ? k_.splatF32(value, vector.getNumElements()) : k_.f32(value);
}

/// `value` after a trip through its stored type.
Value Quantizer::rounded(Value value, abi::ElementType elem) {
  if (isFloatElement(elem)) {
    return k_.widen(k_.narrow(value, k_.elemType(elem)));
  }
  double low = -2147483648.0, high = 2147483520.0; // I32: the largest f32 below 2^31
  switch (elem) {
  case abi::ElementType::I8:
    low = -128.0, high = 127.0;
    break;
  case abi::ElementType::U8:
    low = 0.0, high = 255.0;
    break;
  case abi::ElementType::I16:
    low = -32768.0, high = 32767.0;
    break;
  default:
    break;
  }
  return k_.min(k_.max(value, constant(low, value)), constant(high, value));
}

GroupParameters Quantizer::parameters(Value largest, Value smallest) {
  double top = static_cast<double>((int64_t(1) << column_.bits) - 1);
  Value zero = constant(0.0, largest);
  Value high = largest, low = smallest;
  if (column_.clip != 1.0) {
    high = k_.mul(high, constant(column_.clip, high));
    low = k_.mul(low, constant(column_.clip, low));
  }
  Value range;
  if (column_.zero == abi::ZeroKind::Point) {
    high = k_.max(high, zero);
    low = k_.min(low, zero);
    Value empty = k_.andi(k_.eq(high, zero), k_.eq(low, zero));
    high = k_.select(empty, constant(1.0, high), high);
    low = k_.select(empty, constant(-1.0, low), low);
    range = k_.sub(high, low);
  } else if (column_.zero == abi::ZeroKind::Min) {
    range = k_.sub(high, low);
  } else {
    range = k_.max(k_.abs(high), k_.abs(low));
    top = static_cast<double>(symmetricZero(column_.bits));
  }
  GroupParameters group;
  group.scale = rounded(k_.div(range, constant(top, range)), column_.scaleType);
  // A finite number divided by infinity is 0: the code that a scale of 0 asks for, without a
  // branch.
  group.divisor = k_.select(k_.gt(group.scale, zero), group.scale,
                            constant(std::numeric_limits<double>::infinity(), group.scale));
  if (column_.zero == abi::ZeroKind::Min) {
    group.zero = rounded(low, column_.zeroType);
  } else if (column_.zero == abi::ZeroKind::Point) {
    group.zero = rounded(k_.roundEven(k_.div(k_.neg(low), group.divisor)), column_.zeroType);
  }
  return group;
}

Value Quantizer::codes(Value x, Value zero, Value divisor) {
  double low = 0.0, high = static_cast<double>((int64_t(1) << column_.bits) - 1);
  if (column_.zero == abi::ZeroKind::Min) {
    x = k_.sub(x, zero);
  }
  Value number = k_.roundEven(k_.div(x, divisor));
  if (column_.zero == abi::ZeroKind::Point) {
    number = k_.add(number, zero);
  } else if (column_.zero == abi::ZeroKind::None) {
    high = static_cast<double>(symmetricZero(column_.bits));
    low = -high;
  }
  // max and min return their second operand for a value that is not a number, so the conversion is
  // always in range.
  number = k_.min(k_.max(number, constant(low, number)), constant(high, number));
  if (column_.zero == abi::ZeroKind::None) {
    number = k_.sub(number, constant(low, number));
  }
  return k_.f32ToInt(number);
}

Value Quantizer::storedZero(Value zero) {
  return isFloatElement(column_.zeroType) ? zero : k_.f32ToInt(zero);
}
