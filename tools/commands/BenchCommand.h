// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir bench attend: decode attention of methods against a baseline.

#pragma once

#include "tools/commands/AttendBench.h"
#include "tools/commands/Command.h"
#include "tools/commands/DemoCommand.h"

namespace kvcache::tools {

/// The command. `provider` has to outlive it.
std::unique_ptr<Command> makeBenchCommand(MethodProvider &provider);

/// Times for the demo, against dense at heads 32/8, D 128, T 32768, all in the same rounds.
AttendTimer makeDemoTimer(MethodProvider &provider);

} // namespace kvcache::tools
