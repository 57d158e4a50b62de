// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Making artefacts: the rows of each layer are collected, then its CALIBRATE programs run once on
// all of them; those with a source run on each sequence as it comes, and CALIBRATE_MODEL on the
// means of what they made. Sequences keep the artefacts they were created with.

#include "runtime/exec/Executor.h"
#include "runtime/io/Half.h"

#include <algorithm>
#include <cstring>

namespace kvcache::rt {

bool CompiledExecution::needsCalibration() const {
  for (size_t t = 0; t < tensors().size(); ++t) {
    for (const std::vector<char> &values : artefacts_->values[t]) {
      if (tensors()[t].artefact && values.empty()) {
        return true;
      }
    }
  }
  return false;
}

Status CompiledExecution::setArtefact(int32_t tensor, int64_t layer, std::vector<char> values) {
  KVCACHE_RETURN_IF_ERROR(checkLayer(layer));
  if (tensor < 0 || tensor >= static_cast<int32_t>(tensors().size()) ||
      !tensors()[tensor].artefact) {
    return Status::badInput("method '" + methodName() + "' has no artefact number " +
                            std::to_string(tensor));
  }
  if (static_cast<int64_t>(values.size()) != tensors()[tensor].bytes) {
    return Status::badInput("artefact '" + tensors()[tensor].name + "', layer " +
                            std::to_string(layer) + ": expected " +
                            std::to_string(tensors()[tensor].bytes) + " bytes, got " +
                            std::to_string(values.size()));
  }
  auto changed = std::make_shared<Artefacts>(*artefacts_);
  changed->values[tensor][layer] = std::move(values);
  artefacts_ = std::move(changed);
  return Status::ok();
}

Status CompiledExecution::calibrate(int64_t layer, const LayerRows &rows) {
  KVCACHE_RETURN_IF_ERROR(checkLayer(layer));
  KVCACHE_RETURN_IF_ERROR(checkRows(layer, rows, true));
  int64_t queryValues = rows.rows * geometry().queryHeads * geometry().headDim;
  int64_t keyValues = rows.rows * geometry().kvHeads * geometry().headDim;
  CalibrationRows &to = calibration_[layer];
  // Only what a program reads is kept.
  auto keep = [&](proto::Buffer::Role role, std::vector<float> &values, const float *from,
                  int64_t count, const char *what) {
    if (!executable().anyUses(proto::Program::CALIBRATE, role)) {
      return Status::ok();
    }
    if (from == nullptr) {
      return Status::badInput("layer " + std::to_string(layer) + ": calibration needs " + what);
    }
    values.insert(values.end(), from, from + count);
    return Status::ok();
  };
  KVCACHE_RETURN_IF_ERROR(keep(proto::Buffer::QUERY, to.q, rows.q, queryValues, "queries"));
  KVCACHE_RETURN_IF_ERROR(
      keep(proto::Buffer::KEY_PRE, to.kPre, rows.kPre, keyValues, "keys before RoPE"));
  KVCACHE_RETURN_IF_ERROR(keep(proto::Buffer::KEY, to.k, rows.k, keyValues, "keys"));
  KVCACHE_RETURN_IF_ERROR(keep(proto::Buffer::VALUE, to.v, rows.v, keyValues, "values"));
  to.positions.insert(to.positions.end(), rows.positions, rows.positions + rows.rows);
  return Status::ok();
}

std::vector<const LoadedProgram *> CompiledExecution::sampledPrograms() const {
  std::vector<const LoadedProgram *> sampled;
  for (const LoadedProgram *program : executable().programs(proto::Program::CALIBRATE, 0)) {
    if (!program->source.empty()) {
      sampled.push_back(program);
    }
  }
  return sampled;
}

std::vector<CalibrationSource> CompiledExecution::calibrationSources() const {
  std::vector<CalibrationSource> sources;
  for (const LoadedProgram *program : sampledPrograms()) {
    sources.push_back({program->source, program->sizes[0], program->sizes[1]});
  }
  return sources;
}

Status CompiledExecution::calibrateSequence(size_t source, const std::vector<LayerRows> &layers,
                                            const RequestTables &tables) {
  std::vector<const LoadedProgram *> sampled = sampledPrograms();
  if (source >= sampled.size() || static_cast<int64_t>(layers.size()) != geometry().layers) {
    return Status::internal("a sequence of no source, or of another number of layers, is given");
  }
  RequestState requests;
  requests.tables = tables;
  for (const auto &[name, table] : tables) {
    requests.entries[name] = static_cast<int32_t>(table.size());
  }
  CarriedTensors carried(tensors().size());
  for (int64_t layer = 0; layer < geometry().layers; ++layer) {
    const LayerRows &rows = layers[static_cast<size_t>(layer)];
    KVCACHE_RETURN_IF_ERROR(checkRows(layer, rows, true));
    LayerState state(executable(), *core_->arena);
    state.length = rows.rows;
    state.recent = RecentRows(-1, geometry().queryHeads * geometry().headDim);
    state.recent.append(rows.q == nullptr ? 0 : rows.rows, rows.q, rows.positions);
    RunItem item;
    item.state = &state;
    item.artefacts = artefacts_.get();
    item.requests = &requests;
    item.rows = rows;
    item.carried = &carried;
    KVCACHE_RETURN_IF_ERROR(core_->runner.run(*sampled[source], layer, {item}));
  }
  sums_.resize(tensors().size());
  for (size_t t = 0; t < carried.size(); ++t) {
    if (carried[t].data() == nullptr) {
      continue;
    }
    CalibrationSums &sums = sums_[t];
    int64_t count = geometry().layers;
    for (int64_t extent : carried[t].extents()) {
      count *= extent;
    }
    if (tensors()[t].elem != ElementType::F32 ||
        (sums.sequences > 0 && sums.extents != carried[t].extents())) {
      return Status::badInput("'" + tensors()[t].name + "': its mean over the sequences of '" +
                              sampled[source]->source +
                              "' is taken, expected the same extents in each of them");
    }
    sums.extents = carried[t].extents();
    sums.values.resize(static_cast<size_t>(count), 0.0);
    const auto *values = reinterpret_cast<const float *>(carried[t].data());
    for (size_t i = 0; i < sums.values.size(); ++i) {
      sums.values[i] += static_cast<double>(values[i]);
    }
    ++sums.sequences;
  }
  return Status::ok();
}

Status CompiledExecution::calibrateOnRows(const std::vector<const LoadedProgram *> &programs,
                                          int64_t layer, const Artefacts &made) {
  const CalibrationRows &from = calibration_[layer];
  for (const LoadedProgram *program : programs) {
    if (!program->source.empty()) {
      continue;
    }
    if (from.positions.empty()) {
      return Status::badInput("calibration got no rows for layer " + std::to_string(layer));
    }
    LayerState state(executable(), *core_->arena);
    state.length = static_cast<int64_t>(from.positions.size());
    RunItem item;
    item.state = &state;
    item.artefacts = &made;
    item.rows.rows = state.length;
    item.rows.q = from.q.data();
    item.rows.k = from.k.data();
    item.rows.v = from.v.data();
    item.rows.kPre = from.kPre.data();
    item.rows.positions = from.positions.data();
    KVCACHE_RETURN_IF_ERROR(core_->runner.run(*program, layer, {item}));
  }
  return Status::ok();
}

/// Runs CALIBRATE_MODEL on the means, and gives every layer the artefacts that it wrote.
Status CompiledExecution::calibrateModel(Artefacts &made) {
  CarriedTensors means(tensors().size());
  sums_.resize(tensors().size());
  for (size_t t = 0; t < sums_.size(); ++t) {
    const CalibrationSums &sums = sums_[t];
    if (sums.sequences == 0) {
      continue;
    }
    void *data = nullptr;
    KVCACHE_RETURN_IF_ERROR(
        means[t].bind(tensors()[t].name, sums.extents, sizeof(float), geometry().layers, -1, data));
    auto *to = static_cast<float *>(data);
    for (size_t i = 0; i < sums.values.size(); ++i) {
      to[i] = static_cast<float>(sums.values[i] / static_cast<double>(sums.sequences));
    }
  }
  for (const LoadedProgram *program : executable().programs(proto::Program::CALIBRATE_MODEL, 0)) {
    for (const LoadedBuffer &buffer : program->buffers) {
      bool carried = buffer.role == proto::Buffer::TENSOR && tensors()[buffer.index].carried;
      if (carried && means[buffer.index].data() == nullptr) {
        return Status::badInput("method '" + methodName() +
                                "': calibration got no sequences for '" + buffer.name + "'");
      }
    }
    LayerState state(executable(), *core_->arena);
    RunItem item;
    item.state = &state;
    item.artefacts = &made;
    item.carried = &means;
    KVCACHE_RETURN_IF_ERROR(core_->runner.run(*program, 0, {item}));
    for (const LoadedBuffer &buffer : program->buffers) {
      if (buffer.role == proto::Buffer::TENSOR && tensors()[buffer.index].artefact) {
        std::vector<std::vector<char>> &values = made.values[buffer.index];
        std::fill(values.begin() + 1, values.end(), values.front());
      }
    }
  }
  return Status::ok();
}

Status CompiledExecution::finishCalibration() {
  auto made = std::make_shared<Artefacts>(*artefacts_);
  for (size_t t = 0; t < tensors().size(); ++t) {
    for (std::vector<char> &values : made->values[t]) { // what a file gave stays
      values.resize(tensors()[t].artefact ? tensors()[t].bytes : 0, 0);
    }
  }
  for (int64_t layer = 0; layer < geometry().layers; ++layer) {
    KVCACHE_RETURN_IF_ERROR(
        calibrateOnRows(executable().programs(proto::Program::CALIBRATE, layer), layer, *made));
  }
  KVCACHE_RETURN_IF_ERROR(calibrateModel(*made));
  artefacts_ = std::move(made);
  calibration_.assign(geometry().layers, {});
  sums_.clear();
  core_->runner.releaseScratch();
  return Status::ok();
}

std::vector<ArtefactShape> CompiledExecution::artefactShapes() const {
  std::vector<ArtefactShape> shapes;
  for (const LoadedTensor &tensor : tensors()) {
    if (tensor.artefact) {
      shapes.push_back({tensor.name, tensor.dims});
    }
  }
  return shapes;
}

int32_t CompiledExecution::tensorOfArtefact(size_t index) const {
  for (size_t t = 0; t < tensors().size(); ++t) {
    if (tensors()[t].artefact && index-- == 0) {
      return static_cast<int32_t>(t);
    }
  }
  return -1;
}

std::vector<float> CompiledExecution::artefactValues(size_t index, int64_t layer) const {
  int32_t t = tensorOfArtefact(index);
  const std::vector<char> &bytes = artefact(t, layer);
  ElementType elem = tensors()[t].elem;
  size_t count = bytes.size() / static_cast<size_t>(abi::bytesOf(elem));
  std::vector<float> values(count);
  const auto *from = reinterpret_cast<const uint8_t *>(bytes.data());
  if (elem == ElementType::F16) {
    f32FromF16(from, values.data(), static_cast<int64_t>(count));
  } else if (elem == ElementType::BF16) {
    f32FromBf16(from, values.data(), static_cast<int64_t>(count));
  } else if (elem == ElementType::I32) {
    std::vector<int32_t> integers(count);
    std::memcpy(integers.data(), from, bytes.size());
    values.assign(integers.begin(), integers.end());
  } else {
    std::memcpy(values.data(), from, bytes.size());
  }
  return values;
}

Status CompiledExecution::setArtefactValues(size_t index, int64_t layer,
                                            const std::vector<float> &values) {
  int32_t t = tensorOfArtefact(index);
  ElementType elem = t < 0 ? ElementType::F32 : tensors()[t].elem;
  std::vector<char> bytes(values.size() * static_cast<size_t>(abi::bytesOf(elem)));
  auto *to = reinterpret_cast<uint8_t *>(bytes.data());
  int64_t count = static_cast<int64_t>(values.size());
  if (elem == ElementType::F16) {
    f16FromF32(values.data(), to, count);
  } else if (elem == ElementType::BF16) {
    bf16FromF32(values.data(), to, count);
  } else if (elem == ElementType::I32) {
    std::vector<int32_t> integers(values.begin(), values.end());
    std::memcpy(to, integers.data(), bytes.size());
  } else {
    std::memcpy(to, values.data(), bytes.size());
  }
  return setArtefact(t, layer, std::move(bytes));
}

} // namespace kvcache::rt
