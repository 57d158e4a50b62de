// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `methods`: what the library holds.

#pragma once

#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"

#include <memory>

namespace kvcache::tools {

/// `provider` outlives the command.
std::unique_ptr<Command> makeMethodsCommand(MethodProvider &provider);

/// name, family, title, paper, phases, labels, params, takes_budget, bits_per_value_k,
/// bits_per_value_v.
Json toJson(const MethodSummary &summary);

} // namespace kvcache::tools
