// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels that move rows between dense buffers and a cache store: append, compaction to kept rows,
// writing and reading a column. In all of them H are the row heads of the store, `columns` the
// layouts of all its columns in order, and task (h, b) writes rows of head h only, so that tasks
// write disjoint memory.
//
// Every kernel takes the store as its first argument, `store`; its scalars, where it has any, are
// the last argument.

#pragma once

#include "runtime/abi/StorageLayout.h"
#include "targets/cpu/EmittedKernel.h"

#include <string>
#include <vector>

namespace mlir::kvcache::cpu {

/// Where the new rows of a column come from.
struct AppendSource {
  enum class Kind {
    Rows, ///< buffer f32 [rows, H / sharedBy, width]; converted when the column is of integers
    Positions, ///< buffer i32 [rows], the same for all heads; the column is i32 of width 1
    Constant   ///< `constant` in every value
  };
  int64_t column = 0;
  Kind kind = Kind::Rows;
  std::string buffer; ///< name of the argument; empty for Constant
  double constant = 0;
  int64_t sharedBy = 1; ///< neighbouring row heads that take the same rows
};

/// Rounds the rows of an event to their element type and writes them to the last `rows` rows of
/// each head (the store has been grown by them). Columns without a source keep what their new rows
/// hold. Arguments: store, one buffer per source that has one (in order), scalars {rows, blocks}.
/// Grid: heads, blocks.
EmittedKernel emitAppend(ModuleOp module, StringRef name,
                         ArrayRef<::kvcache::abi::ColumnLayout> columns,
                         ArrayRef<AppendSource> sources);

/// How kept rows are named.
struct KeptRows {
  bool perHead = true; ///< indices [H, capacity] rather than one list [capacity] for all heads
  bool raggedLengths = true; ///< lengths i32 [H] rather than the scalar word `length`
};

/// Moves the kept rows of every column to the front, in place: row i of head h becomes row
/// indices[h, i], i < length; indices ascend strictly. All rows have to be exact. Arguments: store,
/// indices i32, lengths i32 [H] and scalars {capacity} (raggedLengths), or scalars {capacity,
/// length}. Grid: heads, number of columns.
EmittedKernel emitCompact(ModuleOp module, StringRef name,
                          ArrayRef<::kvcache::abi::ColumnLayout> columns, KeptRows kept);

/// Writes the exact rows of one column (rows that are coded are left alone) from values [H,
/// capacity, width], f32 or, for a column of integers, i32. Arguments: store, values, scalars
/// {capacity, blocks}. Grid: heads, blocks.
EmittedKernel emitSetColumn(ModuleOp module, StringRef name,
                            ArrayRef<::kvcache::abi::ColumnLayout> columns, int64_t column);

/// Why a column cannot be read; empty when it can. `ropeDim`: values of a head that RoPE turns, 0
/// without.
std::string whyNotRead(const ::kvcache::abi::ColumnLayout &column, int64_t ropeDim);

/// Rows of one column as a reader sees them, to out [H, capacity, width] f32 (i32 for a column of
/// integers): codes decoded, rotation undone, factor multiplied out; each `ropeDim` values of a row
/// rotated to its row number (0: none). Entries of `out` behind the rows of a head stay. Arguments: store, basis f32 [H,
/// width, rank] and mean f32 [H, width] (factor), ropeTable f32 [rows, ropeDim] (ropeDim > 0:
/// cos of ropeDim / 2 angles, then sin), out, scalars {capacity, blocks}. Grid: heads, blocks.
EmittedKernel emitRead(ModuleOp module, StringRef name,
                       ArrayRef<::kvcache::abi::ColumnLayout> columns, int64_t column,
                       int64_t ropeDim = 0);

} // namespace mlir::kvcache::cpu
