// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows of a column that are due to be coded, on their way through an encoder: out of the store into
// a dense buffer, and back. Task (h, b) handles rows of head h only.

#pragma once

#include "runtime/abi/StorageLayout.h"
#include "targets/cpu/EmittedKernel.h"

namespace mlir::kvcache::cpu {

/// Copies the exact rows due[h] = {first, end} of each head to rows f32 [H, capacity, width] and
/// writes how many blocks of `block` rows they are to lengths i32 [H]. Arguments: store, due i64
/// [H, 2], lengths, rows, scalars {capacity, blocks}. Grid: heads, blocks.
EmittedKernel emitLoadDue(ModuleOp module, StringRef name,
                          ArrayRef<::kvcache::abi::ColumnLayout> columns, int64_t column,
                          int64_t block);

/// Writes rows f32 [H, capacity, width], rounded to the column's exact element type, over the exact
/// rows due[h]. Arguments: store, due i64 [H, 2], rows, scalars {capacity, blocks}. Grid: heads,
/// blocks.
EmittedKernel emitStoreDue(ModuleOp module, StringRef name,
                           ArrayRef<::kvcache::abi::ColumnLayout> columns, int64_t column);

} // namespace mlir::kvcache::cpu
