// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What an SSA value of a phase is while the reference target evaluates it: a number, a tensor or a
// cache. Values are immutable and shared; index sets are tensors of whole numbers.

#pragma once

#include "runtime/reference/Tensor.h"

#include <cstdint>
#include <memory>
#include <variant>

namespace mlir::kvcache::reference {

namespace rt = ::kvcache::rt;
using rt::Status;
using rt::StatusOr;
using rt::reference::Axis;
using rt::reference::Tensor;

struct CacheTable;

/// A scalar. Integers (index, i1 as 0 / 1, i32, i64) are exact, floats are real arithmetic in
/// double.
struct Number {
  bool isReal = false;
  double real = 0.0;
  int64_t integer = 0;

  static Number ofReal(double value) { return {true, value, 0}; }
  static Number ofInteger(int64_t value) { return {false, 0.0, value}; }
  double asReal() const { return isReal ? real : static_cast<double>(integer); }
  int64_t asInteger() const { return isReal ? static_cast<int64_t>(real) : integer; }
};

/// A tensor, and where it came from as far as a reader of the cache is told.
struct TensorValue {
  Tensor tensor;
  /// Entries that merge.into folded into each destination row [head?, token..]; no axes and no
  /// values otherwise.
  std::shared_ptr<const Tensor> merged;
};

using RuntimeValue = std::variant<std::monostate, Number, std::shared_ptr<const TensorValue>,
                                  std::shared_ptr<const CacheTable>>;

inline RuntimeValue valueOf(Tensor tensor) {
  return std::make_shared<const TensorValue>(TensorValue{std::move(tensor), nullptr});
}

} // namespace mlir::kvcache::reference
