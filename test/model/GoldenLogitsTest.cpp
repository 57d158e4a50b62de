// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The decoder against logits of other implementations: the bundled model, and
// each family tiny.

#include "test/model/ModelFixtures.h"

using namespace kvcache::rt;
using namespace kvcache::test;

static constexpr double tolerance = 2e-3;

struct Golden {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
};

static std::vector<Golden> readGolden(const std::string &directory, int count) {
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
static void expectPrefillMatches(const std::string &directory, int count,
                                 int64_t chunk) {
  auto decoder = loadDecoder(directory);
  ASSERT_TRUE(decoder);
  PlainAttention attention(decoder->geometry(ElementType::F32));
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
    EXPECT_LT(largestDifference(runs[i]->logits, golden[i].logits), tolerance)
        << "sequence " << i;
  }
}

/// The first half by prefill, the rest one token at a time.
static void expectDecodeMatches(const std::string &directory) {
  auto decoder = loadDecoder(directory);
  ASSERT_TRUE(decoder);
  PlainAttention attention(decoder->geometry(ElementType::F32));
  Golden golden = readGolden(directory, 1).front();
  size_t vocab = static_cast<size_t>(decoder->config().vocabSize),
         half = golden.tokens.size() / 2;
  OwnedRun owned(attention,
                 {golden.tokens.begin(),
                  golden.tokens.begin() + static_cast<int64_t>(half)});
  expectOk(decoder->prefill(attention, {&owned.run}));
  expectOk(decoder->promptEnd(attention, {&owned.run}));
  for (size_t t = half; t < golden.tokens.size(); ++t) {
    std::vector<float> expected(
        golden.logits.begin() + static_cast<int64_t>((t - 1) * vocab),
        golden.logits.begin() + static_cast<int64_t>(t * vocab));
    ASSERT_LT(largestDifference(owned.run.logits, expected), tolerance)
        << "token " << t;
    expectOk(decoder->step(attention, {&owned.run}, &golden.tokens[t]));
  }
  EXPECT_EQ(owned.run.position, static_cast<int64_t>(golden.tokens.size()));
  EXPECT_EQ(attention.steps, static_cast<int64_t>(golden.tokens.size() - half));
}

TEST(GoldenLogits, bundled_model_prefill) {
  expectPrefillMatches(bundledModel(), 4, 512);
}
TEST(GoldenLogits, bundled_model_decode) {
  expectDecodeMatches(bundledModel());
}

class TinyModel : public testing::TestWithParam<const char *> {};

TEST_P(TinyModel, prefill_in_one_chunk) {
  expectPrefillMatches(tinyModel(GetParam()), 2, 512);
}
TEST_P(TinyModel, prefill_in_chunks_of_seven) {
  expectPrefillMatches(tinyModel(GetParam()), 2, 7);
}
TEST_P(TinyModel, decode) { expectDecodeMatches(tinyModel(GetParam())); }

INSTANTIATE_TEST_SUITE_P(Families, TinyModel,
                         testing::Values("llama-llama3-tied-f16",
                                         "llama-biases-untied-f32-sharded",
                                         "mistral-window-untied-bf16-sharded",
                                         "qwen2-biases-tied-f32",
                                         "qwen3-norms-untied-bf16",
                                         "qwen3-norms-tied-f16-sharded"));
