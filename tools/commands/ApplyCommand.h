// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `apply`: compresses a dumped cache. The conformance interface: a pure function of its input file.

#pragma once

#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"

#include <memory>

namespace kvcache::tools {

/// `provider` outlives the command.
std::unique_ptr<Command> makeApplyCommand(MethodProvider &provider);

} // namespace kvcache::tools
