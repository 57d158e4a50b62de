// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The oracle of the decoder's tests: dense causal attention in double over f32
// rows kept in vectors, nothing paged, coded or shared. Written to be read, not
// to be fast.

#pragma once

#include "runtime/Execution.h"
#include "runtime/parallel/Parallel.h"

#include <cmath>
#include <limits>

namespace kvcache::test {

class PlainSequence : public rt::Sequence {
public:
  explicit PlainSequence(int64_t layers) : k(layers), v(layers), positions(layers) {}

  std::unique_ptr<rt::Sequence> fork() const override {
    return std::make_unique<PlainSequence>(*this);
  }
  rt::LayerReport report(int64_t) const override { return {}; }
  rt::StatusOr<rt::HeadContents> contents(int64_t, int64_t) const override {
    return rt::Status::internal("the oracle shows no contents");
  }
  int64_t length() const override { return static_cast<int64_t>(positions.back().size()); }

  std::vector<std::vector<float>> k, v; ///< per layer [rows, Hkv, D]
  std::vector<std::vector<int32_t>> positions;
  bool ended = false;
};

class PlainAttention : public rt::Execution {
public:
  explicit PlainAttention(rt::Geometry geometry) : geometry_(std::move(geometry)) {}

  const rt::Geometry &geometry() const override { return geometry_; }
  std::string methodName() const override { return "plain"; }
  std::string methodHash() const override { return "plain"; }
  std::string target() const override { return "test"; }
  std::map<std::string, std::string> parameters() const override { return {}; }
  bool hasTokenBudget() const override { return false; }
  std::string budgetRefusal() const override { return "it keeps everything"; }
  int64_t neededQueryRows() const override { return queryRows; }
  bool needsPreRopeKeys() const override { return preRopeKeys; }
  bool needsCalibration() const override { return false; }
  rt::Status calibrate(int64_t, const rt::LayerRows &) override { return rt::Status::ok(); }
  rt::Status finishCalibration() override { return rt::Status::ok(); }

  rt::StatusOr<std::unique_ptr<rt::Sequence>> createSequence(const rt::SequenceOptions &) override {
    return std::unique_ptr<rt::Sequence>(new PlainSequence(geometry_.layers));
  }

  rt::Status prefill(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                     const std::vector<rt::LayerRows> &rows) override {
    return appendAll(layer, sequences, rows, true);
  }
  rt::Status ingest(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                    const std::vector<rt::LayerRows> &rows) override {
    return appendAll(layer, sequences, rows, false);
  }
  rt::Status promptEnd(const std::vector<rt::Sequence *> &sequences) override {
    for (rt::Sequence *sequence : sequences) {
      static_cast<PlainSequence *>(sequence)->ended = true;
    }
    return rt::Status::ok();
  }
  rt::Status decode(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                    const std::vector<rt::LayerRows> &rows) override {
    for (rt::Sequence *sequence : sequences) {
      if (!static_cast<PlainSequence *>(sequence)->ended) {
        return rt::Status::internal("decode before promptEnd");
      }
    }
    return appendAll(layer, sequences, rows, true);
  }
  rt::Status stepEnd(const std::vector<rt::Sequence *> &) override {
    ++steps;
    return rt::Status::ok();
  }
  rt::Status attend(int64_t, const rt::Sequence &, int64_t, const float *, float *,
                    float *) override {
    return rt::Status::internal("the oracle attends in prefill and decode only");
  }
  std::vector<rt::KernelReport> kernels() const override { return {}; }

  int64_t queryRows = 0;    ///< what neededQueryRows() answers
  bool preRopeKeys = false; ///< what needsPreRopeKeys() answers
  int64_t steps = 0;        ///< stepEnd calls so far

private:
  rt::Status appendAll(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                       const std::vector<rt::LayerRows> &rows, bool attends) {
    for (size_t i = 0; i < sequences.size(); ++i) {
      auto &sequence = *static_cast<PlainSequence *>(sequences[i]);
      int64_t width = rows[i].rows * geometry_.kvHeads * geometry_.headDim;
      sequence.k[layer].insert(sequence.k[layer].end(), rows[i].k, rows[i].k + width);
      sequence.v[layer].insert(sequence.v[layer].end(), rows[i].v, rows[i].v + width);
      sequence.positions[layer].insert(sequence.positions[layer].end(), rows[i].positions,
                                       rows[i].positions + rows[i].rows);
      if (attends) {
        rt::parallelFor(rows[i].rows * geometry_.queryHeads, [&](int64_t task) {
          attendRow(sequence, layer, rows[i], task / geometry_.queryHeads,
                    task % geometry_.queryHeads);
        });
      }
    }
    return rt::Status::ok();
  }

protected:
  /// softmax(q k / sqrt(D)) v over keys at positions p with p <= query position
  /// < p + window.
  void attendRow(const PlainSequence &sequence, int64_t layer, const rt::LayerRows &rows,
                 int64_t row, int64_t head) const {
    int64_t width = geometry_.headDim, kvHead = head / (geometry_.queryHeads / geometry_.kvHeads);
    const float *query = rows.q + (row * geometry_.queryHeads + head) * width;
    int32_t position = rows.positions[row];
    const std::vector<int32_t> &positions = sequence.positions[layer];
    std::vector<double> scores(positions.size(), -std::numeric_limits<double>::infinity());
    double largest = -std::numeric_limits<double>::infinity();
    for (size_t t = 0; t < positions.size(); ++t) {
      bool outside =
          geometry_.slidingWindow > 0 && position - positions[t] >= geometry_.slidingWindow;
      if (positions[t] > position || outside) {
        continue;
      }
      const float *key = sequence.k[layer].data() + (t * geometry_.kvHeads + kvHead) * width;
      double dot = 0;
      for (int64_t d = 0; d < width; ++d) {
        dot += double(query[d]) * key[d];
      }
      scores[t] = dot / std::sqrt(double(width));
      largest = std::max(largest, scores[t]);
    }
    std::vector<double> sum(width, 0.0);
    double total = 0;
    for (size_t t = 0; t < positions.size(); ++t) {
      double p = std::exp(scores[t] - largest);
      total += p;
      const float *value = sequence.v[layer].data() + (t * geometry_.kvHeads + kvHead) * width;
      for (int64_t d = 0; p > 0 && d < width; ++d) {
        sum[d] += p * value[d];
      }
    }
    float *out = rows.out + (row * geometry_.queryHeads + head) * width;
    for (int64_t d = 0; d < width; ++d) {
      out[d] = static_cast<float>(sum[d] / total);
    }
  }

private:
  rt::Geometry geometry_;
};

} // namespace kvcache::test
