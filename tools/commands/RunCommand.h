// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `run`: generates text with a compressed cache and proves the compression.

#pragma once

#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"

#include <memory>

namespace kvcache::tools {

/// `provider` outlives the command.
std::unique_ptr<Command> makeRunCommand(MethodProvider &provider);

} // namespace kvcache::tools
