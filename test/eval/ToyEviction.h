// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A method for the tests of the evaluator, without a compiler: plain attention that keeps the first
// rows and the newest ones at the end of the prompt. Rows are counted as f16.

#pragma once

#include "test/model/PlainAttention.h"

#include <algorithm>

namespace kvcache::test {

class ToySequence : public PlainSequence {
public:
  ToySequence(const rt::Geometry &geometry, int64_t budget, int64_t extraBytes)
      : PlainSequence(geometry.layers), budget(budget), geometry_(geometry),
        extraBytes_(extraBytes) {}

  std::unique_ptr<rt::Sequence> fork() const override {
    return std::make_unique<ToySequence>(*this);
  }
  rt::LayerReport report(int64_t layer) const override {
    int64_t rows = positions[layer].size(), width = geometry_.kvHeads * geometry_.headDim;
    rt::LayerReport report;
    report.keptRows.assign(geometry_.kvHeads, rows);
    report.bytesClaimed = 4.0 * rows * width;
    report.bytesMeasured = 4 * rows * width + extraBytes_;
    report.bytesOnePage = 64;
    report.bitsK = report.bitsV = 16.0 * rows * width;
    report.readBytesPerToken = 4 * rows * width;
    return report;
  }

  int64_t budget;

private:
  rt::Geometry geometry_;
  int64_t extraBytes_;
};

class ToyEviction : public PlainAttention {
public:
  /// Without eviction it is dense.
  ToyEviction(rt::Geometry geometry, bool evicts, int64_t extraBytes = 0)
      : PlainAttention(std::move(geometry)), evicts_(evicts), extraBytes_(extraBytes) {}

  std::string methodName() const override { return evicts_ ? "toy" : "dense"; }
  std::string methodHash() const override { return methodName(); }
  bool hasTokenBudget() const override { return evicts_; }

  rt::StatusOr<std::unique_ptr<rt::Sequence>>
  createSequence(const rt::SequenceOptions &options) override {
    return std::unique_ptr<rt::Sequence>(new ToySequence(geometry(), options.budget, extraBytes_));
  }
  /// As the executions of methods do: queries are there or the method needs none.
  rt::Status ingest(int64_t layer, const std::vector<rt::Sequence *> &sequences,
                    const std::vector<rt::LayerRows> &rows) override {
    if (queryRows != 0 && !rows.front().q) {
      return rt::Status::badInput("no queries given");
    }
    return PlainAttention::ingest(layer, sequences, rows);
  }
  rt::Status promptEnd(const std::vector<rt::Sequence *> &sequences) override {
    ++promptEnds;
    for (rt::Sequence *each : sequences) {
      auto &sequence = static_cast<ToySequence &>(*each);
      int64_t rows = sequence.positions[0].size();
      for (int64_t layer = 0; evicts_ && layer < geometry().layers; ++layer) {
        int64_t sinks = std::min<int64_t>(4, sequence.budget);
        int64_t dropped = std::max<int64_t>(0, rows - sequence.budget);
        int64_t width = geometry().kvHeads * geometry().headDim;
        drop(sequence.k[layer], sinks * width, dropped * width);
        drop(sequence.v[layer], sinks * width, dropped * width);
        drop(sequence.positions[layer], sinks, dropped);
      }
    }
    return PlainAttention::promptEnd(sequences);
  }
  /// Every row that is kept is in the past of a query of the current step.
  rt::Status attend(int64_t layer, const rt::Sequence &sequence, int64_t rows, const float *q,
                    float *out, float *) override {
    std::vector<int32_t> positions(rows, std::numeric_limits<int32_t>::max());
    rt::LayerRows queries;
    queries.rows = rows;
    queries.q = q;
    queries.positions = positions.data();
    queries.out = out;
    for (int64_t task = 0; task < rows * geometry().queryHeads; ++task) {
      attendRow(static_cast<const ToySequence &>(sequence), layer, queries,
                task / geometry().queryHeads, task % geometry().queryHeads);
    }
    return rt::Status::ok();
  }

  int64_t promptEnds = 0; ///< calls so far

private:
  template <typename T>
  static void drop(std::vector<T> &values, int64_t first, int64_t count) {
    values.erase(values.begin() + first, values.begin() + first + count);
  }

  bool evicts_;
  int64_t extraBytes_;
};

} // namespace kvcache::test
