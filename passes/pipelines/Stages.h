// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The stages a method goes through before a target takes it (docs/architecture.md), by name.

#pragma once

#include "passes/compose/Compose.h"
#include "passes/specialize/Specialize.h"

#include <optional>

namespace mlir::kvcache {

/// In order; each includes those before it.
enum class Stage { Composed, Specialized, Decomposed, Fused };

/// "composed", "specialized", "decomposed", "fused".
StringRef nameOf(Stage stage);
std::optional<Stage> stageFromName(StringRef name);

/// Composes the requested method in `module` and takes it to `last`. The module keeps its other
/// methods. Every stage is verified, and its contract checked, before the next begins. Emits one
/// diagnostic on failure.
FailureOr<MethodOp> runStages(ModuleOp module, const ComposeRequest &request,
                              const MethodGeometry &geometry, Stage last);

} // namespace mlir::kvcache
