// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Helpers of the ops that make index sets.

#pragma once

#include "targets/reference/Interpreter.h"

namespace mlir::kvcache::reference {

/// A count for all leading points (a number), or one for each (a tensor). Negative counts are 0.
std::vector<int64_t> countsOf(Interpreter &in, Value count);

/// A selection without the capacity that no point uses; not ragged when every length is the same
/// and the leading axes are more than `head`.
Tensor trimmed(const Tensor &selection);

} // namespace mlir::kvcache::reference
