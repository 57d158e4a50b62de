// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Recording and replay. Invariant: replay hands on the recorded floats bit for
// bit.

#include "runtime/model/PromptRecording.h"

#include <algorithm>

namespace kvcache::rt {

static PromptRecording emptyRecording(const ModelConfig &config, const SequenceRun &run,
                                      const RecordOptions &options) {
  PromptRecording recording;
  recording.tokens = static_cast<int64_t>(run.prompt.size());
  recording.queryRows =
      options.queryRows < 0 ? recording.tokens : std::min(options.queryRows, recording.tokens);
  recording.queryHeads = config.queryHeads;
  recording.kvHeads = config.kvHeads;
  recording.headDim = config.headDim;
  recording.ids = run.prompt;
  recording.requests = run.requests;
  recording.layers.resize(static_cast<size_t>(config.layers));
  for (LayerRecording &layer : recording.layers) {
    size_t rows = static_cast<size_t>(recording.tokens * config.kvHeads * config.headDim);
    layer.q.reserve(static_cast<size_t>(recording.queryRows * config.queryHeads * config.headDim));
    layer.k.reserve(rows);
    layer.v.reserve(rows);
    layer.kPre.reserve(options.preRopeKeys ? rows : 0);
  }
  return recording;
}

/// Appends the rows of one chunk whose first row is prompt row `first`.
static void append(PromptRecording &recording, int64_t layer, int64_t first, const LayerRows &rows,
                   bool preRopeKeys) {
  LayerRecording &target = recording.layers[static_cast<size_t>(layer)];
  int64_t kvWidth = recording.kvHeads * recording.headDim,
          queryWidth = recording.queryHeads * recording.headDim;
  target.k.insert(target.k.end(), rows.k, rows.k + rows.rows * kvWidth);
  target.v.insert(target.v.end(), rows.v, rows.v + rows.rows * kvWidth);
  if (preRopeKeys) {
    target.kPre.insert(target.kPre.end(), rows.kPre, rows.kPre + rows.rows * kvWidth);
  }
  int64_t skipped =
      std::clamp<int64_t>(recording.tokens - recording.queryRows - first, 0, rows.rows);
  target.q.insert(target.q.end(), rows.q + skipped * queryWidth, rows.q + rows.rows * queryWidth);
}

StatusOr<std::vector<PromptRecording>> recordPrompts(Decoder &decoder, Execution &dense,
                                                     const std::vector<SequenceRun *> &runs,
                                                     const RecordOptions &options) {
  if (dense.thinsPrompt()) {
    return Status::badInput(
        "method '" + dense.methodName() +
        "' drops rows of the prompt between layers: its prefill is not recorded");
  }
  std::vector<PromptRecording> recordings;
  for (const SequenceRun *run : runs) {
    recordings.push_back(emptyRecording(decoder.config(), *run, options));
  }
  PrefillOptions prefill;
  prefill.chunk = options.chunk;
  prefill.preRopeKeys = options.preRopeKeys;
  prefill.observer = [&](int64_t layer, const std::vector<size_t> &active,
                         const std::vector<LayerRows> &rows) {
    for (size_t i = 0; i < active.size(); ++i) {
      PromptRecording &recording = recordings[active[i]];
      int64_t width = recording.kvHeads * recording.headDim;
      int64_t first =
          static_cast<int64_t>(recording.layers[static_cast<size_t>(layer)].k.size()) / width;
      append(recording, layer, first, rows[i], options.preRopeKeys);
      if (layer == 0) {
        recording.positions.insert(recording.positions.end(), rows[i].positions,
                                   rows[i].positions + rows[i].rows);
      }
    }
    return Status::ok();
  };
  KVCACHE_RETURN_IF_ERROR(decoder.prefill(dense, runs, prefill));
  for (size_t i = 0; i < runs.size(); ++i) {
    recordings[i].logits = runs[i]->logits;
  }
  return recordings;
}

/// The recorded rows [first, first + count) of a layer as activations.
static LayerRows slice(const PromptRecording &recording, int64_t layer, int64_t first,
                       int64_t count) {
  const LayerRecording &source = recording.layers[static_cast<size_t>(layer)];
  int64_t kvOffset = first * recording.kvHeads * recording.headDim;
  int64_t queryRow = first - (recording.tokens - recording.queryRows);
  LayerRows rows;
  rows.rows = count;
  rows.q = queryRow < 0 ? nullptr
                        : source.q.data() + queryRow * recording.queryHeads * recording.headDim;
  rows.k = source.k.data() + kvOffset;
  rows.v = source.v.data() + kvOffset;
  rows.kPre = source.kPre.empty() ? nullptr : source.kPre.data() + kvOffset;
  rows.positions = recording.positions.data() + first;
  rows.ids = recording.ids.data() + first;
  return rows;
}

static Status checkRecording(const PromptRecording &recording, const Execution &execution) {
  const Geometry &geometry = execution.geometry();
  if (geometry.layers != static_cast<int64_t>(recording.layers.size()) ||
      geometry.queryHeads != recording.queryHeads || geometry.kvHeads != recording.kvHeads ||
      geometry.headDim != recording.headDim) {
    return Status::badInput("method '" + execution.methodName() +
                            "' is compiled for another geometry than the recorded prompt");
  }
  int64_t needed = execution.neededQueryRows();
  int64_t rows = needed < 0 ? recording.tokens : std::min(needed, recording.tokens);
  if (recording.queryRows < rows) {
    return Status::badInput("method '" + execution.methodName() + "': expected the last " +
                            std::to_string(rows) + " rows of queries, found " +
                            std::to_string(recording.queryRows) + " in the recorded prompt");
  }
  if (execution.needsPreRopeKeys() && recording.layers.front().kPre.empty()) {
    return Status::badInput("method '" + execution.methodName() +
                            "': expected keys before RoPE, found none in the recorded prompt");
  }
  return Status::ok();
}

Status replay(const PromptRecording &recording, Execution &execution, SequenceRun &run,
              int64_t chunk) {
  if (execution.thinsPrompt()) {
    return Status::badInput(
        "method '" + execution.methodName() +
        "' drops rows of the prompt between layers: expected a prefill of its own");
  }
  KVCACHE_RETURN_IF_ERROR(checkRecording(recording, execution));
  if (chunk < 1) {
    return Status::badInput("replay chunk: expected at least 1 token, found " +
                            std::to_string(chunk));
  }
  int64_t firstQuery = recording.tokens - recording.queryRows;
  std::vector<float> notRecorded;
  if (execution.neededQueryRows() != 0) {
    int64_t rows = std::min(chunk, firstQuery);
    notRecorded.resize(static_cast<size_t>(rows * recording.queryHeads * recording.headDim));
  }
  for (int64_t first = 0, count = 0; first < recording.tokens; first += count) {
    int64_t limit = first < firstQuery ? firstQuery : recording.tokens;
    count = std::min(chunk - first % chunk, limit - first);
    for (int64_t layer = 0; layer < execution.geometry().layers; ++layer) {
      LayerRows rows = slice(recording, layer, first, count);
      if (first < firstQuery && !notRecorded.empty()) {
        rows.q = notRecorded.data();
      }
      KVCACHE_RETURN_IF_ERROR(execution.ingest(layer, {run.sequence}, {rows}));
    }
  }
  run.prompt = recording.ids;
  run.position = recording.positions.back() + 1;
  run.logits = recording.logits;
  return Status::ok();
}

Status feedPrompt(Decoder &decoder, const PromptRecording &recording, Execution &execution,
                  SequenceRun &run) {
  if (!execution.thinsPrompt()) {
    return replay(recording, execution, run);
  }
  run.prompt = recording.ids;
  run.position = recording.positions.front();
  return decoder.prefill(execution, {&run});
}

Status calibrate(const PromptRecording &recording, Execution &execution) {
  KVCACHE_RETURN_IF_ERROR(checkRecording(recording, execution));
  for (int64_t layer = 0; layer < execution.geometry().layers; ++layer) {
    KVCACHE_RETURN_IF_ERROR(
        execution.calibrate(layer, slice(recording, layer, 0, recording.tokens)));
  }
  return Status::ok();
}

Status calibrateSequence(const PromptRecording &recording, size_t source,
                         const RequestTables &tables, Execution &execution) {
  KVCACHE_RETURN_IF_ERROR(checkRecording(recording, execution));
  std::vector<LayerRows> layers;
  for (int64_t layer = 0; layer < execution.geometry().layers; ++layer) {
    layers.push_back(slice(recording, layer, 0, recording.tokens));
  }
  return execution.calibrateSequence(source, layers, tables);
}

} // namespace kvcache::rt
