// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One number that stands for a model: of its config and all weight files.

#pragma once

#include "runtime/Status.h"

#include <string>

namespace kvcache::rt {

/// 16 hex digits: XXH3 of name and content of `directory`/config.json and each *.safetensors file,
/// in the order of their names. Bad input when a file cannot be read.
StatusOr<std::string> modelHash(const std::string &directory);

} // namespace kvcache::rt
