// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Linear maps of a storage that attention moves away from the rows: on the key side to the query,
// once per task, on the value side behind the sum over rows, once per query head.

#pragma once

#include "targets/cpu/AttendLeaf.h"

namespace mlir::kvcache::cpu {

/// Multiplies f32 [n] from word `offset` of `memref` on by the orthonormal Hadamard matrix (n a
/// power of two; Sylvester order).
void rotateScratch(KernelBuilder &k, Value memref, Value offset, int64_t n);
/// ctx.queries, rotated, to `rotated` f32 [G][Dp].
void rotateAttendQueries(AttendContext &ctx, Value rotated);
/// basis^T q to `projected` f32 [G][rank, padded], q . mean to `constants` f32 [G]: arguments
/// kBasis, kMean.
void projectAttendQueries(AttendContext &ctx, Value projected, Value constants);
/// Accumulates the probabilities of the rows it is given: 16 words from `offset` on that add up to
/// their sum.
std::unique_ptr<AttendValueLeaf> makeWeightSumLeaf(AttendContext &ctx, int64_t offset);
/// Applies the maps of the value storage to `joined` of one query head: f32 [partialWidth], and Dp
/// words to work in. Its first Dp words become the final sums. Arguments vBasis, vMean for factor
/// values.
void emitAttendValueMaps(KernelBuilder &k, const AttendSpec &spec, Value joined, Value kvHead);

} // namespace mlir::kvcache::cpu
