// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `compile`: a method to a .kvx file, or to the text of a stage on the way there.

#pragma once

#include "tools/commands/Command.h"
#include "tools/compiler/CompilerProvider.h"

#include <memory>

namespace kvcache::tools {

/// `provider` outlives the command.
std::unique_ptr<Command> makeCompileCommand(CompilerProvider &provider);

/// The geometry that --geometry and --model name together: the model's (the bundled one when
/// neither is given), then what --geometry overrides. `tokens`: see parseGeometry.
rt::StatusOr<rt::Geometry> chooseGeometry(const std::string &geometry, const std::string &model,
                                          int64_t *tokens);

} // namespace kvcache::tools
