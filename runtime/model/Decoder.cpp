// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The forward pass. Invariant: a row's result depends on its own tokens only,
// not on the rows, chunks or sequences it shares a call with (up to the
// rounding of the BLAS; see Linear.h).

#include "runtime/model/Decoder.h"

#include "runtime/model/Draft.h"
#include "runtime/model/Layers.h"
#include "runtime/model/Linear.h"
#include "runtime/model/Weights.h"

#include <algorithm>

namespace kvcache::rt {

namespace {

/// Rows of one pass: `count` tokens of each listed run, one after the other.
struct Pass {
  std::vector<size_t> runs; ///< indices into the runs of the call
  std::vector<Sequence *> sequences;
  std::vector<int64_t> first, count; ///< row range of each entry of `runs`
  std::vector<int64_t> fed;          ///< tokens of each entry, whatever became of their rows
  std::vector<int32_t> tokens, positions;
  bool decode = false, probe = false;
  bool preRopeKeys = false;

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }

  /// `number` tokens, the first of which stands `behind` tokens after where the run is.
  void add(size_t index, const SequenceRun &run, const int32_t *source, int64_t number,
           int64_t behind = 0) {
    runs.push_back(index);
    sequences.push_back(run.sequence);
    first.push_back(rows());
    count.push_back(number);
    fed.push_back(number);
    for (int64_t i = 0; i < number; ++i) {
      tokens.push_back(source[i]);
      positions.push_back(static_cast<int32_t>(run.position + behind + i));
    }
  }
};

} // namespace

struct Decoder::Implementation {
  ModelConfig config;
  std::unique_ptr<Weights> weights;
  RopeTable rope;
  // Activations of the current pass, [paddedRows, width]; they only grow.
  std::vector<float> residual, normed, q, k, kPre, v, attention, gate, up, selected, logits;

  Status checkCall(const Execution &execution, const std::vector<SequenceRun *> &runs) const;
  Status checkTokens(const int32_t *tokens, int64_t count, size_t run) const;
  void reserve(int64_t rows, bool preRopeKeys);
  void embed(const Pass &pass);
  void projectQkv(const LayerWeights &layer, const Pass &pass);
  std::vector<LayerRows> layerRows(const Pass &pass);
  void finishLayer(const LayerWeights &layer, int64_t rows);
  Status forward(Execution &execution, Pass &pass, const LayerObserver &observer);
  Status thin(const Execution &execution, int64_t layer, Pass &pass);
  const float *headLogits(const std::vector<int64_t> &rows);
  Status startPrefill(const std::vector<SequenceRun *> &runs, const PrefillOptions &options) const;
  void finishChunk(const Pass &pass, int64_t start, bool allLogits,
                   const std::vector<SequenceRun *> &runs);
};

static void grow(std::vector<float> &buffer, int64_t rows, int64_t width) {
  size_t size = static_cast<size_t>(paddedRows(rows) * width);
  if (buffer.size() < size) {
    buffer.resize(size);
  }
}

Status Decoder::Implementation::checkCall(const Execution &execution,
                                          const std::vector<SequenceRun *> &runs) const {
  const Geometry &other = execution.geometry();
  if (other.layers != config.layers || other.queryHeads != config.queryHeads ||
      other.kvHeads != config.kvHeads || other.headDim != config.headDim ||
      other.slidingWindow != config.slidingWindow) {
    auto text = [](int64_t layers, int64_t queryHeads, int64_t kvHeads, int64_t headDim,
                   int64_t window) {
      return "L=" + std::to_string(layers) + " Hq=" + std::to_string(queryHeads) +
             " Hkv=" + std::to_string(kvHeads) + " D=" + std::to_string(headDim) +
             " window=" + std::to_string(window);
    };
    return Status::badInput(
        "method '" + execution.methodName() + "' is compiled for another model: expected " +
        text(config.layers, config.queryHeads, config.kvHeads, config.headDim,
             config.slidingWindow) +
        ", found " +
        text(other.layers, other.queryHeads, other.kvHeads, other.headDim, other.slidingWindow));
  }
  for (const SequenceRun *run : runs) {
    if (!run || !run->sequence) {
      return Status::internal("a run without a sequence was given to the decoder");
    }
  }
  return Status::ok();
}

Status Decoder::Implementation::checkTokens(const int32_t *tokens, int64_t count,
                                            size_t run) const {
  for (int64_t i = 0; i < count; ++i) {
    if (tokens[i] < 0 || tokens[i] >= config.vocabSize) {
      return Status::badInput("token " + std::to_string(i) + " of sequence " + std::to_string(run) +
                              ": expected 0.." + std::to_string(config.vocabSize - 1) + ", found " +
                              std::to_string(tokens[i]));
    }
  }
  return Status::ok();
}

void Decoder::Implementation::reserve(int64_t rows, bool preRopeKeys) {
  int64_t queryWidth = config.queryHeads * config.headDim,
          kvWidth = config.kvHeads * config.headDim;
  grow(residual, rows, config.hiddenSize);
  grow(normed, rows, config.hiddenSize);
  grow(q, rows, queryWidth);
  grow(attention, rows, queryWidth);
  grow(k, rows, kvWidth);
  grow(v, rows, kvWidth);
  if (preRopeKeys) {
    grow(kPre, rows, kvWidth);
  }
  grow(gate, rows, config.intermediateSize);
  grow(up, rows, config.intermediateSize);
}

void Decoder::Implementation::embed(const Pass &pass) {
  int64_t width = config.hiddenSize;
  for (int64_t r = 0; r < pass.rows(); ++r) {
    const float *row = weights->embedding.data + pass.tokens[static_cast<size_t>(r)] * width;
    std::copy(row, row + width, residual.begin() + r * width);
  }
}

void Decoder::Implementation::projectQkv(const LayerWeights &layer, const Pass &pass) {
  int64_t rows = pass.rows();
  rmsNorm(residual.data(), layer.inputNorm, config.rmsNormEps, rows, config.hiddenSize,
          normed.data());
  multiply(normed.data(), rows,
           {{layer.q, layer.qBias, q.data()},
            {layer.k, layer.kBias, k.data()},
            {layer.v, layer.vBias, v.data()}});
  if (config.qkNorm) {
    rmsNorm(q.data(), layer.queryNorm, config.rmsNormEps, rows * config.queryHeads, config.headDim,
            q.data());
    rmsNorm(k.data(), layer.keyNorm, config.rmsNormEps, rows * config.kvHeads, config.headDim,
            k.data());
  }
  if (pass.preRopeKeys) {
    std::copy(k.begin(), k.begin() + rows * config.kvHeads * config.headDim, kPre.begin());
  }
  rope.rotate(q.data(), config.queryHeads);
  rope.rotate(k.data(), config.kvHeads);
}

std::vector<LayerRows> Decoder::Implementation::layerRows(const Pass &pass) {
  int64_t queryWidth = config.queryHeads * config.headDim,
          kvWidth = config.kvHeads * config.headDim;
  std::vector<LayerRows> rows(pass.runs.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    int64_t first = pass.first[i];
    rows[i].rows = pass.count[i];
    rows[i].q = q.data() + first * queryWidth;
    rows[i].k = k.data() + first * kvWidth;
    rows[i].v = v.data() + first * kvWidth;
    rows[i].kPre = pass.preRopeKeys ? kPre.data() + first * kvWidth : nullptr;
    rows[i].positions = pass.positions.data() + first;
    rows[i].ids = pass.tokens.data() + first;
    rows[i].out = attention.data() + first * queryWidth;
  }
  return rows;
}

void Decoder::Implementation::finishLayer(const LayerWeights &layer, int64_t rows) {
  multiply(attention.data(), rows, {{layer.o, layer.oBias, residual.data(), true}});
  rmsNorm(residual.data(), layer.postNorm, config.rmsNormEps, rows, config.hiddenSize,
          normed.data());
  multiply(normed.data(), rows,
           {{layer.gate, layer.gateBias, gate.data()}, {layer.up, layer.upBias, up.data()}});
  swiglu(gate.data(), up.data(), rows, config.intermediateSize);
  multiply(gate.data(), rows, {{layer.down, layer.downBias, residual.data(), true}});
}

Status Decoder::Implementation::forward(Execution &execution, Pass &pass,
                                        const LayerObserver &observer) {
  reserve(pass.rows(), pass.preRopeKeys);
  bool thins = execution.thinsPrompt() && !pass.decode;
  rope.fill(pass.positions, config.ropeInvFreq);
  embed(pass);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const LayerWeights &layerWeights = weights->layers[static_cast<size_t>(layer)];
    projectQkv(layerWeights, pass);
    std::vector<LayerRows> rows = layerRows(pass);
    if (pass.decode) {
      KVCACHE_RETURN_IF_ERROR(execution.decode(layer, pass.sequences, rows));
    } else if (pass.probe) {
      KVCACHE_RETURN_IF_ERROR(execution.probe(layer, pass.sequences, rows));
    } else {
      KVCACHE_RETURN_IF_ERROR(execution.prefill(layer, pass.sequences, rows));
    }
    if (observer) {
      KVCACHE_RETURN_IF_ERROR(observer(layer, pass.runs, rows));
    }
    finishLayer(layerWeights, pass.rows());
    if (thins && layer + 1 < config.layers) {
      KVCACHE_RETURN_IF_ERROR(thin(execution, layer, pass));
    }
  }
  return Status::ok();
}

/// Takes the rows that `layer` does not pass on out of the pass and the residual stream.
Status Decoder::Implementation::thin(const Execution &execution, int64_t layer, Pass &pass) {
  Pass left = pass;
  left.first.clear();
  left.count.clear();
  left.tokens.clear();
  left.positions.clear();
  int64_t width = config.hiddenSize;
  for (size_t i = 0; i < pass.runs.size(); ++i) {
    StatusOr<std::vector<int64_t>> passed = execution.passedRows(layer, *pass.sequences[i]);
    KVCACHE_RETURN_IF_ERROR(passed.status());
    left.first.push_back(left.rows());
    left.count.push_back(static_cast<int64_t>(passed->size()));
    for (int64_t row : *passed) {
      auto source = static_cast<size_t>(pass.first[i] + row);
      auto from = residual.begin() + static_cast<int64_t>(source) * width;
      std::copy(from, from + width,
                residual.begin() + left.rows() * width); // never behind its source
      left.tokens.push_back(pass.tokens[source]);
      left.positions.push_back(pass.positions[source]);
    }
  }
  if (left.rows() < pass.rows()) {
    pass = std::move(left);
    rope.fill(pass.positions, config.ropeInvFreq);
  }
  return Status::ok();
}

/// Logits [rows, V] of some rows of the residual stream; valid until the next
/// call.
const float *Decoder::Implementation::headLogits(const std::vector<int64_t> &rows) {
  int64_t number = static_cast<int64_t>(rows.size()), width = config.hiddenSize;
  grow(selected, number, width);
  grow(logits, number, config.vocabSize);
  for (int64_t i = 0; i < number; ++i) {
    const float *row = residual.data() + rows[static_cast<size_t>(i)] * width;
    std::copy(row, row + width, selected.begin() + i * width);
  }
  rmsNorm(selected.data(), weights->finalNorm, config.rmsNormEps, number, width, selected.data());
  multiply(selected.data(), number, {{weights->head, nullptr, logits.data()}});
  return logits.data();
}

Decoder::Decoder() : implementation_(std::make_unique<Implementation>()) {}
Decoder::~Decoder() = default;

StatusOr<std::unique_ptr<Decoder>> Decoder::load(const std::string &directory) {
  StatusOr<ModelConfig> config = ModelConfig::load(directory);
  if (!config.isOk()) {
    return config.status();
  }
  StatusOr<std::unique_ptr<Weights>> weights = Weights::load(directory, *config);
  if (!weights.isOk()) {
    return weights.status();
  }
  std::unique_ptr<Decoder> decoder(new Decoder());
  decoder->implementation_->config = std::move(*config);
  decoder->implementation_->weights = std::move(*weights);
  return decoder;
}

const ModelConfig &Decoder::config() const { return implementation_->config; }

Geometry Decoder::geometry(ElementType act) const { return implementation_->config.geometry(act); }

Status Decoder::Implementation::startPrefill(const std::vector<SequenceRun *> &runs,
                                             const PrefillOptions &options) const {
  if (options.chunk < 1) {
    return Status::badInput("prefill chunk: expected at least 1 token, found " +
                            std::to_string(options.chunk));
  }
  for (size_t i = 0; i < runs.size(); ++i) {
    int64_t length = static_cast<int64_t>(runs[i]->prompt.size());
    if (length == 0) {
      return Status::badInput("the prompt of sequence " + std::to_string(i) +
                              " is empty: expected at least one token");
    }
    KVCACHE_RETURN_IF_ERROR(checkTokens(runs[i]->prompt.data(), length, i));
    runs[i]->logits.assign(static_cast<size_t>((options.allLogits ? length : 1) * config.vocabSize),
                           0.0f);
  }
  return Status::ok();
}

/// After the forward pass of the chunk at `start`: moves the runs on and stores
/// the logits asked for.
void Decoder::Implementation::finishChunk(const Pass &pass, int64_t start, bool allLogits,
                                          const std::vector<SequenceRun *> &runs) {
  std::vector<int64_t> rows;
  std::vector<float *> targets;
  for (size_t j = 0; j < pass.runs.size(); ++j) {
    SequenceRun &run = *runs[pass.runs[j]];
    run.position += pass.fed[j];
    bool last = start + pass.fed[j] == static_cast<int64_t>(run.prompt.size());
    int64_t wanted = allLogits ? pass.count[j] : (last ? 1 : 0);
    for (int64_t r = pass.count[j] - wanted; r < pass.count[j]; ++r) {
      rows.push_back(pass.first[j] + r);
      targets.push_back(run.logits.data() + (allLogits ? (start + r) * config.vocabSize : 0));
    }
  }
  if (rows.empty()) {
    return;
  }
  const float *result = headLogits(rows);
  for (float *target : targets) {
    std::copy(result, result + config.vocabSize, target);
    result += config.vocabSize;
  }
}

Status Decoder::prefill(Execution &execution, const std::vector<SequenceRun *> &runs,
                        const PrefillOptions &options) {
  Implementation &model = *implementation_;
  KVCACHE_RETURN_IF_ERROR(model.checkCall(execution, runs));
  KVCACHE_RETURN_IF_ERROR(model.startPrefill(runs, options));
  bool thins = execution.thinsPrompt();
  if (thins && options.allLogits) {
    return Status::badInput(
        "method '" + execution.methodName() +
        "' drops rows of the prompt between layers: only the last one has logits");
  }
  int64_t longest = 0;
  for (const SequenceRun *run : runs) {
    longest = std::max(longest, static_cast<int64_t>(run->prompt.size()));
  }
  int64_t chunk = thins ? longest : options.chunk;
  for (int64_t start = 0; start < longest; start += chunk) {
    Pass pass;
    pass.preRopeKeys = options.preRopeKeys || execution.needsPreRopeKeys();
    for (size_t i = 0; i < runs.size(); ++i) {
      int64_t rest = static_cast<int64_t>(runs[i]->prompt.size()) - start;
      if (rest > 0) {
        pass.add(i, *runs[i], runs[i]->prompt.data() + start, std::min(rest, chunk));
      }
    }
    KVCACHE_RETURN_IF_ERROR(model.forward(execution, pass, options.observer));
    model.finishChunk(pass, start, options.allLogits, runs);
  }
  return Status::ok();
}

Status Decoder::secondPass(Execution &execution, const std::vector<SequenceRun *> &runs,
                           const LayerObserver &observer) {
  KVCACHE_RETURN_IF_ERROR(implementation_->checkCall(execution, runs));
  constexpr int64_t chunk = 512;
  int64_t longest = 0;
  for (const SequenceRun *run : runs) {
    longest = std::max(longest, static_cast<int64_t>(run->prompt.size()));
  }
  for (int64_t start = 0; start < longest; start += chunk) {
    Pass pass;
    pass.probe = true;
    pass.preRopeKeys = execution.needsPreRopeKeys();
    for (size_t i = 0; i < runs.size(); ++i) {
      int64_t rest = static_cast<int64_t>(runs[i]->prompt.size()) - start;
      if (rest > 0) {
        pass.add(i, *runs[i], runs[i]->prompt.data() + start, std::min(rest, chunk), start);
      }
    }
    KVCACHE_RETURN_IF_ERROR(implementation_->forward(execution, pass, observer));
  }
  return Status::ok();
}

static std::vector<Sequence *> sequencesOf(const std::vector<SequenceRun *> &runs) {
  std::vector<Sequence *> sequences;
  for (const SequenceRun *run : runs) {
    sequences.push_back(run->sequence);
  }
  return sequences;
}

Status Decoder::promptEnd(Execution &execution, const std::vector<SequenceRun *> &runs) {
  KVCACHE_RETURN_IF_ERROR(implementation_->checkCall(execution, runs));
  if (execution.needsProbe()) {
    KVCACHE_RETURN_IF_ERROR(secondPass(execution, runs));
  }
  if (execution.draftSteps() > 0) {
    KVCACHE_RETURN_IF_ERROR(draftAnswers(*this, execution, runs));
  }
  return execution.promptEnd(sequencesOf(runs));
}

Status Decoder::step(Execution &execution, const std::vector<SequenceRun *> &runs,
                     const int32_t *tokens, float *logits, const LayerObserver &observer) {
  Implementation &model = *implementation_;
  KVCACHE_RETURN_IF_ERROR(model.checkCall(execution, runs));
  if (runs.empty()) {
    return Status::ok();
  }
  Pass pass;
  pass.decode = true;
  pass.preRopeKeys = execution.needsPreRopeKeys();
  std::vector<int64_t> rows;
  for (size_t i = 0; i < runs.size(); ++i) {
    KVCACHE_RETURN_IF_ERROR(model.checkTokens(tokens + i, 1, i));
    pass.add(i, *runs[i], tokens + i, 1);
    rows.push_back(static_cast<int64_t>(i));
  }
  KVCACHE_RETURN_IF_ERROR(model.forward(execution, pass, observer));
  KVCACHE_RETURN_IF_ERROR(execution.stepEnd(pass.sequences));
  const float *result = model.headLogits(rows);
  int64_t vocab = model.config.vocabSize;
  for (size_t i = 0; i < runs.size(); ++i) {
    const float *row = result + static_cast<int64_t>(i) * vocab;
    runs[i]->position += 1;
    runs[i]->logits.assign(row, row + vocab);
  }
  if (logits) {
    std::copy(result, result + static_cast<int64_t>(runs.size()) * vocab, logits);
  }
  return Status::ok();
}

} // namespace kvcache::rt
