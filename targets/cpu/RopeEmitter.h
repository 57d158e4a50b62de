// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rotary embedding outside of attention: the table of a rope view, and rows of an event moved to
// other positions. Channels are paired half-split (i, i + D / 2): y_i = x_i cos a - x_j sin a, y_j
// = x_j cos a + x_i sin a with a = position * inverse frequency i. Angles are f64: an f32 angle at
// position 32,768 is off by a thousandth.

#pragma once

#include "targets/cpu/EmittedKernel.h"

namespace mlir::kvcache::cpu {

/// table f32 [rows, D]: the cosines of the D / 2 angles of position r, then their sines. Arguments:
/// frequencies f32 [D / 2], table, scalars {rows, blocks}. Grid: blocks.
EmittedKernel emitRopeTable(ModuleOp module, StringRef name, int64_t headDim);

/// Rotates rows by their positions, or back by them when `inverse`. Arguments: rows f32 [rows,
/// heads, D], positions i32 [rows], frequencies f32 [D / 2], out f32 [rows, heads, D], scalars
/// {rows}. Grid: rows.
EmittedKernel emitRopeRows(ModuleOp module, StringRef name, int64_t heads, int64_t headDim,
                           bool inverse);

} // namespace mlir::kvcache::cpu
