// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Fills caches and calls kernels. Invariant: a variant never exists without the correctness of the
// same kernels on the same kind of data beside it.

#include "tools/commands/AttendVariant.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>

namespace kvcache::tools {

using namespace rt;

namespace {

constexpr int64_t chunkRows = 1024;
constexpr int64_t checkedRows = 512;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Rows of the cache: uniform values, some channels larger, as keys have them. Cheap, because there
/// are many.
struct Rows {
  std::vector<float> q, k, v;
  std::vector<int32_t> positions;

  void fill(std::mt19937_64 &generator, int64_t first, int64_t rows, const Geometry &g) {
    auto random = [&](std::vector<float> &values, int64_t heads) {
      values.resize(static_cast<size_t>(rows * heads * g.headDim));
      for (size_t i = 0; i + 1 < values.size(); i += 2) {
        uint64_t bits = generator();
        values[i] = static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-31F;
        values[i + 1] = static_cast<float>(static_cast<int32_t>(bits >> 32)) * 0x1p-31F;
      }
    };
    random(q, g.queryHeads);
    random(k, g.kvHeads);
    random(v, g.kvHeads);
    positions.resize(static_cast<size_t>(rows));
    for (int64_t i = 0; i < rows; ++i) {
      positions[static_cast<size_t>(i)] = static_cast<int32_t>(first + i);
    }
  }
  LayerRows view(int64_t rows) const {
    LayerRows result;
    result.rows = rows;
    result.q = q.data();
    result.k = k.data();
    result.kPre = k.data();
    result.v = v.data();
    result.positions = positions.data();
    return result;
  }
};

StatusOr<std::unique_ptr<Sequence>> filledSequence(Execution &execution, int64_t rows,
                                                   uint64_t seed) {
  SequenceOptions options;
  options.budget = execution.hasTokenBudget() ? rows : -1;
  auto sequence = execution.createSequence(options);
  KVCACHE_RETURN_IF_ERROR(sequence.status());
  std::mt19937_64 generator(seed);
  Rows chunk;
  for (int64_t first = 0; first < rows; first += chunkRows) {
    int64_t count = std::min(chunkRows, rows - first);
    chunk.fill(generator, first, count, execution.geometry());
    KVCACHE_RETURN_IF_ERROR(execution.ingest(0, {sequence->get()}, {chunk.view(count)}));
  }
  KVCACHE_RETURN_IF_ERROR(execution.promptEnd({sequence->get()}));
  return sequence;
}

/// Relative L2 of attention over `checkedRows` rows against double precision over what a reader
/// sees.
StatusOr<double> errorOf(Execution &execution, uint64_t seed) {
  const Geometry &g = execution.geometry();
  auto sequence = filledSequence(execution, checkedRows, seed);
  KVCACHE_RETURN_IF_ERROR(sequence.status());
  std::mt19937_64 generator(seed + 1);
  Rows probe;
  probe.fill(generator, 0, 1, g);
  std::vector<float> out(probe.q.size());
  KVCACHE_RETURN_IF_ERROR(execution.attend(0, **sequence, 1, probe.q.data(), out.data(), nullptr));
  double difference = 0, size = 0;
  for (int64_t head = 0; head < g.queryHeads; ++head) {
    auto contents = (*sequence)->contents(0, head / (g.queryHeads / g.kvHeads));
    KVCACHE_RETURN_IF_ERROR(contents.status());
    size_t n = contents->positions.size(), dim = static_cast<size_t>(g.headDim);
    const float *q = probe.q.data() + head * g.headDim;
    std::vector<double> p(n), expected(dim, 0.0);
    double largest = -INFINITY, sum = 0;
    for (size_t t = 0; t < n; ++t) {
      double dot = 0;
      for (size_t d = 0; d < dim; ++d) {
        dot += double(q[d]) * double(contents->k[t * dim + d]);
      }
      p[t] = dot / std::sqrt(double(dim));
      largest = std::max(largest, p[t]);
    }
    for (double &value : p) {
      value = std::exp(value - largest);
      sum += value;
    }
    for (size_t t = 0; t < n; ++t) {
      for (size_t d = 0; d < dim; ++d) {
        expected[d] += p[t] / sum * double(contents->v[t * dim + d]);
      }
    }
    for (size_t d = 0; d < dim; ++d) {
      double e = double(out[static_cast<size_t>(head) * dim + d]) - expected[d];
      difference += e * e;
      size += expected[d] * expected[d];
    }
  }
  return std::sqrt(difference / size);
}

/// What a column of `bits` in all holds. `coded` and `headRows` are those of one head: heads hold
/// the same layout, so its shares are those of all.
StoredValues storedValues(const CodedRows &coded, int64_t headRows, double bits, int64_t allRows,
                          int64_t headDim) {
  StoredValues stored;
  double values = static_cast<double>(allRows * headDim);
  stored.bitsEach = bits / values;
  if (coded.codes.empty()) {
    stored.exact = static_cast<int64_t>(std::min(bits / 16, values));
    return stored;
  }
  double heads = static_cast<double>(allRows) / static_cast<double>(headRows);
  double codes = static_cast<double>(coded.codes.size());
  stored.codes = static_cast<int64_t>(heads * codes);
  stored.codeBits = static_cast<int>(static_cast<double>(coded.packed.size()) * 8 / codes);
  stored.exact =
      static_cast<int64_t>(heads * static_cast<double>((headRows - coded.rows) * headDim));
  return stored;
}

Status calibrate(Execution &execution, uint64_t seed) {
  std::mt19937_64 generator(seed);
  Rows rows;
  rows.fill(generator, 0, 2 * chunkRows, execution.geometry());
  KVCACHE_RETURN_IF_ERROR(execution.calibrate(0, rows.view(2 * chunkRows)));
  return execution.finishCalibration();
}

} // namespace

StatusOr<std::unique_ptr<AttendVariant>> AttendVariant::create(MethodProvider &provider,
                                                               const MethodRequest &request,
                                                               const CacheContents &contents) {
  auto execution = provider.load(request);
  KVCACHE_RETURN_IF_ERROR(execution.status());
  std::unique_ptr<AttendVariant> variant(new AttendVariant());
  variant->execution_ = std::move(*execution);
  Execution &loaded = *variant->execution_;
  if (loaded.needsCalibration()) {
    KVCACHE_RETURN_IF_ERROR(calibrate(loaded, contents.seed + 2));
  }
  double kept = static_cast<double>(contents.tokens) * contents.kept;
  variant->rows_ =
      loaded.hasTokenBudget() ? std::max<int64_t>(1, static_cast<int64_t>(kept)) : contents.tokens;
  auto filled = filledSequence(loaded, variant->rows_, contents.seed);
  KVCACHE_RETURN_IF_ERROR(filled.status());
  variant->filled_ = std::move(*filled);
  LayerReport report = variant->filled_->report(0);
  variant->needBytes_ = static_cast<int64_t>((report.bitsK + report.bitsV) / 8);
  int64_t allRows = std::accumulate(report.keptRows.begin(), report.keptRows.end(), int64_t(0));
  auto head = variant->filled_->contents(0, 0);
  KVCACHE_RETURN_IF_ERROR(head.status());
  int64_t headRows = static_cast<int64_t>(head->positions.size());
  int64_t headDim = request.geometry.headDim;
  variant->keys_ = storedValues(head->codedK, headRows, report.bitsK, allRows, headDim);
  variant->values_ = storedValues(head->codedV, headRows, report.bitsV, allRows, headDim);
  auto error = errorOf(loaded, contents.seed + 3);
  KVCACHE_RETURN_IF_ERROR(error.status());
  variant->maxError_ = *error;
  return variant;
}

Status AttendVariant::makeCopies(int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    std::unique_ptr<Sequence> copy = filled_->fork();
    if (!copy) {
      copies_.clear();
      return Status::unavailable(
          fmt::format("no memory for {} caches of method '{}'", count, execution_->methodName()));
    }
    copies_.push_back(std::move(copy));
  }
  return Status::ok();
}

StatusOr<double> AttendVariant::attend(const float *q, float *out) {
  double start = now();
  for (const std::unique_ptr<Sequence> &copy : copies_) {
    KVCACHE_RETURN_IF_ERROR(execution_->attend(0, *copy, 1, q, out, nullptr));
  }
  return now() - start;
}

std::vector<float> randomQuery(const Geometry &geometry, uint64_t seed) {
  std::mt19937_64 generator(seed);
  Rows query;
  query.fill(generator, 0, 1, geometry);
  return query.q;
}

} // namespace kvcache::tools
