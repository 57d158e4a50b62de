// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Order-preserving integer keys of scores, and the rows of keys and indices that selections and
// sorts keep in memory (NestSelect.cpp).

#pragma once

#include "targets/cpu/NestBody.h"

namespace mlir::kvcache::cpu {

/// i32 keys, signed order = order of the f32 numbers (vectors); both zeros have one key. Integers
/// are their own keys.
Value keysOf(KernelBuilder &k, Value x);
/// The f32 number of a key (scalar or vector).
Value numberOf(KernelBuilder &k, Value key);

/// Fills keys[base ..] with the keys of x along `axis`; a value that is not a number raises the
/// kernel's status.
void writeKeys(NestBody &body, Value x, StringRef axis, const Point &lead, Value n, Value keys,
               Value base);
/// Element at which the keys of a leading point start: the row-major number of the point times the
/// capacity.
Value keysBase(NestBody &body, Value x, StringRef axis, const Point &lead);
/// First element of the row of an index output.
Value rowBase(NestBody &body, const NestOperand &output, const Point &lead);

} // namespace mlir::kvcache::cpu
