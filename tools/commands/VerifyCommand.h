// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `verify`: every target against the reference, on generated inputs and edge shapes.

#pragma once

#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"

#include <memory>

namespace kvcache::tools {

/// `provider` outlives the command.
std::unique_ptr<Command> makeVerifyCommand(MethodProvider &provider);

} // namespace kvcache::tools
