// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs of exact values that lie side by side both in a page and in a dense [H, capacity, width]
// buffer.

#pragma once

#include "targets/cpu/StoreAccess.h"

namespace mlir::kvcache::cpu {

/// Calls `body(address, element, n)` for all values of the exact rows of [lo, hi) of a head, n = 16
/// or 1 at a time: `address` in the arena, `element` in a buffer [H, capacity, width]. `body` is
/// called several times to emit the copies.
void forDenseRuns(StoreAccess &store, int64_t column, Value head, Value capacity, Value lo,
                  Value hi, llvm::function_ref<void(Value address, Value element, int64_t n)> body);

} // namespace mlir::kvcache::cpu
