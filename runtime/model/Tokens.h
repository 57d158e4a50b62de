// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From text or a file to token ids and back. Kvasir carries no vocabulary: text
// is for byte-level models, where a token is a byte; any other model is fed ids
// that its own tokenizer made.

#pragma once

#include "runtime/Status.h"
#include "runtime/model/ModelConfig.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kvcache::rt {

/// First token of every byte-level sequence, and the one that ends it.
constexpr int32_t byteLevelBegin = 256, byteLevelEnd = 257;

/// True when token ids below 256 are bytes: begin and end are 256 and 257, and
/// little else follows.
bool isByteLevel(const ModelConfig &config);

/// Ids of a byte-level model: those that are no bytes, and the bytes of ASCII punctuation.
std::vector<int32_t> byteLevelSpecialIds();
std::vector<int32_t> byteLevelPunctuationIds();

/// [256, bytes of `text`]. Bad input for a model that is not byte-level; the
/// message has the command that makes ids. `directory` is the model's folder,
/// for the message.
StatusOr<std::vector<int32_t>> tokensOfText(const ModelConfig &config, const std::string &directory,
                                            const std::string &text);
/// The bytes among `tokens`; ids of 256 and more have no text and are left out.
std::string textOfTokens(const std::vector<int32_t> &tokens);

/// Reads the sequences of a token file: a JSON array of ids, a JSON array of
/// such arrays, or a safetensors file whose I32 tensors [T] or [N, T] are
/// sequences, in the order of their names (numbers in names compare as
/// numbers). Every id is checked against `vocabSize`. Bad input names file,
/// sequence and token.
StatusOr<std::vector<std::vector<int32_t>>> readTokenFile(const std::string &path,
                                                          int64_t vocabSize);

} // namespace kvcache::rt
