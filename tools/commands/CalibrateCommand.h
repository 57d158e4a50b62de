// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `calibrate`: runs the calibrate phase of a method once and keeps what it makes.

#pragma once

#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"

#include <memory>

namespace kvcache::tools {

/// `provider` outlives the command.
std::unique_ptr<Command> makeCalibrateCommand(MethodProvider &provider);

} // namespace kvcache::tools
