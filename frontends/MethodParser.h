// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Parses the text of a method file with the aliases of the prelude in scope. Locations of ops and
// of diagnostics are lines and columns of the file; that a prelude exists shows nowhere.

#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>

namespace mlir::kvcache {

/// The aliases that `text` may use and does not define itself, on one line: what the parser has to
/// see in front of it.
std::string preludeFor(StringRef text);

/// The verified module of `text`, which `path` names in locations. Emits what the parser and the
/// verifier say, and fails.
FailureOr<OwningOpRef<ModuleOp>> parseMethodText(MLIRContext &context, StringRef text,
                                                 StringRef path);

} // namespace mlir::kvcache
