// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `search`: finds the values of an artefact with one number for each layer by evolution, on tasks
// of a model.

#pragma once

#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"

#include <memory>

namespace kvcache::tools {

/// `provider` outlives the command.
std::unique_ptr<Command> makeSearchCommand(MethodProvider &provider);

} // namespace kvcache::tools
