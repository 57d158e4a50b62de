// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The events of one sequence, in the order that rt::Execution states. Rows go in by chunks, as a
// decoder feeds them.

#include "tools/commands/ApplyMethod.h"

#include <algorithm>
#include <numeric>

namespace kvcache::tools {

using rt::Execution;
using rt::LayerRows;
using rt::Sequence;
using rt::Status;
using rt::StatusOr;

namespace {

constexpr int64_t chunkRows = 512;

/// The rows of one event of one layer, and what they point into.
struct OwnedRows {
  std::vector<float> q, k, v, kPre, out;
  LayerRows rows;
};

/// Lets the rows of an event, which start at row `first` of the file, point to what is there.
void point(OwnedRows &owned, int64_t count, const CacheFile &file, int64_t first) {
  owned.rows.rows = count;
  owned.rows.q = owned.q.empty() ? nullptr : owned.q.data();
  owned.rows.k = owned.k.data();
  owned.rows.v = owned.v.data();
  owned.rows.kPre = owned.kPre.empty() ? nullptr : owned.kPre.data();
  owned.rows.positions = file.positions().data() + first;
  owned.rows.ids = file.ids().empty() ? nullptr : file.ids().data() + first;
  owned.rows.out = owned.out.empty() ? nullptr : owned.out.data();
}

/// The rows `at` of some rows [rows, width].
std::vector<float> chosen(const std::vector<float> &rows, const std::vector<int64_t> &at,
                          int64_t width) {
  std::vector<float> result;
  for (int64_t row : rows.empty() ? std::vector<int64_t>() : at) {
    result.insert(result.end(), rows.begin() + row * width, rows.begin() + (row + 1) * width);
  }
  return result;
}

/// A prompt that thins out: each layer gets, of the rows of the file, those that the one before it
/// passes on.
Status ingestThinning(Execution &execution, const CacheFile &file, Sequence *sequence) {
  const rt::Geometry &g = file.geometry();
  std::vector<int64_t> entering(static_cast<size_t>(file.tokens()));
  std::iota(entering.begin(), entering.end(), 0);
  for (int64_t layer = 0; layer < g.layers; ++layer) {
    OwnedRows owned;
    owned.k = chosen(file.rows(layer, "k", 0, file.tokens()), entering, g.kvHeads * g.headDim);
    owned.v = chosen(file.rows(layer, "v", 0, file.tokens()), entering, g.kvHeads * g.headDim);
    int64_t count = static_cast<int64_t>(entering.size()), needed = execution.neededQueryRows();
    if (needed != 0) {
      int64_t first = needed < 0 ? 0 : std::max<int64_t>(0, count - needed);
      KVCACHE_RETURN_IF_ERROR(file.checkQueryRows(
          file.tokens() - entering[static_cast<size_t>(first)], execution.methodName()));
      owned.q =
          chosen(file.promptQueries(layer, 0, file.tokens()), entering, g.queryHeads * g.headDim);
    }
    if (execution.needsPreRopeKeys()) {
      owned.kPre =
          chosen(file.preRopeKeys(layer, false, 0, file.tokens()), entering, g.kvHeads * g.headDim);
    }
    point(owned, count, file, 0);
    std::vector<int32_t> positions, ids;
    for (int64_t row : entering) {
      positions.push_back(file.positions()[static_cast<size_t>(row)]);
      ids.push_back(file.ids().empty() ? 0 : file.ids()[static_cast<size_t>(row)]);
    }
    owned.rows.positions = positions.data();
    owned.rows.ids = file.ids().empty() ? nullptr : ids.data();
    KVCACHE_RETURN_IF_ERROR(execution.ingest(layer, {sequence}, {owned.rows}));
    StatusOr<std::vector<int64_t>> passed = execution.passedRows(layer, *sequence);
    KVCACHE_RETURN_IF_ERROR(passed.status());
    for (int64_t &row : *passed) {
      row = entering[static_cast<size_t>(row)];
    }
    entering = std::move(*passed);
  }
  return Status::ok();
}

Status ingestPrompt(Execution &execution, const CacheFile &file, Sequence *sequence) {
  if (execution.thinsPrompt()) {
    return ingestThinning(execution, file, sequence);
  }
  for (int64_t first = 0; first < file.tokens(); first += chunkRows) {
    int64_t count = std::min(chunkRows, file.tokens() - first);
    for (int64_t layer = 0; layer < file.geometry().layers; ++layer) {
      OwnedRows owned;
      owned.k = file.rows(layer, "k", first, count);
      owned.v = file.rows(layer, "v", first, count);
      if (execution.neededQueryRows() != 0) {
        owned.q = file.promptQueries(layer, first, count);
      }
      if (execution.needsPreRopeKeys()) {
        owned.kPre = file.preRopeKeys(layer, false, first, count);
      }
      point(owned, count, file, first);
      KVCACHE_RETURN_IF_ERROR(execution.ingest(layer, {sequence}, {owned.rows}));
    }
  }
  return Status::ok();
}

/// The rows of a second pass. The file has no values of theirs: what they attend to reaches no
/// result.
Status probePrompt(Execution &execution, const CacheFile &file, Sequence *sequence) {
  const rt::Geometry &g = file.geometry();
  std::vector<int32_t> positions;
  for (int64_t row = 0; row < file.taskRows(); ++row) {
    positions.push_back(file.positions()[static_cast<size_t>(file.tokens() - 1)] + 1 +
                        static_cast<int32_t>(row));
  }
  for (int64_t first = 0; first < file.taskRows(); first += chunkRows) {
    int64_t count = std::min(chunkRows, file.taskRows() - first);
    for (int64_t layer = 0; layer < g.layers; ++layer) {
      OwnedRows owned;
      owned.q = file.rows(layer, "task.q", first, count);
      owned.k = file.rows(layer, "task.k", first, count);
      owned.v.resize(owned.k.size());
      owned.out.resize(owned.q.size());
      point(owned, count, file, 0);
      owned.rows.positions = positions.data() + first;
      KVCACHE_RETURN_IF_ERROR(execution.probe(layer, {sequence}, {owned.rows}));
    }
  }
  return Status::ok();
}

/// Queries of drafted tokens, where the file has some.
Status giveDraft(Execution &execution, const CacheFile &file, Sequence *sequence) {
  int64_t rows = std::min(file.draftRows(), execution.draftSteps());
  for (int64_t layer = 0; rows > 0 && layer < file.geometry().layers; ++layer) {
    std::vector<float> q = file.rows(layer, "rollout.q", 0, rows);
    KVCACHE_RETURN_IF_ERROR(execution.setDraftQueries(layer, *sequence, rows, q.data()));
  }
  return Status::ok();
}

/// Moves rows [count, H, D] to [H, N, D], rows `first` and up.
void placeByHead(const std::vector<float> &rows, int64_t first, int64_t count, int64_t heads,
                 int64_t all, int64_t width, std::vector<float> &to) {
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      auto from = rows.begin() + (row * heads + head) * width;
      std::copy(from, from + width, to.begin() + (head * all + first + row) * width);
    }
  }
}

Status runSteps(Execution &execution, const CacheFile &file, Sequence *sequence,
                ApplyResult &result) {
  const rt::Geometry &g = file.geometry();
  for (LayerResult &layer : result.layers) {
    layer.stepOut.resize(static_cast<size_t>(g.queryHeads * file.steps() * g.headDim));
  }
  for (int64_t step = 0; step < file.steps(); ++step) {
    for (int64_t layer = 0; layer < g.layers; ++layer) {
      OwnedRows owned;
      owned.q = file.rows(layer, "step.q", step, 1);
      owned.k = file.rows(layer, "step.k", step, 1);
      owned.v = file.rows(layer, "step.v", step, 1);
      owned.out.resize(owned.q.size());
      if (execution.needsPreRopeKeys()) {
        owned.kPre = file.preRopeKeys(layer, true, step, 1);
      }
      point(owned, 1, file, file.tokens() + step);
      KVCACHE_RETURN_IF_ERROR(execution.decode(layer, {sequence}, {owned.rows}));
      placeByHead(owned.out, step, 1, g.queryHeads, file.steps(), g.headDim,
                  result.layers[layer].stepOut);
    }
    KVCACHE_RETURN_IF_ERROR(execution.stepEnd({sequence}));
  }
  return Status::ok();
}

Status attendQueries(Execution &execution, const CacheFile &file, const Sequence &sequence,
                     ApplyResult &result) {
  const rt::Geometry &g = file.geometry();
  int64_t rows = file.attendRows();
  for (int64_t layer = 0; layer < g.layers; ++layer) {
    std::vector<float> q = file.rows(layer, "queries", 0, rows), out(q.size()),
                       lse(static_cast<size_t>(rows * g.queryHeads));
    KVCACHE_RETURN_IF_ERROR(
        execution.attend(layer, sequence, rows, q.data(), out.data(), lse.data()));
    LayerResult &to = result.layers[layer];
    to.out.resize(out.size());
    to.lse.resize(lse.size());
    placeByHead(out, 0, rows, g.queryHeads, rows, g.headDim, to.out);
    placeByHead(lse, 0, rows, g.queryHeads, rows, 1, to.lse);
  }
  return Status::ok();
}

/// What a reader of the layer sees; `scoresOnly` keeps the ranked scores and drops the rest.
Status readLayer(const Sequence &sequence, const CacheFile &file, int64_t layer, bool scoresOnly,
                 LayerResult &result) {
  if (!scoresOnly) {
    result.heads.clear();
  }
  int64_t heads = static_cast<int64_t>(sequence.report(layer).keptRows.size());
  for (int64_t head = 0; head < heads; ++head) {
    StatusOr<rt::HeadContents> contents = sequence.contents(layer, head);
    KVCACHE_RETURN_IF_ERROR(contents.status());
    if (scoresOnly) {
      bool ofPrompt = static_cast<int64_t>(contents->scores.size()) == file.tokens();
      result.scores.push_back(ofPrompt ? std::move(contents->scores) : std::vector<float>());
    } else {
      result.heads.push_back(std::move(*contents));
    }
  }
  return Status::ok();
}

StatusOr<std::unique_ptr<Sequence>> compressPrompt(Execution &execution, const CacheFile &file,
                                                   int64_t budget) {
  rt::SequenceOptions options;
  options.budget = budget;
  options.requests = file.requests();
  StatusOr<std::unique_ptr<Sequence>> sequence = execution.createSequence(options);
  KVCACHE_RETURN_IF_ERROR(sequence.status());
  KVCACHE_RETURN_IF_ERROR(ingestPrompt(execution, file, sequence->get()));
  if (execution.needsProbe()) {
    KVCACHE_RETURN_IF_ERROR(file.checkTaskRows(execution.methodName()));
    KVCACHE_RETURN_IF_ERROR(probePrompt(execution, file, sequence->get()));
  }
  KVCACHE_RETURN_IF_ERROR(giveDraft(execution, file, sequence->get()));
  KVCACHE_RETURN_IF_ERROR(execution.promptEnd({sequence->get()}));
  return sequence;
}

} // namespace

Status calibrate(Execution &execution, const CacheFile &from) {
  const rt::Geometry &g = execution.geometry(), &given = from.geometry();
  if (given.layers != g.layers || given.kvHeads != g.kvHeads || given.headDim != g.headDim) {
    return Status::badInput(
        from.path() + ": layers.0.k: expected the geometry of the input, L=" +
        std::to_string(g.layers) + ", Hkv=" + std::to_string(g.kvHeads) +
        ", D=" + std::to_string(g.headDim) + ", got L=" + std::to_string(given.layers) +
        ", Hkv=" + std::to_string(given.kvHeads) + ", D=" + std::to_string(given.headDim));
  }
  for (int64_t layer = 0; layer < g.layers; ++layer) {
    OwnedRows owned;
    owned.k = from.rows(layer, "k", 0, from.tokens());
    owned.v = from.rows(layer, "v", 0, from.tokens());
    if (from.queryRows() > 0 && given.queryHeads == g.queryHeads) {
      owned.q = from.promptQueries(layer, 0, from.tokens());
    }
    point(owned, from.tokens(), from, 0);
    KVCACHE_RETURN_IF_ERROR(execution.calibrate(layer, owned.rows));
  }
  return execution.finishCalibration();
}

StatusOr<ApplyResult> applyMethod(Execution &execution, const CacheFile &file, const Budget &budget,
                                  bool attend) {
  KVCACHE_RETURN_IF_ERROR(file.checkQueryRows(execution.neededQueryRows(), execution.methodName()));
  if (execution.needsPreRopeKeys()) {
    KVCACHE_RETURN_IF_ERROR(file.checkPreRopeKeys());
  }
  ApplyResult result;
  auto bytes = [&](int64_t tokens) -> StatusOr<int64_t> {
    StatusOr<std::unique_ptr<Sequence>> sequence = compressPrompt(execution, file, tokens);
    KVCACHE_RETURN_IF_ERROR(sequence.status());
    return proveCompression(**sequence, file.geometry()).bytesMeasured;
  };
  StatusOr<int64_t> tokens = resolveBudget(budget, execution, file.tokens(), bytes);
  KVCACHE_RETURN_IF_ERROR(tokens.status());
  result.budget = *tokens;
  StatusOr<std::unique_ptr<Sequence>> sequence = compressPrompt(execution, file, result.budget);
  KVCACHE_RETURN_IF_ERROR(sequence.status());
  result.layers.resize(static_cast<size_t>(file.geometry().layers));
  for (int64_t layer = 0; layer < file.geometry().layers; ++layer) {
    KVCACHE_RETURN_IF_ERROR(readLayer(**sequence, file, layer, true, result.layers[layer]));
  }
  KVCACHE_RETURN_IF_ERROR(runSteps(execution, file, sequence->get(), result));
  for (int64_t layer = 0; layer < file.geometry().layers; ++layer) {
    KVCACHE_RETURN_IF_ERROR(readLayer(**sequence, file, layer, false, result.layers[layer]));
  }
  result.proof = proveCompression(**sequence, file.geometry());
  if (attend) {
    KVCACHE_RETURN_IF_ERROR(attendQueries(execution, file, **sequence, result));
  }
  return result;
}

} // namespace kvcache::tools
