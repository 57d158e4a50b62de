// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tables that come with a prompt, as commands are given them. Those whose meaning is known are
// checked before a method sees them:
//   question              one number: how many tokens at the end of the prompt ask it
//   segments, shots       for each part of the prompt the row behind it, ascending, the last one
//   that of the prompt keep                  1 for each token of the prompt that must stay, else 0
// `special` and `punctuation` are ids of tokens, in any order; a table of another name may hold
// anything.

#pragma once

#include "runtime/Execution.h"
#include "runtime/model/ModelConfig.h"

#include <string>
#include <vector>

namespace kvcache::tools {

/// Reads NAME=1,2,3 of --request. Bad input, naming the option, when one is not of that form or a
/// name is given twice.
rt::StatusOr<rt::RequestTables> parseRequestTables(const std::vector<std::string> &texts);

/// Bad input when a table cannot be one of a prompt of `tokens`. `place` stands before its name in
/// the message.
rt::Status checkRequestTables(const rt::RequestTables &tables, int64_t tokens,
                              const std::string &place);

/// Adds the ids of special tokens and of punctuation where the model tells them and no table does.
void addKnownTables(const rt::ModelConfig &config, rt::RequestTables &tables);

} // namespace kvcache::tools
