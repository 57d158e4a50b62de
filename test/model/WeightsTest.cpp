// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Folders whose weights do not fit their config.

#include "runtime/model/Weights.h"
#include "test/model/ModelFixtures.h"

using namespace kvcache::rt;
using namespace kvcache::test;

/// A copy of a tiny model with one tensor left out, or added as `dtype` zeros
/// of `shape`.
static Status loadChanged(const std::string &drop, const std::string &add, DType dtype,
                          std::vector<int64_t> shape) {
  TemporaryFolder folder;
  std::string source = tinyModel("qwen2-biases-tied-f32");
  std::filesystem::copy_file(source + "/config.json", folder.path("config.json"));
  auto file = SafetensorsFile::open(source + "/model.safetensors");
  SafetensorsWriter writer;
  for (const auto &tensor : (*file)->tensors()) {
    if (tensor.first != drop) {
      writer.addView(tensor.first, tensor.second.dtype, tensor.second.shape, tensor.second.data);
    }
  }
  std::vector<uint8_t> zeros(1 << 16);
  if (!add.empty()) {
    writer.addView(add, dtype, std::move(shape), zeros.data());
  }
  expectOk(writer.write(folder.path("model.safetensors")));
  return Decoder::load(folder.path()).status();
}

TEST(Weights, negative_tensor_missing_or_wrong) {
  const std::string bias = "model.layers.1.self_attn.k_proj.bias";
  expectOk(loadChanged("", "", DType::F32, {}));
  expectBadInput(loadChanged(bias, "", DType::F32, {}),
                 {"model.safetensors", bias, "missing", "[16]", "Qwen2ForCausalLM"});
  expectBadInput(loadChanged(bias, bias, DType::F32, {17}),
                 {bias, "expected shape [16], found [17]"});
  expectBadInput(loadChanged(bias, bias, DType::I32, {16}),
                 {bias, "expected F32, F16 or BF16, found I32"});
  expectOk(loadChanged(bias, bias, DType::F16, {16}));
}

// A tensor nobody reads means that the config describes another model than the
// file holds.
TEST(Weights, negative_tensor_without_a_place) {
  expectBadInput(loadChanged("", "model.layers.1.self_attn.q_norm.weight", DType::F32, {8}),
                 {"q_norm.weight", "no place"});
  expectBadInput(loadChanged("", "model.layers.2.self_attn.k_proj.bias", DType::F32, {16}),
                 {"layers.2", "no place"});
  expectOk(loadChanged("", "model.layers.0.self_attn.rotary_emb.inv_freq", DType::F32, {4}));
  expectOk(loadChanged("", "lm_head.weight", DType::F32, {96, 32}));
}

static Status loadWithIndex(const std::string &index) {
  TemporaryFolder folder;
  std::string source = tinyModel("mistral-window-untied-bf16-sharded");
  for (const auto &file : std::filesystem::directory_iterator(source)) {
    std::filesystem::copy_file(file.path(), folder.path(file.path().filename().string()));
  }
  if (!index.empty()) {
    folder.write("model.safetensors.index.json", index);
  }
  return Decoder::load(folder.path()).status();
}

TEST(Weights, negative_shard_index) {
  expectOk(loadWithIndex(""));
  expectBadInput(loadWithIndex("{"), {"index.json", "weight_map"});
  expectBadInput(loadWithIndex(R"({"weight_map":{"model.norm.weight":"sub/x.safetensors"}})"),
                 {"model.norm.weight", "in this folder"});
  expectBadInput(loadWithIndex(R"({"weight_map":{"model.norm.weight":"none.safetensors"}})"),
                 {"none.safetensors"});
  expectBadInput(
      loadWithIndex(R"({"weight_map":{"model.no.weight":"model-00001-of-00003.safetensors"}})"),
      {"model-00001-of-00003.safetensors", "model.no.weight", "missing"});
}

TEST(Weights, negative_folder_without_weights) {
  TemporaryFolder folder;
  std::filesystem::copy_file(bundledModel() + "/config.json", folder.path("config.json"));
  expectBadInput(Decoder::load(folder.path()).status(), {"model.safetensors", "No such file"});
}
