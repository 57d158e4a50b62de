// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The coded rows of a column as plain arrays, for those who check or exchange them. Works from the
// layout alone (runtime/abi/StorageLayout.h), so every quantized storage comes out the same way.

#pragma once

#include "runtime/Execution.h"
#include "runtime/cache/Store.h"

namespace kvcache::rt {

/// Which part of a store belongs to a KV head: a row head, and `channels` values of each row from
/// `firstChannel`.
struct HeadSlice {
  int64_t rowHead = 0;
  int64_t firstChannel = 0, channels = 0;
};

/// Codes, scales, zeros and stored bytes of the coded rows of a quantized column. Groups and bytes
/// that reach beyond the slice are given whole.
CodedRows exportCoded(const Store &store, int32_t column, const HeadSlice &slice);
/// The values of one value per row of an i32 or i64 column without codes; empty when the column is
/// not of that kind.
std::vector<int64_t> exportIntegers(const Store &store, int32_t column, int64_t rowHead);

} // namespace kvcache::rt
