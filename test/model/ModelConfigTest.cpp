// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// config.json: what each family means, and what is refused.

#include "runtime/model/ModelConfig.h"
#include "runtime/model/RopeFrequencies.h"
#include "test/model/ModelFixtures.h"

using namespace kvcache::rt;
using namespace kvcache::test;

/// A small config of `architecture` with `extra` keys (text that begins with a
/// comma).
static StatusOr<ModelConfig> parseWith(const std::string &architecture, const std::string &extra) {
  return ModelConfig::parse(
      "dir/config.json",
      R"({"architectures":[")" + architecture +
          R"("],"vocab_size":96,"hidden_size":32,"intermediate_size":48,)"
          R"("num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2)" +
          extra + "}");
}

static void expectRefused(const std::string &architecture, const std::string &extra,
                          const std::vector<std::string> &parts) {
  SCOPED_TRACE(extra);
  expectBadInput(parseWith(architecture, extra).status(), parts);
}

TEST(ModelConfig, llama_defaults) {
  auto config = parseWith("LlamaForCausalLM", "");
  ASSERT_TRUE(config.isOk()) << config.status().message();
  EXPECT_EQ(config->headDim, 8);
  EXPECT_FALSE(config->qkvBias || config->outputBias || config->mlpBias || config->qkNorm ||
               config->tiedHead);
  EXPECT_EQ(config->slidingWindow, 0);
  ASSERT_EQ(config->ropeInvFreq.size(), 4u);
  EXPECT_FLOAT_EQ(config->ropeInvFreq[0], 1.0f);
  EXPECT_FLOAT_EQ(config->ropeInvFreq[2], 0.01f);
}

TEST(ModelConfig, bundled_model) {
  auto config = ModelConfig::load(bundledModel());
  ASSERT_TRUE(config.isOk()) << config.status().message();
  EXPECT_EQ(config->vocabSize, 264);
  EXPECT_TRUE(config->tiedHead);
  EXPECT_EQ(config->bosToken, 256);
  EXPECT_EQ(config->eosTokens, std::vector<int64_t>{257});
  Geometry geometry = config->geometry(ElementType::F16);
  EXPECT_EQ(geometry.layers, 6);
  EXPECT_EQ(geometry.queryHeads, 4);
  EXPECT_EQ(geometry.kvHeads, 2);
  EXPECT_EQ(geometry.headDim, 64);
  EXPECT_EQ(geometry.ropeInvFreq.size(), 32u);
}

TEST(ModelConfig, biases_and_norms_of_each_family) {
  auto qwen2 = parseWith("Qwen2ForCausalLM", "");
  EXPECT_TRUE(qwen2->qkvBias && !qwen2->outputBias && !qwen2->qkNorm);
  auto qwen3 = parseWith("Qwen3ForCausalLM", R"(,"head_dim":16)");
  EXPECT_TRUE(!qwen3->qkvBias && qwen3->qkNorm);
  EXPECT_EQ(qwen3->headDim, 16);
  auto llama = parseWith("LlamaForCausalLM", R"(,"attention_bias":true,"mlp_bias":true)");
  EXPECT_TRUE(llama->qkvBias && llama->outputBias && llama->mlpBias);
}

TEST(ModelConfig, sliding_window_only_where_it_is_in_force) {
  EXPECT_EQ(parseWith("MistralForCausalLM", R"(,"sliding_window":16)")->slidingWindow, 16);
  EXPECT_EQ(parseWith("MistralForCausalLM", R"(,"sliding_window":null)")->slidingWindow, 0);
  EXPECT_EQ(parseWith("Qwen2ForCausalLM", R"(,"sliding_window":16,"use_sliding_window":false)")
                ->slidingWindow,
            0);
  std::string used = R"(,"sliding_window":16,"use_sliding_window":true)";
  EXPECT_EQ(parseWith("Qwen2ForCausalLM", used + R"(,"max_window_layers":0)")->slidingWindow, 16);
  EXPECT_EQ(parseWith("Qwen2ForCausalLM", used + R"(,"max_window_layers":2)")->slidingWindow, 0);
  expectRefused("Qwen2ForCausalLM", used + R"(,"max_window_layers":1)",
                {"max_window_layers", "found 1"});
  expectRefused("Qwen2ForCausalLM",
                R"(,"sliding_window":16,"layer_types":["full_attention","sliding_attention"])",
                {"layer_types"});
  EXPECT_EQ(
      parseWith("Qwen3ForCausalLM",
                R"(,"sliding_window":16,"layer_types":["sliding_attention","sliding_attention"])")
          ->slidingWindow,
      16);
}

TEST(ModelConfig, llama3_scaling_in_both_spellings) {
  std::string factors =
      R"("rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,)"
      R"("original_max_position_embeddings":32)";
  auto older =
      parseWith("LlamaForCausalLM", R"(,"rope_theta":500.0,"rope_scaling":{)" + factors + "}");
  auto newer =
      parseWith("LlamaForCausalLM", R"(,"rope_parameters":{"rope_theta":500.0,)" + factors + "}");
  ASSERT_TRUE(older.isOk() && newer.isOk());
  EXPECT_EQ(older->ropeInvFreq, newer->ropeInvFreq);
  // Wavelength 2 pi is below 32 / 4: unchanged. The last, 2 pi * 500^0.75, is
  // above 32: slowed by 8.
  EXPECT_FLOAT_EQ(older->ropeInvFreq[0], 1.0f);
  EXPECT_FLOAT_EQ(older->ropeInvFreq[3], static_cast<float>(std::pow(500.0, -0.75) / 8));
  // Wavelength w = 2 pi * 500^0.25 = 29.7 lies between: blend (32 / w - 1) / 3.
  double frequency = std::pow(500.0, -0.25), blend = (32 * frequency / (2 * M_PI) - 1) / 3;
  EXPECT_FLOAT_EQ(older->ropeInvFreq[1],
                  static_cast<float>((1 - blend) * frequency / 8 + blend * frequency));
}

TEST(ModelConfig, negative_unknown_things_are_named) {
  expectRefused("GPT2LMHeadModel", "", {"dir/config.json", "'architectures'", "GPT2LMHeadModel"});
  expectRefused("LlamaForCausalLM", R"(,"logit_softcap":30.0)", {"'logit_softcap'", "found 30.0"});
  expectRefused("LlamaForCausalLM", R"(,"quantization_config":{"bits":4})",
                {"'quantization_config'"});
  expectRefused("LlamaForCausalLM", R"(,"hidden_act":"gelu")", {"'hidden_act'", "\"gelu\""});
  expectRefused("LlamaForCausalLM", R"(,"rope_scaling":{"rope_type":"yarn","factor":4.0})",
                {"'rope_type'", "yarn"});
  expectRefused("LlamaForCausalLM", R"(,"rope_scaling":{"rope_type":"default","mscale":4.0})",
                {"rope_scaling", "'mscale'"});
  expectRefused("LlamaForCausalLM", R"(,"rope_scaling":{"rope_type":"llama3"})",
                {"'factor'", "found nothing"});
  expectRefused("LlamaForCausalLM", R"(,"partial_rotary_factor":0.5)",
                {"'partial_rotary_factor'", "0.5"});
}

TEST(ModelConfig, negative_values_out_of_range) {
  expectRefused("LlamaForCausalLM", R"(,"head_dim":7)", {"'head_dim'", "even", "found 7"});
  expectRefused("LlamaForCausalLM", R"(,"num_key_value_heads":3)",
                {"'num_key_value_heads'", "divisor"});
  expectRefused("LlamaForCausalLM", R"(,"hidden_size":-4)", {"'hidden_size'", "found -4"});
  expectRefused("LlamaForCausalLM", R"(,"num_hidden_layers":1e9)", {"'num_hidden_layers'"});
  expectRefused("LlamaForCausalLM", R"(,"vocab_size":"many")", {"'vocab_size'", "\"many\""});
  expectRefused("LlamaForCausalLM", R"(,"rms_norm_eps":0)", {"'rms_norm_eps'"});
  expectRefused("LlamaForCausalLM", R"(,"eos_token_id":[5,96])", {"'eos_token_id'"});
  expectRefused("LlamaForCausalLM", R"(,"tie_word_embeddings":1)", {"'tie_word_embeddings'"});
  expectBadInput(ModelConfig::parse("c", "{\"a\":").status(), {"'c'", "JSON object"});
  TemporaryFolder folder;
  expectBadInput(ModelConfig::load(folder.path("none")).status(), {"none/config.json"});
}
