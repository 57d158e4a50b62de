// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Coded rows in the form `apply` writes them.

#pragma once

#include "targets/reference/CacheTable.h"

#include "runtime/Execution.h"

namespace mlir::kvcache::reference {

/// Codes, scales, zeros and stored bytes of channels [first, first + width) of the coded rows of a
/// column.
rt::CodedRows exportCodes(const ::kvcache::abi::ColumnLayout &layout, const CodedColumn &coded,
                          int64_t first, int64_t width);

} // namespace mlir::kvcache::reference
