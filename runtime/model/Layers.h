// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The row-wise parts of a decoder layer. Each row is computed alone, in a fixed
// order.

#pragma once

#include <cstdint>
#include <vector>

namespace kvcache::rt {

/// y[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight for each row [width]; x and
/// y may be the same.
void rmsNorm(const float *x, const float *weight, float eps, int64_t rows, int64_t width, float *y);

/// Cosines and sines of the RoPE angles of some rows: position times inverse
/// frequency, in double.
class RopeTable {
public:
  /// `positions` [rows], `inverseFrequencies` [D/2].
  void fill(const std::vector<int32_t> &positions, const std::vector<float> &inverseFrequencies);
  /// Rotates x [rows, heads, D] in place, pairs (x[i], x[i + D/2]).
  void rotate(float *x, int64_t heads) const;

private:
  int64_t rows_ = 0, half_ = 0;
  std::vector<float> cosines_, sines_; ///< [rows, D/2]
};

/// gate = silu(gate) * up over [rows, width].
void swiglu(float *gate, const float *up, int64_t rows, int64_t width);

} // namespace kvcache::rt
