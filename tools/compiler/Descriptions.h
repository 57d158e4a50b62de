// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the page of a method says of its phases, states and bytes, read off its IR.

#pragma once

#include "dialect/MethodOps.h"
#include "frontends/MethodSource.h"
#include "tools/commands/MethodDescription.h"

namespace kvcache::tools {

/// Phases of the methods as written, states and artefacts of `composed`, which has its symbols yet.
MethodDescription describe(const std::string &name, mlir::kvcache::LoadedMethods &methods,
                           mlir::kvcache::MethodOp composed);

/// Adds the columns of the caches of `specialized`, made from a method that was described, for f16.
void describeColumns(mlir::kvcache::MethodOp specialized, MethodDescription &description);

} // namespace kvcache::tools
