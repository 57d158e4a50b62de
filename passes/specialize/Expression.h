// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Integer expressions over geometry and parameters, as parameter defaults use them ("D / 2").

#pragma once

#include "mlir/Support/LLVM.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace mlir::kvcache {

/// Value of `text`: sums, differences, products, truncating quotients, parentheses, integers,
/// names. Nothing, with the reason in `error`, for an unknown name, a division by zero or text that
/// is not an expression.
std::optional<int64_t>
evaluateExpression(StringRef text, const std::map<std::string, int64_t> &names, std::string &error);

} // namespace mlir::kvcache
