// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The shipped methods as text. Defined in a generated file (EmbedMethods.cmake), so the tools need
// no path.

#pragma once

#include <cstddef>

namespace mlir::kvcache {

struct MethodText {
  const char *name; ///< as users write it: the file's name without .mlir
  const char *text; ///< the file
};

/// Sorted by name.
extern const MethodText shippedMethodTexts[];
extern const std::size_t numShippedMethodTexts;
/// Type aliases that every method may use.
extern const char *const methodPreludeText;

} // namespace mlir::kvcache
