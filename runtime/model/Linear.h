// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Dense products of the decoder: a serial BLAS called in tasks over fixed
// tiles, so the result does not depend on the number of threads.

#pragma once

#include <cstdint>
#include <vector>

namespace kvcache::rt {

/// Activation buffers hold a multiple of this many rows. Products run over whole
/// groups, as the BLAS treats a remainder with other code: a row's rounding then
/// depends on its place in its group at most, not on how many rows share the
/// call. So two runs of one batch, in the same order, agree bit for bit.
constexpr int64_t rowGroup = 12;

/// `rows` rounded up to whole groups.
inline int64_t paddedRows(int64_t rows) { return (rows + rowGroup - 1) / rowGroup * rowGroup; }

/// A weight matrix [out, in], row-major; not owned.
struct Matrix {
  const float *data = nullptr;
  int64_t out = 0, in = 0;
};

/// One product y = x W^T + b, or y += x W^T + b when `accumulate`.
struct Product {
  Matrix weight;
  const float *bias = nullptr; ///< [out] or null
  float *y = nullptr;          ///< [paddedRows(rows), out]
  bool accumulate = false;
};

/// Runs products that share x [paddedRows(rows), in]. Rows past `rows` of x are
/// read and those of y are overwritten; they carry no meaning.
void multiply(const float *x, int64_t rows, const std::vector<Product> &products);

} // namespace kvcache::rt
