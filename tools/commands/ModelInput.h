// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Models and prompts that a command is given: folders, text files, token files.

#pragma once

#include "runtime/Status.h"
#include "runtime/model/Decoder.h"
#include "tools/commands/MethodProvider.h"

#include <memory>
#include <string>
#include <vector>

namespace kvcache::tools {

/// The folder of the bundled model: $KVASIR_MODEL where set, the source tree, or beside the
/// installed binary.
std::string bundledModel();

/// Tokens of a text file. Bad input, naming the file, when it is empty or the model takes no text.
rt::StatusOr<std::vector<int32_t>> readPrompt(const std::string &path,
                                              const rt::ModelConfig &config,
                                              const std::string &modelDirectory);

/// The dense method of `provider` for the geometry and target of `execution`. Bad input, saying
/// what to do instead, where the provider has none.
rt::StatusOr<std::unique_ptr<rt::Execution>> denseLike(const rt::Execution &execution,
                                                       MethodProvider &provider);

/// Feeds the calibrate phase with the activations of `tokens` in the model, prefilled with the
/// dense method of `provider` on the target of `execution`.
rt::Status calibrateFromTokens(rt::Execution &execution, rt::Decoder &decoder,
                               MethodProvider &provider, const std::vector<int32_t> &tokens);

/// Bytes of memory that the system counts as resident in this process; 0 when it does not tell.
int64_t residentBytes();

} // namespace kvcache::tools
