// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// config.json to ModelConfig. Invariant: each key of the file is either read
// here, or on the list of keys that cannot change a result, or refused.

#include "runtime/model/ModelConfig.h"

#include "runtime/io/AtomicFile.h"
#include "runtime/model/RopeFrequencies.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <optional>
#include <set>

namespace kvcache::rt {

using Json = nlohmann::json;

/// Keys that record how a model was trained or saved, or how a library wraps
/// its outputs.
static const std::set<std::string> inertKeys = {"_name_or_path",
                                                "architectures",
                                                "attention_dropout",
                                                "attention_probs_dropout_prob",
                                                "auto_map",
                                                "begin_suppress_tokens",
                                                "bos_token_id",
                                                "chunk_size_feed_forward",
                                                "dtype",
                                                "eos_token_id",
                                                "finetuning_task",
                                                "id2label",
                                                "initializer_range",
                                                "is_decoder",
                                                "is_encoder_decoder",
                                                "label2id",
                                                "max_position_embeddings",
                                                "max_window_layers",
                                                "model_type",
                                                "output_attentions",
                                                "output_hidden_states",
                                                "pad_token_id",
                                                "prefix",
                                                "pretraining_tp",
                                                "problem_type",
                                                "return_dict",
                                                "sep_token_id",
                                                "suppress_tokens",
                                                "task_specific_params",
                                                "tokenizer_class",
                                                "torch_dtype",
                                                "torchscript",
                                                "transformers_version",
                                                "use_cache",
                                                "use_bfloat16"};

static std::string show(const Json &value) {
  return value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

namespace {

/// Typed access to one JSON object; remembers the first error and which keys
/// were read.
class ConfigReader {
public:
  ConfigReader(std::string where, const Json &object) : where_(std::move(where)), object_(object) {}

  /// The value, or null when absent or null.
  const Json *find(const char *key) {
    read_.insert(key);
    auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  int64_t integer(const char *key, int64_t low, int64_t high,
                  std::optional<int64_t> fallback = std::nullopt) {
    const Json *value = find(key);
    if (!value && fallback) {
      return *fallback;
    }
    if (!value || !value->is_number_integer() || *value < low || *value > high) {
      fail(key, "an integer in " + std::to_string(low) + ".." + std::to_string(high), value);
      return low;
    }
    return value->get<int64_t>();
  }

  double positive(const char *key, std::optional<double> fallback = std::nullopt) {
    const Json *value = find(key);
    if (!value && fallback) {
      return *fallback;
    }
    if (!value || !value->is_number() || !std::isfinite(value->get<double>()) ||
        value->get<double>() <= 0) {
      fail(key, "a positive number", value);
      return 1;
    }
    return value->get<double>();
  }

  bool boolean(const char *key, bool fallback) {
    const Json *value = find(key);
    if (value && !value->is_boolean()) {
      fail(key, "true or false", value);
    }
    return value && value->is_boolean() ? value->get<bool>() : fallback;
  }

  std::string text(const char *key, const std::string &fallback) {
    const Json *value = find(key);
    if (value && !value->is_string()) {
      fail(key, "a string", value);
    }
    return value && value->is_string() ? value->get<std::string>() : fallback;
  }

  /// Records the first error.
  void fail(const std::string &key, const std::string &expected, const Json *found) {
    if (status_.isOk()) {
      status_ = Status::badInput(where_ + ": key '" + key + "': expected " + expected + ", found " +
                                 (found ? show(*found) : "nothing"));
    }
  }

  /// Refuses keys that were neither read nor inert.
  void refuseUnread() {
    for (const auto &item : object_.items()) {
      if (!read_.count(item.key()) && !inertKeys.count(item.key()) && !item.value().is_null()) {
        fail(item.key(), "no such key, as its meaning is not known", &item.value());
      }
    }
  }

  const Status &status() const { return status_; }
  const std::string &where() const { return where_; }

private:
  std::string where_;
  const Json &object_;
  std::set<std::string> read_;
  Status status_;
};

} // namespace

static void readArchitecture(ConfigReader &reader, ModelConfig &config) {
  static const std::set<std::string> known = {"LlamaForCausalLM", "MistralForCausalLM",
                                              "Qwen2ForCausalLM", "Qwen3ForCausalLM"};
  const Json *names = reader.find("architectures");
  if (!names || !names->is_array() || names->size() != 1 || !(*names)[0].is_string() ||
      !known.count((*names)[0].get<std::string>())) {
    reader.fail("architectures",
                "one of LlamaForCausalLM, MistralForCausalLM, "
                "Qwen2ForCausalLM, Qwen3ForCausalLM",
                names);
    return;
  }
  config.architecture = (*names)[0].get<std::string>();
  if (reader.text("hidden_act", "silu") != "silu") {
    reader.fail("hidden_act", "\"silu\"", reader.find("hidden_act"));
  }
}

static void readSizes(ConfigReader &reader, ModelConfig &config) {
  constexpr int64_t most = int64_t(1) << 24;
  config.vocabSize = reader.integer("vocab_size", 1, most);
  config.hiddenSize = reader.integer("hidden_size", 1, most);
  config.intermediateSize = reader.integer("intermediate_size", 1, most);
  config.layers = reader.integer("num_hidden_layers", 1, 4096);
  config.queryHeads = reader.integer("num_attention_heads", 1, 65536);
  config.kvHeads = reader.integer("num_key_value_heads", 1, 65536, config.queryHeads);
  bool divides = config.hiddenSize % config.queryHeads == 0;
  std::optional<int64_t> implied;
  if (config.architecture == "Qwen3ForCausalLM") {
    implied = 128;
  } else if (divides) {
    implied = config.hiddenSize / config.queryHeads;
  }
  config.headDim = reader.integer("head_dim", 2, 4096, implied);
  if (config.queryHeads % config.kvHeads != 0) {
    reader.fail("num_key_value_heads",
                "a divisor of num_attention_heads " + std::to_string(config.queryHeads),
                reader.find("num_key_value_heads"));
  }
  if (config.headDim % 2 != 0) {
    reader.fail("head_dim", "an even number", reader.find("head_dim"));
  }
  config.rmsNormEps = static_cast<float>(reader.positive("rms_norm_eps", 1e-6));
}

static void readSwitches(ConfigReader &reader, ModelConfig &config) {
  bool qwen2 = config.architecture == "Qwen2ForCausalLM";
  bool biased = reader.boolean("attention_bias", false);
  config.qkvBias = qwen2 || biased;
  config.outputBias = !qwen2 && biased;
  config.mlpBias = reader.boolean("mlp_bias", false);
  config.qkNorm = config.architecture == "Qwen3ForCausalLM";
  config.tiedHead = reader.boolean("tie_word_embeddings", false);
  if (config.architecture == "MistralForCausalLM" && biased) {
    reader.fail("attention_bias", "false for MistralForCausalLM", reader.find("attention_bias"));
  }
}

/// One window for all layers, or none; `layer_types` (newer files) must agree
/// with itself.
static void readSlidingWindow(ConfigReader &reader, ModelConfig &config) {
  int64_t window = reader.integer("sliding_window", 1, int64_t(1) << 40, 0);
  bool qwen = config.architecture.rfind("Qwen", 0) == 0;
  bool used = qwen ? reader.boolean("use_sliding_window", false)
                   : config.architecture == "MistralForCausalLM";
  int64_t fullLayers = qwen ? reader.integer("max_window_layers", 0, int64_t(1) << 40, 28) : 0;
  if (qwen && used && fullLayers > 0) {
    if (fullLayers < config.layers) {
      reader.fail("max_window_layers", "0 or at least num_hidden_layers: one window for all layers",
                  reader.find("max_window_layers"));
    }
    used = false;
  }
  if (const Json *types = reader.find("layer_types")) {
    int64_t sliding = 0, full = 0;
    for (const Json &type : types->is_array() ? *types : Json::array()) {
      sliding += type == "sliding_attention";
      full += type == "full_attention";
    }
    if (sliding + full != config.layers || (sliding != 0 && full != 0)) {
      reader.fail("layer_types",
                  "the same of full_attention and sliding_attention for each of " +
                      std::to_string(config.layers) + " layers",
                  types);
    }
    used = sliding != 0;
    if (used && window == 0) {
      reader.fail("sliding_window", "a window for layer_types sliding_attention", nullptr);
    }
  }
  config.slidingWindow = used ? window : 0;
}

static void readTokens(ConfigReader &reader, ModelConfig &config) {
  config.bosToken = reader.integer("bos_token_id", 0, config.vocabSize - 1, -1);
  const Json *end = reader.find("eos_token_id");
  if (!end) {
    return;
  }
  for (const Json &token : end->is_array() ? *end : Json::array({*end})) {
    if (!token.is_number_integer() || token < 0 || token >= config.vocabSize) {
      reader.fail("eos_token_id", "token ids below vocab_size", end);
      return;
    }
    config.eosTokens.push_back(token.get<int64_t>());
  }
}

/// RoPE parameters stand in `rope_theta` and `rope_scaling`, or (newer files)
/// all in `rope_parameters`.
static Status readRope(ConfigReader &reader, ModelConfig &config) {
  const Json *parameters = reader.find("rope_parameters");
  const Json *scalingObject = reader.find("rope_scaling");
  double theta = reader.positive("rope_theta", 10000.0);
  const Json *source = parameters ? parameters : scalingObject;
  if (parameters && scalingObject && *parameters != *scalingObject) {
    reader.fail("rope_scaling", "nothing beside rope_parameters", scalingObject);
  }
  if (reader.positive("partial_rotary_factor", 1.0) != 1.0) {
    reader.fail("partial_rotary_factor", "1", reader.find("partial_rotary_factor"));
  }
  if (!source) {
    config.ropeInvFreq = ropeInverseFrequencies(config.headDim, theta, nullptr);
    return Status::ok();
  }
  const char *key = parameters ? "rope_parameters" : "rope_scaling";
  if (!source->is_object()) {
    reader.fail(key, "an object", source);
    return Status::ok();
  }
  ConfigReader nested(reader.where() + ": " + key, *source);
  theta = nested.positive("rope_theta", theta);
  std::string type = nested.text("rope_type", nested.text("type", "default"));
  nested.find("type");
  if (nested.positive("partial_rotary_factor", 1.0) != 1.0) {
    nested.fail("partial_rotary_factor", "1", nested.find("partial_rotary_factor"));
  }
  Llama3Scaling scaling;
  if (type == "llama3") {
    scaling.factor = nested.positive("factor");
    scaling.lowFreqFactor = nested.positive("low_freq_factor");
    scaling.highFreqFactor = nested.positive("high_freq_factor");
    scaling.originalMaxPositions = nested.positive("original_max_position_embeddings");
    if (scaling.highFreqFactor <= scaling.lowFreqFactor) {
      nested.fail("high_freq_factor", "more than low_freq_factor", nested.find("high_freq_factor"));
    }
  } else if (type != "default") {
    nested.fail("rope_type", "\"default\" or \"llama3\"", source);
  }
  nested.refuseUnread();
  config.ropeInvFreq =
      ropeInverseFrequencies(config.headDim, theta, type == "llama3" ? &scaling : nullptr);
  return nested.status();
}

StatusOr<ModelConfig> ModelConfig::parse(const std::string &path, const std::string &text) {
  Json object = Json::parse(text, nullptr, false);
  if (object.is_discarded() || !object.is_object()) {
    return Status::badInput("'" + path + "': expected a JSON object");
  }
  ModelConfig config;
  config.path = path;
  ConfigReader reader("'" + path + "'", object);
  readArchitecture(reader, config);
  readSizes(reader, config);
  readSwitches(reader, config);
  KVCACHE_RETURN_IF_ERROR(reader.status());
  readSlidingWindow(reader, config);
  readTokens(reader, config);
  Status rope = readRope(reader, config);
  reader.refuseUnread();
  KVCACHE_RETURN_IF_ERROR(reader.status());
  KVCACHE_RETURN_IF_ERROR(rope);
  return config;
}

StatusOr<ModelConfig> ModelConfig::load(const std::string &directory) {
  std::string path = directory + "/config.json";
  StatusOr<std::string> text = readWholeFile(path, int64_t(16) << 20);
  if (!text.isOk()) {
    return text.status();
  }
  return parse(path, *text);
}

Geometry ModelConfig::geometry(ElementType act) const {
  Geometry geometry;
  geometry.layers = layers;
  geometry.queryHeads = queryHeads;
  geometry.kvHeads = kvHeads;
  geometry.headDim = headDim;
  geometry.act = act;
  geometry.slidingWindow = slidingWindow;
  geometry.ropeInvFreq = ropeInvFreq;
  return geometry;
}

} // namespace kvcache::rt
