// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reading a compiled sequence: reports, rows as the READ program decodes them, raw codes.

#include "runtime/exec/CompiledSequence.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

namespace kvcache::rt {

CompiledSequence::CompiledSequence(std::shared_ptr<ExecutionCore> core,
                                   std::shared_ptr<const Artefacts> artefacts,
                                   const SequenceOptions &options)
    : core_(std::move(core)), artefacts_(std::move(artefacts)), options_(options) {
  for (const auto &[name, table] : options_.requests) {
    requests_.entries[name] = static_cast<int32_t>(table.size());
  }
  requests_.tables = std::move(options_.requests);
  for (int64_t layer = 0; layer < core_->executable->geometry().layers; ++layer) {
    layers_.push_back(std::make_unique<LayerState>(*core_->executable, *core_->arena));
  }
}

std::unique_ptr<Sequence> CompiledSequence::fork() const {
  auto copy = std::make_unique<CompiledSequence>(core_, artefacts_, options_);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    StatusOr<std::unique_ptr<LayerState>> state = layers_[layer]->fork();
    if (!state.isOk()) {
      return nullptr;
    }
    copy->layers_[layer] = std::move(*state);
  }
  copy->requests_ = requests_;
  copy->appended_ = appended_;
  copy->broken_ = broken_;
  copy->promptEnded_ = promptEnded_;
  return copy;
}

RunItem CompiledSequence::item(int64_t layer, const LayerRows &rows) const {
  RunItem item;
  item.state = layers_[layer].get();
  item.artefacts = artefacts_.get();
  item.requests = &requests_;
  item.rows = rows;
  item.budget = options_.budget;
  item.seed = options_.seed;
  return item;
}

void CompiledSequence::extendRequests(int64_t length) {
  for (auto &[name, table] : requests_.tables) {
    if (static_cast<int64_t>(table.size()) < length) {
      table.resize(static_cast<size_t>(length), 0);
    }
  }
}

/// Heads that can be asked for: query heads where each has rows of its own, else KV heads.
int64_t CompiledSequence::heads() const {
  const Geometry &geometry = core_->executable->geometry();
  auto [store, k] = core_->executable->findColumn("k");
  int64_t rowHeads = k < 0 ? 0 : layers_[0]->stores[store]->schema().rowHeads();
  return rowHeads == geometry.queryHeads ? rowHeads : geometry.kvHeads;
}

/// Where head `head` lies in a table of `rowHeads` heads with rows of `width` values: a head of its
/// own, or, in a table that all heads share, its share of the values.
HeadSlice CompiledSequence::slice(int64_t rowHeads, int64_t width, int64_t head) const {
  int64_t kvHeads = core_->executable->geometry().kvHeads;
  if (rowHeads > 1 || rowHeads == kvHeads || width % kvHeads != 0) {
    return {std::min(head, rowHeads - 1), 0, width};
  }
  return {0, head * (width / kvHeads), width / kvHeads};
}

LayerReport CompiledSequence::report(int64_t layer) const {
  LayerReport report;
  if (layer < 0 || layer >= static_cast<int64_t>(layers_.size())) {
    return report;
  }
  const LayerState &state = *layers_[layer];
  report.bytesMeasured = state.bytesMeasured();
  report.bytesClaimed = state.bytesClaimed();
  report.bytesOnePage = state.bytesOnePage();
  report.readBytesPerToken = state.decodeReadBytes;
  auto [kStore, k] = core_->executable->findColumn("k");
  auto [vStore, v] = core_->executable->findColumn("v");
  report.bitsK = k < 0 ? 0 : state.stores[kStore]->columnBits(k);
  report.bitsV = v < 0 ? 0 : state.stores[vStore]->columnBits(v);
  for (int64_t head = 0; head < heads(); ++head) {
    int64_t rows = 0;
    if (k >= 0) {
      const Store &store = *state.stores[kStore];
      rows = store.rows(
          slice(store.schema().rowHeads(), store.schema().columns()[k].layout.width, head).rowHead);
    }
    report.keptRows.push_back(rows);
  }
  return report;
}

/// Copies an f32 buffer [heads, rows, width] of the program that has just run.
Status CompiledSequence::takeBuffer(const LoadedProgram &program, const char *name,
                                    std::vector<float> &values,
                                    std::vector<int64_t> &extents) const {
  Frame &frame = core_->runner.frame(0);
  int32_t buffer = program.buffer(name);
  if (buffer < 0 || program.buffers[buffer].elem != ElementType::F32 ||
      program.buffers[buffer].dims.size() != 3) {
    return Status::badInput(std::string("the read program of method '") +
                            core_->executable->message().method() + "' has no f32 buffer '" + name +
                            "' of [heads, rows, values]");
  }
  void *data = nullptr;
  KVCACHE_RETURN_IF_ERROR(frame.buffer(buffer, data));
  extents = frame.extents(buffer);
  const float *from = static_cast<const float *>(data);
  values.assign(from, from + frame.bufferBytes(buffer) / static_cast<int64_t>(sizeof(float)));
  return Status::ok();
}

/// Decodes all heads of a layer, unless that was done since the last change.
Status CompiledSequence::readLayer(int64_t layer) const {
  if (read_.layer == layer && read_.version == version_) {
    return Status::ok();
  }
  const auto &programs = core_->executable->programs(proto::Program::READ, layer);
  if (programs.size() != 1) {
    return Status::badInput("the executable of method '" + core_->executable->message().method() +
                            "' has " + std::to_string(programs.size()) +
                            " read programs for layer " + std::to_string(layer) + ", expected 1");
  }
  read_.layer = -1;
  KVCACHE_RETURN_IF_ERROR(core_->runner.run(*programs[0], layer, {item(layer, {})}));
  KVCACHE_RETURN_IF_ERROR(takeBuffer(*programs[0], "k", read_.k, read_.kExtents));
  KVCACHE_RETURN_IF_ERROR(takeBuffer(*programs[0], "v", read_.v, read_.vExtents));
  read_.byPosition.clear();
  for (size_t order = 0; order < appended_.size(); ++order) {
    read_.byPosition.emplace_back(appended_[order], static_cast<int64_t>(order));
  }
  std::sort(read_.byPosition.begin(), read_.byPosition.end());
  read_.layer = layer;
  read_.version = version_;
  return Status::ok();
}

/// The rows [rows, width] of one head out of [heads, all rows, values]; nothing where the extents
/// do not hold them.
static std::vector<float> headRows(const std::vector<float> &values,
                                   const std::vector<int64_t> &extents, const HeadSlice &slice,
                                   int64_t rows) {
  std::vector<float> result;
  if (slice.rowHead >= extents[0] || rows > extents[1] ||
      slice.firstChannel + slice.channels > extents[2]) {
    return result;
  }
  for (int64_t row = 0; row < rows; ++row) {
    auto from =
        values.begin() + (slice.rowHead * extents[1] + row) * extents[2] + slice.firstChannel;
    result.insert(result.end(), from, from + slice.channels);
  }
  return result;
}

/// Fills positions and the order of arrival of each row, from the column of positions.
Status CompiledSequence::findSources(const LayerState &state, int64_t head, int64_t rows,
                                     HeadContents &contents) const {
  auto [kStore, k] = core_->executable->findColumn("k");
  const Store &store = *state.stores[kStore];
  int32_t column = store.schema().column("pos");
  std::vector<int64_t> positions;
  if (column >= 0) {
    positions = exportIntegers(store, column, slice(store.schema().rowHeads(), 1, head).rowHead);
  }
  bool reindexed = store.schema().columns()[k].ropeView;
  std::unordered_map<int64_t, int64_t> taken; // for positions that were fed more than once
  for (int64_t row = 0; row < rows; ++row) {
    int64_t position = row < static_cast<int64_t>(positions.size()) ? positions[row]
                       : row < length()                             ? appended_[row]
                                                                    : row;
    contents.positions.push_back(static_cast<int32_t>(reindexed ? row : position));
    auto from = std::make_pair(static_cast<int32_t>(position), taken[position]);
    auto found = std::lower_bound(read_.byPosition.begin(), read_.byPosition.end(), from);
    if (found == read_.byPosition.end() || found->first != position) {
      return Status::internal("the cache holds a row of position " + std::to_string(position) +
                              ", which was not fed");
    }
    taken[position] = found->second + 1;
    contents.source.push_back(static_cast<int32_t>(found->second));
  }
  return Status::ok();
}

void CompiledSequence::addCaptured(const LayerState &state, int64_t head, int64_t rows,
                                   HeadContents &contents) const {
  if (state.scoreColumns > 0) {
    int64_t heads = static_cast<int64_t>(state.scores.size()) / state.scoreColumns;
    auto from = state.scores.begin() + std::min(head, heads - 1) * state.scoreColumns;
    contents.scores.assign(from, from + state.scoreColumns);
  }
  if (state.countColumns > 0) {
    int64_t heads = static_cast<int64_t>(state.counts.size()) / state.countColumns;
    auto from = state.counts.begin() + std::min(head, heads - 1) * state.countColumns;
    contents.counts.assign(from, from + std::min(rows, state.countColumns));
    contents.counts.resize(static_cast<size_t>(rows), 1.0f); // rows that came later are single
  }
  // A column `merged` counts the entries folded into each row besides the row itself.
  auto [store, merged] = core_->executable->findColumn("merged");
  if (merged >= 0) {
    contents.counts.clear();
    for (int64_t others : exportIntegers(
             *state.stores[store], merged,
             slice(state.stores[store]->schema().rowHeads(), 1, head).rowHead)) {
      contents.counts.push_back(1.0F + static_cast<float>(others));
    }
  }
}

StatusOr<HeadContents> CompiledSequence::contents(int64_t layer, int64_t head) const {
  const Geometry &geometry = core_->executable->geometry();
  if (layer < 0 || layer >= geometry.layers || head < 0 || head >= heads()) {
    return Status::badInput("expected a layer below " + std::to_string(geometry.layers) +
                            " and a head below " + std::to_string(heads()) + ", got " +
                            std::to_string(layer) + " and " + std::to_string(head));
  }
  KVCACHE_RETURN_IF_ERROR(broken_);
  auto [kStore, k] = core_->executable->findColumn("k");
  auto [vStore, v] = core_->executable->findColumn("v");
  if (k < 0 || v < 0) {
    return Status::badInput("method '" + core_->executable->message().method() +
                            "' holds no columns 'k' and 'v'");
  }
  KVCACHE_RETURN_IF_ERROR(readLayer(layer));
  const LayerState &state = *layers_[layer];
  HeadContents contents;
  auto side = [&](int32_t storeNumber, int32_t column, const std::vector<float> &values,
                  const std::vector<int64_t> &extents, std::vector<float> &rowsOut, bool &coded,
                  CodedRows &codedOut) {
    const Store &store = *state.stores[storeNumber];
    const abi::ColumnLayout &layout = store.schema().columns()[column].layout;
    HeadSlice stored = slice(store.schema().rowHeads(), layout.width, head);
    rowsOut =
        headRows(values, extents, slice(extents[0], extents[2], head), store.rows(stored.rowHead));
    coded = layout.affine();
    if (coded) {
      codedOut = exportCoded(store, column, stored);
    }
    return store.rows(stored.rowHead);
  };
  int64_t rows =
      side(kStore, k, read_.k, read_.kExtents, contents.k, contents.kCoded, contents.codedK);
  side(vStore, v, read_.v, read_.vExtents, contents.v, contents.vCoded, contents.codedV);
  KVCACHE_RETURN_IF_ERROR(findSources(state, head, rows, contents));
  addCaptured(state, head, rows, contents);
  return contents;
}

void CompiledSequence::capture(const LoadedProgram &program, int64_t layer, size_t index) {
  Frame &frame = core_->runner.frame(index);
  LayerState &state = *layers_[layer];
  auto take = [&](int32_t buffer, std::vector<float> &values, int64_t &columns) {
    const float *from = buffer < 0 ? nullptr : static_cast<const float *>(frame.used(buffer));
    if (from == nullptr) {
      return false;
    }
    values.assign(from, from + frame.bufferBytes(buffer) / static_cast<int64_t>(sizeof(float)));
    columns = frame.extents(buffer).back();
    return true;
  };
  take(program.rankedCountsBuffer, state.counts, state.countColumns);
  if (!core_->captureScores || !take(program.rankedBuffer, state.scores, state.scoreColumns)) {
    return;
  }
  auto forced = [&](int32_t slot) {
    return slot < 0 ? 0 : std::clamp<int64_t>(frame.slot(slot), 0, state.scoreColumns);
  };
  int64_t first = forced(program.rankedFirstSlot), last = forced(program.rankedLastSlot);
  for (size_t i = 0; i < state.scores.size(); ++i) {
    int64_t column = static_cast<int64_t>(i) % state.scoreColumns;
    if (column < first || column >= state.scoreColumns - last) {
      state.scores[i] = std::numeric_limits<float>::infinity();
    }
  }
}

} // namespace kvcache::rt
