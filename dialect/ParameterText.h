// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The value of a parameter as reports and files of artefacts write it. Invariant: every target and
// every tool writes the same text for the same value.

#pragma once

#include "dialect/MethodOps.h"

#include <string>

namespace mlir::kvcache {

/// `true`, `64`, `0.5` (as %g), `max` or `[0, 1]`.
std::string parameterText(ParamOp param);

} // namespace mlir::kvcache
