// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `explain`: what a method needs, holds, runs and moves, without running it.

#pragma once

#include "tools/commands/Command.h"
#include "tools/compiler/CompilerProvider.h"

#include <memory>

namespace kvcache::tools {

/// `provider` outlives the command.
std::unique_ptr<Command> makeExplainCommand(CompilerProvider &provider);

} // namespace kvcache::tools
