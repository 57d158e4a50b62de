// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Linear maps of one row held in registers or on the stack: the Hadamard rotation, the projection
// to the coefficients of a factor and back, RoPE of a stored row.
//
// Invariant: every value is computed by one fixed sequence of f32 operations, stated with each
// function, whatever the instruction set. The reference computes the same maps in double, so that
// codes made from them may differ at ties.

#pragma once

#include "targets/cpu/StoreAccess.h"

namespace mlir::kvcache::cpu {

/// Rows are unrolled into registers: wider ones would make kernels too large.
constexpr int64_t maxUnrolledWidth = 4096;

/// Stack scratch of n f32, 64-byte aligned, as memref<?xf32>. Call at the top of the kernel,
/// outside loops.
Value stackF32(KernelBuilder &k, int64_t n);

/// H x for the orthonormal Hadamard matrix of `width` = 2^m values held as channelChunks(width):
/// butterflies (a, b) -> (a + b, a - b) stage by stage, stride 1, 2, 4 .. width / 2, then each
/// value times f32(1 / sqrt(width)).
SmallVector<Value> hadamard(KernelBuilder &k, ArrayRef<Value> chunks, int64_t width);

/// Basis f32 [H, width, rank] and mean f32 [H, width] of a factor, for one head.
struct FactorAccess {
  Value basis, mean; ///< memref<?xf32>
  Value head;
  int64_t width, rank;
};

/// Coefficients of a row, channelChunks(rank): c[r] = sum over channels 0, 1, .. of (x[i] -
/// mean[i]) basis[i, r], one fma each. `scratch` holds `width` f32.
SmallVector<Value> project(KernelBuilder &k, const FactorAccess &factor, ArrayRef<Value> row,
                           Value scratch);

/// out[base + i] = (sum over r of c[r] basis[i, r]) + mean[i]: fma over r = l, l + 16, .. in lane
/// l, then the order of reduceAdd. `coefficients` are channelChunks(rank); `scratch` holds rank
/// rounded up to 16 f32.
void reconstruct(KernelBuilder &k, const FactorAccess &factor, ArrayRef<Value> coefficients,
                 Value scratch, Value out, Value base);

/// Rotates the `width` values at rows[base] in place by row `row` of `table` f32 [rows, width] (cos
/// of width / 2 angles, then sin), half-split pairs: (a, b) -> (a cos - b sin, b cos + a sin),
/// products rounded.
void rotateStoredRow(KernelBuilder &k, Value rows, Value base, Value table, Value row,
                     int64_t width);

} // namespace mlir::kvcache::cpu
