// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scalar ops (arith, math) on numbers: integers exactly, in two's complement of their width; floats
// in double. A cast to f16 or bf16 rounds, because that is what its author asks for; f32 and f64 do
// not.

#pragma once

#include "targets/reference/Value.h"

#include "mlir/IR/Block.h"
#include "mlir/IR/Operation.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

namespace mlir::kvcache::reference {

/// Computes the one result of `op`; sets `error` when it has none (an integer division by zero).
using ScalarFunction = Number (*)(Operation *op, ArrayRef<Number> args, const char *&error);

/// The meaning of a scalar op; null when `op` is none.
ScalarFunction findScalarFunction(Operation *op);

/// `value` as a number of `type`: whole and cut to the width for integers, real for floats.
Number numberOf(Type type, double value);

/// The scalar region of map or select.where, looked up once and run for every point.
class ScalarProgram {
public:
  /// Fails for an op that is not scalar.
  static StatusOr<ScalarProgram> compile(Block &block);
  /// One number per block argument in, one per yielded value out (`results` keeps its capacity
  /// between runs).
  Status run(ArrayRef<Number> args, SmallVectorImpl<Number> &results);

private:
  struct Step {
    Operation *op = nullptr;
    ScalarFunction function = nullptr;
    SmallVector<unsigned, 4> operands; ///< places in `numbers_`
  };
  std::vector<Step> steps_;
  SmallVector<unsigned> yielded_;
  SmallVector<Number> numbers_; ///< block arguments, then one result per step
  unsigned arguments_ = 0;
};

} // namespace mlir::kvcache::reference
