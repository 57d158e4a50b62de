// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir eval: quality, bytes and speed of methods over a grid of tasks, lengths and budgets.

#pragma once

#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"

#include <memory>

namespace kvcache::tools {

std::unique_ptr<Command> makeEvalCommand(MethodProvider &provider);

} // namespace kvcache::tools
