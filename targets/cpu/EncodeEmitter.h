// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel that codes rows of a column: it reads the exact rows that are due and writes them to
// pages of the coded segment that are already reserved. Which rows are due is the store's decision
// (Step.BeginCode, Step.EndCode).
//
// Rows are f32 of their exact element type; under `rotated` they are first rotated
// (RowTransforms.h), a factor stores project(row) rounded to its element type. The affine
// quantizers, per group of b bits, top = 2^b - 1, every operation in f32 and rounded on its own,
// scale and zero rounded to their types before they are used, s = 0 gives code 0 (None: the code of
// 0):
//
//   hi = max x * clip, lo = min x * clip (Min takes no clip)
//   Min    s = (hi - lo) / top, m = lo
//          code = clamp(rne((x - m) / s), 0, top)
//   Point  hi = max(hi, 0), lo = min(lo, 0); when both are 0: hi = 1, lo = -1
//          s = (hi - lo) / top, z = rne(-lo / s)
//          code = clamp(rne(x / s) + z, 0, top)
//   None   u = 2^(b-1) - 1, s = max(|hi|, |lo|) / u
//          code = clamp(rne(x / s), -u, u) + u
//
// An integer zero type limits z to its range. Inputs are finite; a minimum of 0 may be stored with
// either sign.

#pragma once

#include "runtime/abi/StorageLayout.h"
#include "targets/cpu/EmittedKernel.h"

#include <string>

namespace mlir::kvcache::cpu {

/// Why rows of the column cannot be coded by a kernel; empty when they can.
std::string whyNotEncode(const ::kvcache::abi::ColumnLayout &column);

/// Codes the rows due[h] = {first, end} (absolute; multiples of the tile when it runs over tokens)
/// of every head. Arguments: store, basis f32 [H, width, rank] and mean f32 [H, width] (factor),
/// due i64 [H, 2], scalars {blocks}. Grid: heads, blocks.
EmittedKernel emitEncode(ModuleOp module, StringRef name,
                         ArrayRef<::kvcache::abi::ColumnLayout> columns, int64_t column);

} // namespace mlir::kvcache::cpu
