// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The page of a method (docs/methods), generated from what its file says.

#pragma once

#include "tools/commands/MethodProvider.h"

#include <string>
#include <vector>

namespace kvcache::tools {

/// Markdown: what the method is, how it differs from its paper, inputs, phases, state, memory,
/// labels, parameters, citation.
std::string methodPage(const MethodSummary &method);

/// Writes a page for each method, named after it, and an index of them into `folder`, which is made
/// when it is missing. Pages of methods that are no longer shipped are not removed.
rt::Status writeMethodPages(const std::string &folder, const std::vector<MethodSummary> &methods);

} // namespace kvcache::tools
