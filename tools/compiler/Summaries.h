// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a method is, read off its IR: phases, parameters, legality labels, bits per value.

#pragma once

#include "dialect/MethodOps.h"
#include "frontends/MethodSource.h"
#include "tools/commands/MethodProvider.h"

namespace kvcache::tools {

/// Why `--budget` is refused and what the method takes instead; for methods that bind no budget.
std::string budgetRefusal(const std::string &name, mlir::kvcache::MethodOp method);

/// Summary of a loaded method with its default parameters.
MethodSummary summarize(const std::string &name, mlir::kvcache::LoadedMethods &methods);

} // namespace kvcache::tools
