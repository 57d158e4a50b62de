// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Layer 0 tells the shapes; every other tensor must agree with it.

#include "tools/commands/CacheFile.h"

#include "runtime/io/Half.h"
#include "runtime/model/RopeFrequencies.h"
#include "tools/commands/RequestTables.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

namespace kvcache::tools {

using rt::DType;
using rt::Status;
using rt::StatusOr;
using rt::TensorView;

static const std::string requestPrefix = "request.", tablePrefix = "table.";

static std::string tensorName(int64_t layer, const std::string &name) {
  return "layers." + std::to_string(layer) + "." + name;
}

static bool isFloat(DType dtype) {
  return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16;
}

Status CacheFile::bad(const std::string &tensor, const std::string &message) const {
  return Status::badInput(path() + ": " + tensor + ": " + message);
}

const TensorView *CacheFile::find(int64_t layer, const std::string &name) const {
  return file_->find(tensorName(layer, name));
}

StatusOr<std::shared_ptr<CacheFile>> CacheFile::open(const std::string &path) {
  StatusOr<std::shared_ptr<rt::SafetensorsFile>> file = rt::SafetensorsFile::open(path);
  KVCACHE_RETURN_IF_ERROR(file.status());
  std::shared_ptr<CacheFile> cache(new CacheFile());
  cache->file_ = *file;
  KVCACHE_RETURN_IF_ERROR(cache->checkNames());
  KVCACHE_RETURN_IF_ERROR(cache->readLayout());
  for (int64_t layer = 0; layer < cache->geometry_.layers; ++layer) {
    KVCACHE_RETURN_IF_ERROR(cache->checkLayer(layer));
  }
  KVCACHE_RETURN_IF_ERROR(cache->readPositions());
  KVCACHE_RETURN_IF_ERROR(cache->readRope());
  KVCACHE_RETURN_IF_ERROR(cache->readRequests());
  for (const auto &[key, value] : cache->file_->metadata()) {
    if (key.rfind("param.", 0) == 0) {
      cache->parameters_[key.substr(6)] = value;
    }
  }
  return cache;
}

/// Every `layers.*` name is known, and layers are numbered without holes.
Status CacheFile::checkNames() {
  static const std::set<std::string> known = {"k",      "v",      "q",      "k_pre",  "hidden",
                                              "step.k", "step.v", "step.q", "queries",
                                              "task.q", "task.k", "rollout.q"};
  std::set<int64_t> layers;
  for (const auto &[name, view] : file_->tensors()) {
    if (name.rfind("layers.", 0) != 0) {
      if (name != "positions" && name != "rope_inv_freq" && name != "ids" &&
          name.rfind(requestPrefix, 0) != 0 && name.rfind(tablePrefix, 0) != 0) {
        return bad(name, "expected layers.*, positions, rope_inv_freq, ids, request.* or table.*, got "
                         "an unknown tensor");
      }
      continue;
    }
    size_t dot = name.find('.', 7);
    std::string number = name.substr(7, dot == std::string::npos ? std::string::npos : dot - 7);
    std::string rest = dot == std::string::npos ? "" : name.substr(dot + 1);
    bool numbered = !number.empty() && number.size() < 7 &&
                    number.find_first_not_of("0123456789") == std::string::npos &&
                    (number == "0" || number[0] != '0');
    bool attribute = rest.rfind("attr.", 0) == 0 && rest.size() > 5;
    if (!numbered || (known.count(rest) == 0 && !attribute)) {
      return bad(name, "unknown tensor, expected layers.{i}. with k, v, q, k_pre, hidden, "
                       "attr.{name}, step.k, step.v, step.q, queries, task.q, task.k or rollout.q");
    }
    layers.insert(std::stoll(number));
  }
  geometry_.layers =
      layers.empty() ? 1 : *layers.rbegin() + 1; // a missing k of layer 0 is named later
  for (int64_t layer = 0; layer < geometry_.layers; ++layer) {
    if (layers.count(layer) == 0) {
      return bad(tensorName(layer, "k"), "missing");
    }
  }
  return Status::ok();
}

/// Rows of an optional [H, rows, D] tensor of layer 0; 0 when absent or of another rank (refused
/// later).
int64_t CacheFile::rowsOf(const char *name) const {
  const TensorView *view = find(0, name);
  return view != nullptr && view->shape.size() == 3 ? view->shape[1] : 0;
}

Status CacheFile::readLayout() {
  const TensorView *k = find(0, "k");
  if (k == nullptr) {
    return bad(tensorName(0, "k"), "missing");
  }
  if (!isFloat(k->dtype)) {
    return bad(tensorName(0, "k"),
               std::string("expected F32, F16 or BF16, got ") + rt::dtypeName(k->dtype));
  }
  if (k->shape.size() != 3) {
    return bad(tensorName(0, "k"), "expected shape [Hkv, T, D], got " + rt::shapeText(k->shape));
  }
  dtype_ = k->dtype;
  geometry_.kvHeads = k->shape[0];
  tokens_ = k->shape[1];
  geometry_.headDim = k->shape[2];
  if (tokens_ < 1) {
    return bad(tensorName(0, "k"), "expected at least one token, got " + rt::shapeText(k->shape));
  }
  if (geometry_.kvHeads < 1 || geometry_.headDim < 1) {
    return bad(tensorName(0, "k"),
               "expected at least one head and channel, got " + rt::shapeText(k->shape));
  }
  geometry_.act = dtype_ == DType::F32   ? abi::ElementType::F32
                  : dtype_ == DType::F16 ? abi::ElementType::F16
                                         : abi::ElementType::BF16;
  geometry_.queryHeads = geometry_.kvHeads;
  for (const char *name : {"queries", "step.q", "q"}) {
    const TensorView *view = find(0, name);
    if (view != nullptr && view->shape.size() == 3) {
      hasQueries_ = true;
      geometry_.queryHeads = view->shape[0];
    }
  }
  if (geometry_.queryHeads < 1 || geometry_.queryHeads % geometry_.kvHeads != 0) {
    return bad(tensorName(0, "q"), "expected query heads that are a multiple of the " +
                                       std::to_string(geometry_.kvHeads) + " KV heads, got " +
                                       std::to_string(geometry_.queryHeads));
  }
  steps_ = rowsOf("step.k");
  queryRows_ = rowsOf("q");
  attendRows_ = rowsOf("queries");
  taskRows_ = rowsOf("task.q");
  draftRows_ = rowsOf("rollout.q");
  hasPreRope_ = find(0, "k_pre") != nullptr;
  if (queryRows_ > tokens_) {
    return bad(tensorName(0, "q"), "expected at most " + std::to_string(tokens_) + " rows, got " +
                                       std::to_string(queryRows_));
  }
  return Status::ok();
}

/// `layers.{layer}.{name}` is there exactly when layer 0 has it, and is [heads, rows, D].
Status CacheFile::checkHeads(int64_t layer, const char *name, int64_t heads, int64_t rows) const {
  const TensorView *view = find(layer, name);
  if (view == nullptr) {
    return find(0, name) == nullptr ? Status::ok()
                                    : bad(tensorName(layer, name), "missing, but layer 0 has it");
  }
  std::vector<int64_t> expected = {heads, rows, geometry_.headDim};
  if (view->shape != expected) {
    return bad(tensorName(layer, name),
               "expected shape " + rt::shapeText(expected) + ", got " + rt::shapeText(view->shape));
  }
  if (view->dtype != dtype_) {
    return bad(tensorName(layer, name), std::string("expected ") + rt::dtypeName(dtype_) +
                                            " as layers.0.k, got " + rt::dtypeName(view->dtype));
  }
  return Status::ok();
}

Status CacheFile::checkLayer(int64_t layer) {
  int64_t kvHeads = geometry_.kvHeads, queryHeads = geometry_.queryHeads;
  for (const char *name : {"k", "v"}) {
    if (find(layer, name) == nullptr) {
      return bad(tensorName(layer, name), "missing");
    }
    KVCACHE_RETURN_IF_ERROR(checkHeads(layer, name, kvHeads, tokens_));
  }
  KVCACHE_RETURN_IF_ERROR(checkHeads(layer, "k_pre", kvHeads, tokens_));
  KVCACHE_RETURN_IF_ERROR(checkHeads(layer, "q", queryHeads, queryRows_));
  KVCACHE_RETURN_IF_ERROR(checkHeads(layer, "queries", queryHeads, attendRows_));
  KVCACHE_RETURN_IF_ERROR(checkHeads(layer, "task.q", queryHeads, taskRows_));
  KVCACHE_RETURN_IF_ERROR(checkHeads(layer, "task.k", kvHeads, taskRows_));
  KVCACHE_RETURN_IF_ERROR(checkHeads(layer, "rollout.q", queryHeads, draftRows_));
  if ((find(layer, "task.q") == nullptr) != (find(layer, "task.k") == nullptr)) {
    return bad(tensorName(layer, find(layer, "task.q") == nullptr ? "task.q" : "task.k"),
               "missing: a second pass needs task.q and task.k");
  }
  int given = 0;
  for (const char *name : {"step.k", "step.v", "step.q"}) {
    given += find(layer, name) != nullptr ? 1 : 0;
    KVCACHE_RETURN_IF_ERROR(checkHeads(layer, name, name[5] == 'q' ? queryHeads : kvHeads, steps_));
  }
  if (given != 0 && given != 3) {
    const char *missing = find(layer, "step.k") == nullptr   ? "step.k"
                          : find(layer, "step.v") == nullptr ? "step.v"
                                                             : "step.q";
    return bad(tensorName(layer, missing), "missing: steps need step.k, step.v and step.q");
  }
  const TensorView *hidden = find(layer, "hidden");
  if (hidden != nullptr &&
      (hidden->shape.size() != 2 || hidden->shape[0] != tokens_ || !isFloat(hidden->dtype))) {
    return bad(tensorName(layer, "hidden"),
               "expected F32, F16 or BF16 of [" + std::to_string(tokens_) + ", Dm], got " +
                   rt::dtypeName(hidden->dtype) + " " + rt::shapeText(hidden->shape));
  }
  std::string attributes = tensorName(layer, "attr.");
  for (auto it = file_->tensors().lower_bound(attributes);
       it != file_->tensors().end() && it->first.rfind(attributes, 0) == 0; ++it) {
    if (it->second.dtype != DType::I32 || it->second.shape != std::vector<int64_t>{tokens_}) {
      return bad(it->first, "expected I32 of [" + std::to_string(tokens_) + "], got " +
                                rt::dtypeName(it->second.dtype) + " " +
                                rt::shapeText(it->second.shape));
    }
  }
  return Status::ok();
}

std::vector<std::string> CacheFile::unusedTensors() const {
  std::vector<std::string> names;
  std::string prefix = tensorName(0, "");
  for (const auto &[name, view] : file_->tensors()) {
    std::string rest = name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : "";
    if (rest == "hidden" || rest.rfind("attr.", 0) == 0) {
      names.push_back(rest);
    }
  }
  return names;
}

Status CacheFile::readPositions() {
  std::vector<int64_t> positions;
  if (file_->find("positions") != nullptr) {
    StatusOr<std::vector<int64_t>> given = file_->readI64("positions", {tokens_});
    KVCACHE_RETURN_IF_ERROR(given.status());
    positions = *given;
  } else {
    for (int64_t t = 0; t < tokens_; ++t) {
      positions.push_back(t);
    }
  }
  for (int64_t s = 0; s < steps_; ++s) {
    positions.push_back(positions[tokens_ - 1] + 1 + s);
  }
  for (size_t t = 0; t < positions.size(); ++t) {
    if (positions[t] < 0 || positions[t] > std::numeric_limits<int32_t>::max()) {
      return bad("positions", "expected positions from 0 to 2147483647, got " +
                                  std::to_string(positions[t]) + " at row " + std::to_string(t));
    }
  }
  positions_.assign(positions.begin(), positions.end());
  return Status::ok();
}

/// A list of integers, of any integer type, that fit 32 bits.
StatusOr<std::vector<int32_t>> CacheFile::readTable(const std::string &name) const {
  const TensorView &view = *file_->find(name);
  if (isFloat(view.dtype) || view.shape.size() > 1) {
    return bad(name, std::string("expected a list of integers, got ") + rt::dtypeName(view.dtype) +
                         " " + rt::shapeText(view.shape));
  }
  StatusOr<std::vector<int64_t>> given = file_->readI64(name, view.shape);
  KVCACHE_RETURN_IF_ERROR(given.status());
  std::vector<int32_t> table;
  for (int64_t value : *given) {
    if (value < std::numeric_limits<int32_t>::min() ||
        value > std::numeric_limits<int32_t>::max()) {
      return bad(name, "expected numbers of 32 bits, got " + std::to_string(value));
    }
    table.push_back(static_cast<int32_t>(value));
  }
  return table;
}

Status CacheFile::readRequests() {
  for (auto it = file_->tensors().lower_bound(requestPrefix);
       it != file_->tensors().end() && it->first.rfind(requestPrefix, 0) == 0; ++it) {
    StatusOr<std::vector<int32_t>> table = readTable(it->first);
    KVCACHE_RETURN_IF_ERROR(table.status());
    requests_[it->first.substr(requestPrefix.size())] = std::move(*table);
  }
  KVCACHE_RETURN_IF_ERROR(
      checkRequestTables(requests_, tokens_, file_->path() + ": " + requestPrefix));
  if (file_->find("ids") != nullptr) {
    StatusOr<std::vector<int32_t>> ids = readTable("ids");
    KVCACHE_RETURN_IF_ERROR(ids.status());
    if (static_cast<int64_t>(ids->size()) != tokens_ + steps_) {
      return bad("ids", "expected " + std::to_string(tokens_ + steps_) + " token ids, got " +
                            std::to_string(ids->size()));
    }
    ids_ = std::move(*ids);
  }
  return Status::ok();
}

Status CacheFile::readRope() {
  if (file_->find("rope_inv_freq") != nullptr) {
    if (file_->find("rope_inv_freq")->dtype != DType::F32) {
      return bad("rope_inv_freq", std::string("expected F32, got ") +
                                      rt::dtypeName(file_->find("rope_inv_freq")->dtype));
    }
    StatusOr<std::vector<float>> given = file_->readF32("rope_inv_freq", {geometry_.headDim / 2});
    KVCACHE_RETURN_IF_ERROR(given.status());
    geometry_.ropeInvFreq = *given;
    return Status::ok();
  }
  auto theta = file_->metadata().find("rope_theta");
  if (theta != file_->metadata().end()) {
    char *end = nullptr;
    double value = std::strtod(theta->second.c_str(), &end);
    if (theta->second.empty() || *end != '\0' || !(value > 0) || !std::isfinite(value)) {
      return bad("metadata rope_theta", "expected a number above 0, got '" + theta->second + "'");
    }
    geometry_.ropeInvFreq = rt::ropeInverseFrequencies(geometry_.headDim, value, nullptr);
  }
  return Status::ok();
}

Status CacheFile::checkPreRopeKeys() const {
  bool canCompute = !geometry_.ropeInvFreq.empty();
  if ((!hasPreRope_ || steps_ > 0) && !canCompute) {
    return bad("rope_inv_freq", "missing: the method holds keys before RoPE, which need "
                                "layers.{i}.k_pre, rope_inv_freq or metadata rope_theta");
  }
  return Status::ok();
}

Status CacheFile::checkTaskRows(const std::string &method) const {
  return taskRows_ > 0 ? Status::ok()
                       : bad(tensorName(0, "task.q"),
                             "missing: method '" + method + "' reads the prompt a second time");
}

Status CacheFile::checkQueryRows(int64_t needed, const std::string &method) const {
  int64_t rows = needed < 0 ? tokens_ : std::min(needed, tokens_);
  if (queryRows_ < rows) {
    return bad(tensorName(0, "q"), "method '" + method + "' needs the last " +
                                       std::to_string(rows) + " query rows, got " +
                                       std::to_string(queryRows_));
  }
  return Status::ok();
}

std::vector<float> CacheFile::rows(int64_t layer, const std::string &name, int64_t first,
                                   int64_t count) const {
  const TensorView &view = *find(layer, name);
  int64_t heads = view.shape[0], all = view.shape[1], width = view.shape[2],
          bytes = rt::dtypeBytes(view.dtype);
  std::vector<float> values(static_cast<size_t>(count * heads * width));
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      const uint8_t *from = view.data + (head * all + first + row) * width * bytes;
      float *to = values.data() + (row * heads + head) * width;
      if (view.dtype == DType::F16) {
        rt::f32FromF16(from, to, width);
      } else if (view.dtype == DType::BF16) {
        rt::f32FromBf16(from, to, width);
      } else {
        std::memcpy(to, from, static_cast<size_t>(width) * sizeof(float));
      }
    }
  }
  return values;
}

std::vector<float> CacheFile::promptQueries(int64_t layer, int64_t first, int64_t count) const {
  int64_t missing = tokens_ - queryRows_, width = geometry_.queryHeads * geometry_.headDim;
  std::vector<float> values(static_cast<size_t>(count * width));
  int64_t from = std::max(first, missing);
  if (from < first + count) {
    std::vector<float> given = rows(layer, "q", from - missing, first + count - from);
    std::copy(given.begin(), given.end(), values.begin() + (from - first) * width);
  }
  return values;
}

std::vector<float> CacheFile::preRopeKeys(int64_t layer, bool step, int64_t first,
                                          int64_t count) const {
  if (!step && hasPreRope_) {
    return rows(layer, "k_pre", first, count);
  }
  std::vector<float> keys = rows(layer, step ? "step.k" : "k", first, count);
  int64_t half = geometry_.headDim / 2;
  for (int64_t row = 0; row < count; ++row) {
    double position = positions_[(step ? tokens_ : 0) + first + row];
    for (int64_t head = 0; head < geometry_.kvHeads; ++head) {
      float *key = keys.data() + (row * geometry_.kvHeads + head) * geometry_.headDim;
      for (int64_t pair = 0; pair < half; ++pair) {
        double angle = position * static_cast<double>(geometry_.ropeInvFreq[pair]);
        double c = std::cos(angle), s = std::sin(angle), x = key[pair], y = key[pair + half];
        key[pair] = static_cast<float>(x * c + y * s);
        key[pair + half] = static_cast<float>(y * c - x * s);
      }
    }
  }
  return keys;
}

} // namespace kvcache::tools
