// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The affine quantizers of EncodeEmitter.h on vectors or scalars of f32: group parameters from a
// group's extremes, codes from parameters.

#pragma once

#include "targets/cpu/StoreAccess.h"

namespace mlir::kvcache::cpu {

/// Parameters of a group (scalars) or of one group per lane (vectors), all f32.
struct GroupParameters {
  Value scale;   ///< rounded to the scale's type
  Value zero;    ///< rounded minimum or point; null for ZeroKind::None
  Value divisor; ///< scale, or infinity where it is 0
};

class Quantizer {
public:
  Quantizer(KernelBuilder &kernel, const ::kvcache::abi::ColumnLayout &column);

  /// From the largest and smallest value of the group.
  GroupParameters parameters(Value largest, Value smallest);
  /// Codes of vector<nxf32>, parameters per lane, as vector<nxi32> in [0, 2^bits).
  Value codes(Value x, Value zero, Value divisor);
  /// A zero as it is stored: f32, or i32 when its type is of integers.
  Value storedZero(Value zero);

private:
  Value constant(double value, Value like);
  Value rounded(Value value, ::kvcache::abi::ElementType elem);

  KernelBuilder &k_;
  const ::kvcache::abi::ColumnLayout &column_;
};

} // namespace mlir::kvcache::cpu
