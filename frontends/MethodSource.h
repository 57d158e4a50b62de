// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where methods come from: shipped ones, embedded in the binary, and files of the user. The aliases
// of the prelude stand in front of every text on its first line, so that line numbers stay the
// user's.

#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Support/LLVM.h"

#include <map>
#include <string>
#include <vector>

namespace mlir::kvcache {

/// What a method name stands for, ready to be composed.
struct LoadedMethods {
  OwningOpRef<ModuleOp> module;   ///< every method that is needed, each under its symbol name
  std::vector<std::string> parts; ///< the methods that define slots, in the order of `A+B`
  std::vector<std::string>
      bases; ///< methods named by `method` parameters, nearest first: they fill what is left out
};

/// Names of the shipped methods, sorted.
std::vector<std::string> shippedMethodNames();

/// The text of a shipped method as its author wrote it; empty when there is none of that name.
StringRef shippedMethodText(StringRef name);

/// Loads `source`: the name of a shipped method, a .mlir file (holding one method, or a compose
/// op), formats (FormatMethod.h), or several of these joined by '+'. `overrides` are parameter
/// values by name; only those of `method` parameters matter here. Loads the dialects it needs into
/// `context`. On failure one diagnostic has been emitted on the context: an unknown name, an
/// unreadable file, or malformed IR with its file and line.
FailureOr<LoadedMethods> loadMethods(MLIRContext &context, StringRef source,
                                     const std::map<std::string, std::string> &overrides = {});

} // namespace mlir::kvcache
