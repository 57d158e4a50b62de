// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The decoder against logits of other implementations, whatever computes the attention: test-only
// attention in GoldenLogitsTest, compiled kernels in test/compiled.

#pragma once

#include "test/model/ModelFixtures.h"

#include <functional>

namespace kvcache::test {

using namespace kvcache::rt;

/// Makes the attention for a geometry.
using ExecutionMaker = std::function<std::unique_ptr<Execution>(const Geometry &)>;

/// Largest difference of a logit that is allowed.
inline constexpr double tolerance = 2e-3;

/// One tiny model of each family, of each element type, tied and not, in one file and in several.
inline constexpr const char *tinyModels[] = {"llama-llama3-tied-f16",
                                             "llama-biases-untied-f32-sharded",
                                             "mistral-window-untied-bf16-sharded",
                                             "qwen2-biases-tied-f32",
                                             "qwen3-norms-untied-bf16",
                                             "qwen3-norms-tied-f16-sharded"};

struct Golden {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
};

inline std::vector<Golden> readGolden(const std::string &directory, int count) {
  auto file = SafetensorsFile::open(directory + "/golden.safetensors");
  expectOk(file.status());
  std::vector<Golden> result;
  for (int i = 0; file.isOk() && i < count; ++i) {
    auto tokens = (*file)->readI64(std::to_string(i) + ".tokens", {-1});
    auto logits = (*file)->readF32(std::to_string(i) + ".logits", {-1, -1});
    expectOk(tokens.status());
    expectOk(logits.status());
    result.push_back({{tokens->begin(), tokens->end()}, *logits});
  }
  return result;
}

/// Prefill of all sequences as one batch, in chunks.
inline void expectPrefillMatches(const ExecutionMaker &make, const std::string &directory,
                                 int count, int64_t chunk) {
  auto decoder = loadDecoder(directory);
  ASSERT_TRUE(decoder);
  std::unique_ptr<Execution> execution = make(decoder->geometry(ElementType::F32));
  ASSERT_TRUE(execution);
  Execution &attention = *execution;
  std::vector<Golden> golden = readGolden(directory, count);
  std::vector<OwnedRun> owned;
  std::vector<SequenceRun *> runs;
  for (const Golden &one : golden) {
    owned.emplace_back(attention, one.tokens);
  }
  for (OwnedRun &one : owned) {
    runs.push_back(&one.run);
  }
  PrefillOptions options;
  options.chunk = chunk;
  options.allLogits = true;
  expectOk(decoder->prefill(attention, runs, options));
  for (size_t i = 0; i < golden.size(); ++i) {
    EXPECT_LT(largestDifference(runs[i]->logits, golden[i].logits), tolerance) << "sequence " << i;
  }
}

/// The first half by prefill, the rest one token at a time.
inline void expectDecodeMatches(const ExecutionMaker &make, const std::string &directory) {
  auto decoder = loadDecoder(directory);
  ASSERT_TRUE(decoder);
  std::unique_ptr<Execution> execution = make(decoder->geometry(ElementType::F32));
  ASSERT_TRUE(execution);
  Execution &attention = *execution;
  Golden golden = readGolden(directory, 1).front();
  size_t vocab = static_cast<size_t>(decoder->config().vocabSize), half = golden.tokens.size() / 2;
  OwnedRun owned(attention,
                 {golden.tokens.begin(), golden.tokens.begin() + static_cast<int64_t>(half)});
  expectOk(decoder->prefill(attention, {&owned.run}));
  expectOk(decoder->promptEnd(attention, {&owned.run}));
  for (size_t t = half; t < golden.tokens.size(); ++t) {
    std::vector<float> expected(golden.logits.begin() + static_cast<int64_t>((t - 1) * vocab),
                                golden.logits.begin() + static_cast<int64_t>(t * vocab));
    ASSERT_LT(largestDifference(owned.run.logits, expected), tolerance) << "token " << t;
    expectOk(decoder->step(attention, {&owned.run}, &golden.tokens[t]));
  }
  EXPECT_EQ(owned.run.position, static_cast<int64_t>(golden.tokens.size()));
}

} // namespace kvcache::test
