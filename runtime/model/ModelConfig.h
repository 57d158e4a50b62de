// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What `config.json` of a Hugging Face folder says about a decoder. A key that
// Kvasir does not know could change the results, so it is refused by name;
// nothing is guessed.

#pragma once

#include "runtime/Execution.h"
#include "runtime/Status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kvcache::rt {

/// The sizes and switches of a Llama-style decoder.
struct ModelConfig {
  std::string path;         ///< the file this came from, for messages
  std::string architecture; ///< LlamaForCausalLM, MistralForCausalLM,
                            ///< Qwen2ForCausalLM or Qwen3ForCausalLM
  int64_t vocabSize = 0;
  int64_t hiddenSize = 0;
  int64_t intermediateSize = 0;
  int64_t layers = 0;
  int64_t queryHeads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
  int64_t slidingWindow = 0; ///< tokens a query sees, itself included; 0 = all
  float rmsNormEps = 0;
  bool tiedHead = false;          ///< the output head is the embedding matrix
  bool qkvBias = false;           ///< q, k and v projections add a bias
  bool outputBias = false;        ///< the attention output projection adds a bias
  bool mlpBias = false;           ///< gate, up and down projections add a bias
  bool qkNorm = false;            ///< RMSNorm of each query and key head before RoPE
  std::vector<float> ropeInvFreq; ///< [D/2], scaling applied; pair i is (x[i], x[i + D/2])
  int64_t bosToken = -1;          ///< -1 = the file names none
  std::vector<int64_t> eosTokens;

  /// Reads `directory`/config.json. Bad input names the key, what was expected
  /// and what was found.
  static StatusOr<ModelConfig> load(const std::string &directory);
  /// As `load`, from the text of a config; `path` is for messages.
  static StatusOr<ModelConfig> parse(const std::string &path, const std::string &text);
  /// The geometry an executable for this model is compiled for.
  Geometry geometry(ElementType act) const;
};

} // namespace kvcache::rt
