// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every difference is found before the first artefact is set.

#include "tools/commands/ArtefactFile.h"

#include "runtime/Artefacts.h"
#include "runtime/io/Safetensors.h"
#include "tools/commands/Command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <set>

namespace kvcache::tools {

using rt::ArtefactHolder;
using rt::Status;
using rt::StatusOr;

namespace {

constexpr const char *formatName = "kvasir.artefacts/1";

std::string tensorName(int64_t layer, const std::string &artefact) {
  return fmt::format("layers.{}.{}", layer, artefact);
}

StatusOr<ArtefactHolder *> holderOf(rt::Execution &execution) {
  ArtefactHolder *holder = execution.artefactHolder();
  if (holder == nullptr || holder->artefactShapes().empty()) {
    return Status::badInput("method '" + execution.methodName() +
                            "' has no artefacts: nothing of it is calibrated");
  }
  return holder;
}

/// What must be equal, in the order in which differences are told.
std::vector<std::pair<std::string, std::string>> identity(const rt::Execution &execution) {
  const rt::Geometry &geometry = execution.geometry();
  std::vector<std::pair<std::string, std::string>> facts = {
      {"layers", std::to_string(geometry.layers)},
      {"q_heads", std::to_string(geometry.queryHeads)},
      {"kv_heads", std::to_string(geometry.kvHeads)},
      {"head_dim", std::to_string(geometry.headDim)},
      {"act", std::string(abi::nameOf(geometry.act))}};
  for (const auto &[name, value] : execution.parameters()) {
    facts.push_back({"param." + name, value});
  }
  facts.push_back({"method_hash", execution.methodHash()});
  return facts;
}

Status checkFormat(const rt::SafetensorsFile &file) {
  auto format = file.metadata().find("format");
  if (format == file.metadata().end() || format->second != formatName) {
    return Status::badInput(file.path() + ": expected metadata format = " + formatName +
                            ", as `kvasir calibrate` writes it");
  }
  return Status::ok();
}

Status checkIdentity(const rt::SafetensorsFile &file, const rt::Execution &execution) {
  auto said = [&](const std::string &key) {
    auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string("nothing") : found->second;
  };
  for (const auto &[key, expected] : identity(execution)) {
    if (said(key) != expected) {
      return Status::badInput(fmt::format(
          "{}: the artefacts are of method '{}' with {} = {}, expected {} for method '{}'",
          file.path(), said("method"), key, said(key), expected, execution.methodName()));
    }
  }
  return Status::ok();
}

/// The elements of a tensor of numbers of any type.
StatusOr<std::vector<float>> numbersOf(const rt::SafetensorsFile &file, const std::string &name,
                                       const rt::TensorView &view) {
  if (view.dtype == rt::DType::U8) {
    return std::vector<float>(view.data, view.data + view.elements());
  }
  if (view.dtype == rt::DType::I32 || view.dtype == rt::DType::I64) {
    StatusOr<std::vector<int64_t>> integers = file.readI64(name, view.shape);
    KVCACHE_RETURN_IF_ERROR(integers.status());
    return std::vector<float>(integers->begin(), integers->end());
  }
  return file.readF32(name, view.shape);
}

constexpr const char *tablePrefix = "table.";

bool hasTables(const rt::SafetensorsFile &file) {
  auto first = file.tensors().lower_bound(tablePrefix);
  return first != file.tensors().end() && first->first.rfind(tablePrefix, 0) == 0;
}

/// Keys after RoPE are calibrated for its frequencies.
Status checkRope(const rt::SafetensorsFile &file, const rt::Geometry &geometry) {
  if (geometry.ropeInvFreq.empty() || file.find("rope_inv_freq") == nullptr) {
    return Status::ok();
  }
  StatusOr<std::vector<float>> frequencies = file.readF32("rope_inv_freq", {geometry.headDim / 2});
  KVCACHE_RETURN_IF_ERROR(frequencies.status());
  for (size_t i = 0; i < frequencies->size(); ++i) {
    double found = (*frequencies)[i], expected = geometry.ropeInvFreq[i];
    if (!(std::fabs(found - expected) <= 1e-5 * std::fabs(expected))) {
      return Status::badInput(
          fmt::format("{}: the artefacts are for RoPE frequency {} of pair {}, the model has {}",
                      file.path(), found, i, expected));
    }
  }
  return Status::ok();
}

} // namespace

StatusOr<std::string> methodHashOfArtefacts(const std::string &path) {
  StatusOr<std::shared_ptr<rt::SafetensorsFile>> file = rt::SafetensorsFile::open(path);
  KVCACHE_RETURN_IF_ERROR(file.status());
  KVCACHE_RETURN_IF_ERROR(checkFormat(**file));
  auto hash = (*file)->metadata().find("method_hash");
  return hash == (*file)->metadata().end() ? std::string() : hash->second;
}

std::string checksumOfArtefacts(rt::Execution &execution) {
  const ArtefactHolder &holder = *execution.artefactHolder();
  uint64_t hash = 1469598103934665603u; // FNV-1a
  for (size_t i = 0; i < holder.artefactShapes().size(); ++i) {
    for (int64_t layer = 0; layer < execution.geometry().layers; ++layer) {
      for (float value : holder.artefactValues(i, layer)) {
        uint32_t bits = 0;
        std::memcpy(&bits, &value, sizeof(bits));
        hash = (hash ^ bits) * 1099511628211u;
      }
    }
  }
  return fmt::format("{:016x}", hash);
}

Status saveArtefacts(const std::string &path, rt::Execution &execution,
                     const ArtefactOrigin &origin) {
  StatusOr<ArtefactHolder *> holder = holderOf(execution);
  KVCACHE_RETURN_IF_ERROR(holder.status());
  rt::SafetensorsWriter writer;
  writer.setMetadata("format", formatName);
  writer.setMetadata("method", execution.methodName());
  writer.setMetadata("target", execution.target());
  writer.setMetadata("calibrated_from", origin.source);
  writer.setMetadata("seed", std::to_string(origin.seed));
  if (!origin.modelHash.empty()) {
    writer.setMetadata("model_hash", origin.modelHash);
  }
  for (const auto &[key, value] : identity(execution)) {
    writer.setMetadata(key, value);
  }
  const rt::Geometry &geometry = execution.geometry();
  std::vector<rt::ArtefactShape> shapes = (*holder)->artefactShapes();
  for (size_t i = 0; i < shapes.size(); ++i) {
    for (int64_t layer = 0; layer < geometry.layers; ++layer) {
      std::vector<float> values = (*holder)->artefactValues(i, layer);
      if (values.empty()) {
        return Status::internal("artefact '" + shapes[i].name + "' is saved before calibration");
      }
      writer.addCopy(tensorName(layer, shapes[i].name), rt::DType::F32, shapes[i].dims,
                     values.data());
    }
  }
  if (!geometry.ropeInvFreq.empty()) {
    writer.addView("rope_inv_freq", rt::DType::F32,
                   {static_cast<int64_t>(geometry.ropeInvFreq.size())},
                   geometry.ropeInvFreq.data());
  }
  return writer.write(path);
}

Status loadTables(const rt::SafetensorsFile &file, rt::Execution &execution) {
  if (!hasTables(file)) {
    return Status::ok();
  }
  StatusOr<ArtefactHolder *> holder = holderOf(execution);
  KVCACHE_RETURN_IF_ERROR(holder.status());
  std::vector<rt::ArtefactShape> shapes = (*holder)->artefactShapes();
  int64_t layers = execution.geometry().layers;
  for (auto it = file.tensors().lower_bound(tablePrefix);
       it != file.tensors().end() && it->first.rfind(tablePrefix, 0) == 0; ++it) {
    std::string name = it->first.substr(std::strlen(tablePrefix));
    auto shape = std::find_if(shapes.begin(), shapes.end(),
                              [&](const rt::ArtefactShape &one) { return one.name == name; });
    if (shape == shapes.end()) {
      return Status::badInput(fmt::format("{}: {}: method '{}' has no artefact '{}'", file.path(),
                                          it->first, execution.methodName(), name));
    }
    StatusOr<std::vector<float>> values = numbersOf(file, it->first, it->second);
    KVCACHE_RETURN_IF_ERROR(values.status());
    auto one = static_cast<size_t>(
        std::accumulate(shape->dims.begin(), shape->dims.end(), int64_t{1}, std::multiplies<>()));
    bool whole = values->size() == one;
    if (!whole && values->size() != one * static_cast<size_t>(layers)) {
      return Status::badInput(
          fmt::format("{}: {}: expected {} elements for {} layers, or {}, got {}", file.path(),
                      it->first, one * static_cast<size_t>(layers), layers, one, values->size()));
    }
    if (!std::all_of(values->begin(), values->end(),
                     [](float value) { return std::isfinite(value); })) {
      return Status::badInput(file.path() + ": " + it->first + ": expected finite numbers");
    }
    for (int64_t layer = 0; layer < layers; ++layer) {
      auto from = values->begin() + (whole ? 0 : layer * static_cast<int64_t>(one));
      KVCACHE_RETURN_IF_ERROR(
          (*holder)->setArtefactValues(static_cast<size_t>(shape - shapes.begin()), layer,
                                       std::vector<float>(from, from + static_cast<int64_t>(one))));
    }
  }
  return Status::ok();
}

Status loadArtefacts(const std::string &path, rt::Execution &execution,
                     const std::string &modelHash) {
  StatusOr<std::shared_ptr<rt::SafetensorsFile>> file = rt::SafetensorsFile::open(path);
  KVCACHE_RETURN_IF_ERROR(file.status());
  StatusOr<ArtefactHolder *> holder = holderOf(execution);
  if (!holder.isOk()) {
    return Status::badInput("--artefacts " + path + ": " + holder.status().message());
  }
  if (hasTables(**file)) {
    return loadTables(**file, execution);
  }
  KVCACHE_RETURN_IF_ERROR(checkFormat(**file));
  KVCACHE_RETURN_IF_ERROR(checkIdentity(**file, execution));
  const rt::Geometry &geometry = execution.geometry();
  KVCACHE_RETURN_IF_ERROR(checkRope(**file, geometry));
  auto model = (*file)->metadata().find("model_hash");
  if (!modelHash.empty() && model != (*file)->metadata().end() && model->second != modelHash) {
    return Status::badInput(path + ": the artefacts were calibrated on a model with model_hash = " +
                            model->second + ", expected " + modelHash);
  }
  std::vector<rt::ArtefactShape> shapes = (*holder)->artefactShapes();
  std::vector<std::vector<std::vector<float>>> values(shapes.size());
  std::set<std::string> expected = {"rope_inv_freq"};
  for (size_t i = 0; i < shapes.size(); ++i) {
    for (int64_t layer = 0; layer < geometry.layers; ++layer) {
      std::string name = tensorName(layer, shapes[i].name);
      StatusOr<std::vector<float>> read = (*file)->readF32(name, shapes[i].dims);
      KVCACHE_RETURN_IF_ERROR(read.status());
      for (float value : *read) {
        if (!std::isfinite(value)) {
          return Status::badInput(path + ": " + name + ": expected finite numbers");
        }
      }
      expected.insert(name);
      values[i].push_back(std::move(*read));
    }
  }
  for (const auto &[name, view] : (*file)->tensors()) {
    if (expected.count(name) == 0) {
      return Status::badInput(path + ": " + name + ": unknown tensor");
    }
  }
  for (size_t i = 0; i < shapes.size(); ++i) {
    for (int64_t layer = 0; layer < geometry.layers; ++layer) {
      KVCACHE_RETURN_IF_ERROR(
          (*holder)->setArtefactValues(i, layer, values[i][static_cast<size_t>(layer)]));
    }
  }
  return Status::ok();
}

void noteStatedArtefacts(rt::Execution &execution, const rt::SafetensorsFile *tables) {
  ArtefactHolder *holder = execution.artefactHolder();
  if (holder == nullptr || execution.needsCalibration()) {
    return;
  }
  std::string names;
  for (const rt::ArtefactShape &shape : holder->artefactShapes()) {
    if (tables == nullptr || tables->find(tablePrefix + shape.name) == nullptr) {
      names += (names.empty() ? "'" : ", '") + shape.name + "'";
    }
  }
  if (!names.empty()) {
    std::string made =
        execution.calibrationSources().empty() ? "" : ", as `kvasir calibrate` makes it on a model";
    printNote("note", "method '" + execution.methodName() + "': no file gives " + names +
                          " (--artefacts" + made +
                          "), so every element has the value that the method states");
  }
}

} // namespace kvcache::tools
