// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Token ids from text and files.

#include "runtime/model/Tokens.h"
#include "test/model/ModelFixtures.h"

using namespace kvcache::rt;
using namespace kvcache::test;

using Sequences = std::vector<std::vector<int32_t>>;

static StatusOr<Sequences> readText(const std::string &text) {
  TemporaryFolder folder;
  folder.write("ids.json", text);
  return readTokenFile(folder.path("ids.json"), 100);
}

TEST(Tokens, text_of_a_byte_level_model) {
  auto config = ModelConfig::load(bundledModel());
  ASSERT_TRUE(config.isOk());
  auto tokens = tokensOfText(*config, "dir", "a\n\xff");
  ASSERT_TRUE(tokens.isOk());
  EXPECT_EQ(*tokens, (std::vector<int32_t>{256, 97, 10, 255}));
  EXPECT_EQ(textOfTokens({256, 97, 10, 255, 257, 260}), "a\n\xff");
}

TEST(Tokens, negative_text_for_another_vocabulary) {
  auto config = ModelConfig::load(tinyModel("qwen2-biases-tied-f32"));
  ASSERT_TRUE(config.isOk());
  EXPECT_FALSE(isByteLevel(*config));
  expectBadInput(
      tokensOfText(*config, "some/dir", "a").status(),
      {"some/dir", "vocabulary 96", "AutoTokenizer.from_pretrained('some/dir')", "--tokens"});
}

TEST(Tokens, json_files) {
  EXPECT_EQ(*readText("[1, 2, 99]"), (Sequences{{1, 2, 99}}));
  EXPECT_EQ(*readText("[[1, 2], [3]]"), (Sequences{{1, 2}, {3}}));
}

TEST(Tokens, safetensors_in_the_order_of_their_numbers) {
  TemporaryFolder folder;
  SafetensorsWriter writer;
  int32_t ids[6] = {1, 2, 3, 4, 5, 6};
  float logits[2] = {0, 0};
  writer.addView("10.tokens", DType::I32, {2}, ids);
  writer.addView("2.tokens", DType::I32, {2, 3}, ids);
  writer.addView("2.logits", DType::F32, {2}, logits);
  expectOk(writer.write(folder.path("ids.safetensors")));
  auto sequences = readTokenFile(folder.path("ids.safetensors"), 100);
  ASSERT_TRUE(sequences.isOk()) << sequences.status().message();
  EXPECT_EQ(*sequences, (Sequences{{1, 2, 3}, {4, 5, 6}, {1, 2}}));
  expectBadInput(readTokenFile(folder.path("ids.safetensors"), 6).status(),
                 {"token 2 of sequence 1", "0..5", "found 6"});
}

TEST(Tokens, negative_files) {
  expectBadInput(readText("[1, 100]").status(),
                 {"ids.json", "token 1 of sequence 0", "0..99", "found 100"});
  expectBadInput(readText("[[1], [2, -3]]").status(), {"token 1 of sequence 1", "found -3"});
  expectBadInput(readText("[1.5]").status(), {"found 1.5"});
  expectBadInput(readText("[[1], 2]").status(), {"like the first"});
  expectBadInput(readText("[[1], []]").status(), {"sequence 1 is empty"});
  expectBadInput(readText("[]").status(), {"sequence 0 is empty"});
  expectBadInput(readText("{\"a\": 1}").status(), {"JSON array"});
  expectBadInput(readText("").status(), {"JSON array"});
  TemporaryFolder folder;
  expectBadInput(readTokenFile(folder.path("none.json"), 10).status(),
                 {"none.json", "No such file"});
  float values[1] = {0};
  SafetensorsWriter writer;
  writer.addView("x", DType::F32, {1}, values);
  expectOk(writer.write(folder.path("x.safetensors")));
  expectBadInput(readTokenFile(folder.path("x.safetensors"), 10).status(),
                 {"x.safetensors", "I32"});
}
