// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Helpers of the ops that make index sets.

#pragma once

#include "targets/reference/Interpreter.h"

namespace mlir::kvcache::reference {

/// The count (a number, or a tensor over some of the other axes) at each point of the axes of
/// `scores` without `along`, in their order. Negative counts are 0.
std::vector<int64_t> countsOf(Interpreter &in, Value count, const Tensor &scores,
                              const std::string &along);

/// A selection without the capacity that no point uses; not ragged when every length is the same
/// and the leading axes are more than `head`.
Tensor trimmed(const Tensor &selection);

} // namespace mlir::kvcache::reference
