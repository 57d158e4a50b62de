// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Finding, checking and widening tensors. Invariant: memory is taken only for
// tensors whose shape matches the config, so it is bounded by the size of the
// files.

#include "runtime/model/Weights.h"

#include "runtime/io/AtomicFile.h"
#include "runtime/io/Half.h"
#include "runtime/parallel/Parallel.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <new>
#include <set>
#include <sys/stat.h>

namespace kvcache::rt {

using Json = nlohmann::json;

/// Fills a Weights from open files and keeps account of the tensors it used.
class WeightLoader {
public:
  WeightLoader(std::string directory, const ModelConfig &config, Weights &weights)
      : directory_(std::move(directory)), config_(config), weights_(weights) {}

  Status openFiles();
  Status loadAll();
  Status refuseUnused() const;

private:
  Status openIndex(const std::string &path);
  Status addFile(const std::string &name);
  Status loadLayer(int64_t layer, LayerWeights &out);
  Status vector(const std::string &name, int64_t extent, const float *&out);
  Status matrix(const std::string &name, int64_t rows, int64_t columns, Matrix &out);
  Status tensor(const std::string &name, const std::vector<int64_t> &shape, const float *&out);
  Status widen(const TensorView &view, const float *&out);

  std::string directory_;
  const ModelConfig &config_;
  Weights &weights_;
  std::map<std::string, const SafetensorsFile *> owner_;
  std::set<std::string> used_;
};

static bool exists(const std::string &path) {
  struct stat information;
  return ::stat(path.c_str(), &information) == 0;
}

Status WeightLoader::addFile(const std::string &name) {
  StatusOr<std::shared_ptr<SafetensorsFile>> file = SafetensorsFile::open(directory_ + "/" + name);
  if (!file.isOk()) {
    return file.status();
  }
  weights_.files_.push_back(*file);
  for (const auto &tensor : (*file)->tensors()) {
    if (!owner_.emplace(tensor.first, file->get()).second) {
      return Status::badInput("'" + (*file)->path() + "': tensor '" + tensor.first +
                              "' is also in another shard");
    }
  }
  return Status::ok();
}

Status WeightLoader::openIndex(const std::string &path) {
  StatusOr<std::string> text = readWholeFile(path, int64_t(64) << 20);
  if (!text.isOk()) {
    return text.status();
  }
  Json index = Json::parse(*text, nullptr, false);
  if (index.is_discarded() || !index.is_object() || !index.contains("weight_map") ||
      !index["weight_map"].is_object()) {
    return Status::badInput("'" + path + "': expected a JSON object with a weight_map");
  }
  std::set<std::string> shards;
  for (const auto &item : index["weight_map"].items()) {
    std::string shard = item.value().is_string() ? item.value().get<std::string>() : "";
    if (shard.empty() || shard.find('/') != std::string::npos) {
      return Status::badInput("'" + path + "': tensor '" + item.key() +
                              "': expected the name of a file in this folder");
    }
    shards.insert(shard);
  }
  for (const std::string &shard : shards) {
    KVCACHE_RETURN_IF_ERROR(addFile(shard));
  }
  for (const auto &item : index["weight_map"].items()) {
    std::string shard = directory_ + "/" + item.value().get<std::string>();
    auto found = owner_.find(item.key());
    if (found == owner_.end() || found->second->path() != shard) {
      return Status::badInput("'" + shard + "': tensor '" + item.key() + "' is missing, though '" +
                              path + "' places it there");
    }
  }
  return Status::ok();
}

Status WeightLoader::openFiles() {
  std::string index = directory_ + "/model.safetensors.index.json";
  if (exists(index) && !exists(directory_ + "/model.safetensors")) {
    return openIndex(index);
  }
  return addFile("model.safetensors");
}

Status WeightLoader::widen(const TensorView &view, const float *&out) {
  std::unique_ptr<float[]> buffer(new (std::nothrow) float[static_cast<size_t>(view.elements())]);
  if (!buffer) {
    return Status::unavailable("cannot allocate " + std::to_string(view.elements() * 4) +
                               " bytes for weights of '" + directory_ + "'");
  }
  constexpr int64_t block = 1 << 16;
  int64_t count = view.elements(), elementBytes = dtypeBytes(view.dtype);
  parallelFor((count + block - 1) / block, [&](int64_t i) {
    int64_t first = i * block, size = std::min(block, count - first);
    const uint8_t *source = view.data + first * elementBytes;
    if (view.dtype == DType::F16) {
      f32FromF16(source, buffer.get() + first, size);
    } else if (view.dtype == DType::BF16) {
      f32FromBf16(source, buffer.get() + first, size);
    } else {
      std::memcpy(buffer.get() + first, source, static_cast<size_t>(size * elementBytes));
    }
  });
  out = buffer.get();
  weights_.buffers_.push_back(std::move(buffer));
  return Status::ok();
}

Status WeightLoader::tensor(const std::string &name, const std::vector<int64_t> &shape,
                            const float *&out) {
  auto found = owner_.find(name);
  if (found == owner_.end()) {
    return Status::badInput("'" + weights_.files_.front()->path() + "': tensor '" + name +
                            "' is missing, expected shape " + shapeText(shape) + " for " +
                            config_.architecture);
  }
  StatusOr<TensorView> view = found->second->get(name, shape);
  if (!view.isOk()) {
    return view.status();
  }
  if (view->dtype != DType::F32 && view->dtype != DType::F16 && view->dtype != DType::BF16) {
    return Status::badInput("'" + found->second->path() + "': tensor '" + name +
                            "': expected F32, F16 or BF16, found " + dtypeName(view->dtype));
  }
  used_.insert(name);
  if (view->dtype == DType::F32 && reinterpret_cast<uintptr_t>(view->data) % alignof(float) == 0) {
    out = reinterpret_cast<const float *>(view->data);
    return Status::ok();
  }
  return widen(*view, out);
}

Status WeightLoader::vector(const std::string &name, int64_t extent, const float *&out) {
  return tensor(name, {extent}, out);
}

Status WeightLoader::matrix(const std::string &name, int64_t rows, int64_t columns, Matrix &out) {
  out.out = rows;
  out.in = columns;
  return tensor(name, {rows, columns}, out.data);
}

Status WeightLoader::loadLayer(int64_t layer, LayerWeights &out) {
  std::string prefix = "model.layers." + std::to_string(layer) + ".";
  std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  int64_t hidden = config_.hiddenSize, inner = config_.intermediateSize;
  int64_t queryWidth = config_.queryHeads * config_.headDim,
          kvWidth = config_.kvHeads * config_.headDim;
  KVCACHE_RETURN_IF_ERROR(vector(prefix + "input_layernorm.weight", hidden, out.inputNorm));
  KVCACHE_RETURN_IF_ERROR(vector(prefix + "post_attention_layernorm.weight", hidden, out.postNorm));
  KVCACHE_RETURN_IF_ERROR(matrix(attention + "q_proj.weight", queryWidth, hidden, out.q));
  KVCACHE_RETURN_IF_ERROR(matrix(attention + "k_proj.weight", kvWidth, hidden, out.k));
  KVCACHE_RETURN_IF_ERROR(matrix(attention + "v_proj.weight", kvWidth, hidden, out.v));
  KVCACHE_RETURN_IF_ERROR(matrix(attention + "o_proj.weight", hidden, queryWidth, out.o));
  KVCACHE_RETURN_IF_ERROR(matrix(mlp + "gate_proj.weight", inner, hidden, out.gate));
  KVCACHE_RETURN_IF_ERROR(matrix(mlp + "up_proj.weight", inner, hidden, out.up));
  KVCACHE_RETURN_IF_ERROR(matrix(mlp + "down_proj.weight", hidden, inner, out.down));
  if (config_.qkvBias) {
    KVCACHE_RETURN_IF_ERROR(vector(attention + "q_proj.bias", queryWidth, out.qBias));
    KVCACHE_RETURN_IF_ERROR(vector(attention + "k_proj.bias", kvWidth, out.kBias));
    KVCACHE_RETURN_IF_ERROR(vector(attention + "v_proj.bias", kvWidth, out.vBias));
  }
  if (config_.outputBias) {
    KVCACHE_RETURN_IF_ERROR(vector(attention + "o_proj.bias", hidden, out.oBias));
  }
  if (config_.qkNorm) {
    KVCACHE_RETURN_IF_ERROR(vector(attention + "q_norm.weight", config_.headDim, out.queryNorm));
    KVCACHE_RETURN_IF_ERROR(vector(attention + "k_norm.weight", config_.headDim, out.keyNorm));
  }
  if (config_.mlpBias) {
    KVCACHE_RETURN_IF_ERROR(vector(mlp + "gate_proj.bias", inner, out.gateBias));
    KVCACHE_RETURN_IF_ERROR(vector(mlp + "up_proj.bias", inner, out.upBias));
    KVCACHE_RETURN_IF_ERROR(vector(mlp + "down_proj.bias", hidden, out.downBias));
  }
  return Status::ok();
}

Status WeightLoader::loadAll() {
  KVCACHE_RETURN_IF_ERROR(matrix("model.embed_tokens.weight", config_.vocabSize, config_.hiddenSize,
                                 weights_.embedding));
  KVCACHE_RETURN_IF_ERROR(vector("model.norm.weight", config_.hiddenSize, weights_.finalNorm));
  weights_.head = weights_.embedding;
  if (config_.tiedHead) {
    used_.insert("lm_head.weight");
  } else {
    KVCACHE_RETURN_IF_ERROR(
        matrix("lm_head.weight", config_.vocabSize, config_.hiddenSize, weights_.head));
  }
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    weights_.layers.emplace_back();
    KVCACHE_RETURN_IF_ERROR(loadLayer(layer, weights_.layers.back()));
  }
  return Status::ok();
}

Status WeightLoader::refuseUnused() const {
  static const std::string inert = ".rotary_emb.inv_freq";
  for (const auto &entry : owner_) {
    const std::string &name = entry.first;
    bool buffer = name.size() > inert.size() &&
                  name.compare(name.size() - inert.size(), inert.size(), inert) == 0;
    if (!used_.count(name) && !buffer) {
      return Status::badInput("'" + entry.second->path() + "': tensor '" + name +
                              "' has no place in " + config_.architecture + " as '" + config_.path +
                              "' describes it");
    }
  }
  return Status::ok();
}

StatusOr<std::unique_ptr<Weights>> Weights::load(const std::string &directory,
                                                 const ModelConfig &config) {
  auto weights = std::make_unique<Weights>();
  WeightLoader loader(directory, config, *weights);
  KVCACHE_RETURN_IF_ERROR(loader.openFiles());
  KVCACHE_RETURN_IF_ERROR(loader.loadAll());
  KVCACHE_RETURN_IF_ERROR(loader.refuseUnused());
  return weights;
}

} // namespace kvcache::rt
