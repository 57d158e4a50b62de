// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Fills caches, times calls, judges ratios. Invariant: a figure never leaves here without the
// correctness of the same kernels on the same kind of data beside it.

#include "tools/commands/AttendBench.h"

#include "runtime/parallel/Parallel.h"
#include "tools/commands/HostInfo.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>

namespace kvcache::tools {

using namespace rt;

namespace {

constexpr int64_t chunkRows = 1024;
constexpr int64_t checkedRows = 512;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double medianOf(std::vector<double> values) {
  if (values.empty()) {
    return 0;
  }
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

/// Median and the 2.5 % and 97.5 % quantiles of the medians of 1000 resamples, from a fixed seed.
Interval bootstrap(const std::vector<double> &values) {
  std::mt19937_64 generator(7);
  std::vector<double> medians, sample(values.size());
  for (int i = 0; i < 1000; ++i) {
    for (double &value : sample) {
      value = values[generator() % values.size()];
    }
    medians.push_back(medianOf(sample));
  }
  std::sort(medians.begin(), medians.end());
  return {medianOf(values), medians[25], medians[974]};
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

/// One method and the caches its calls go through.
struct Variant {
  std::unique_ptr<Execution> execution;
  std::vector<std::unique_ptr<Sequence>> sequences;
  size_t next = 0;
  int64_t rows = 0, needBytes = 0;
  std::vector<double> seconds;

  Status call(const float *q, float *out) {
    Sequence &sequence = *sequences[next++ % sequences.size()];
    double start = now();
    KVCACHE_RETURN_IF_ERROR(execution->attend(0, sequence, 1, q, out, nullptr));
    seconds.push_back(now() - start);
    return Status::ok();
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

} // namespace

const char *AttendMeasurement::verdict() const {
  return ratio.high < 1 ? "faster" : ratio.low > 1 ? "slower" : "no difference";
}

struct AttendBench::State {
  MethodProvider &provider;
  AttendBenchOptions options;
  Geometry geometry;
  Variant baseline;
  std::vector<uint64_t> probeBuffer;

  StatusOr<Variant> prepare(const std::string &method,
                            const std::map<std::string, std::string> &parameters) {
    MethodRequest request;
    request.method = method;
    request.parameters = parameters;
    request.geometry = geometry;
    auto execution = provider.load(request);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    Variant variant;
    variant.execution = std::move(*execution);
    if (variant.execution->needsCalibration()) {
      std::mt19937_64 generator(options.seed + 2);
      Rows rows;
      rows.fill(generator, 0, 2 * chunkRows, geometry);
      KVCACHE_RETURN_IF_ERROR(variant.execution->calibrate(0, rows.view(2 * chunkRows)));
      KVCACHE_RETURN_IF_ERROR(variant.execution->finishCalibration());
    }
    variant.rows =
        variant.execution->hasTokenBudget()
            ? std::max<int64_t>(
                  1, static_cast<int64_t>(static_cast<double>(options.tokens) * options.kept))
            : options.tokens;
    auto first = filledSequence(*variant.execution, variant.rows, options.seed);
    KVCACHE_RETURN_IF_ERROR(first.status());
    LayerReport report = (*first)->report(0);
    variant.needBytes = static_cast<int64_t>((report.bitsK + report.bitsV) / 8);
    int64_t caches = options.cold ? 4 * std::max<int64_t>(lastLevelCacheBytes(), 1 << 20) /
                                            std::max<int64_t>(1, report.bytesMeasured) +
                                        1
                                  : 1;
    variant.sequences.push_back(std::move(*first));
    for (int64_t i = 1; i < caches; ++i) {
      std::unique_ptr<Sequence> copy = variant.sequences.front()->fork();
      if (!copy) {
        return Status::unavailable("no memory for " + std::to_string(caches) +
                                   " caches of method '" + method + "'");
      }
      variant.sequences.push_back(std::move(copy));
    }
    return variant;
  }

  /// Reads the probe buffer once with all threads; bytes per second.
  double probe() {
    int64_t pieces = 64, words = static_cast<int64_t>(probeBuffer.size()) / pieces;
    std::vector<uint64_t> sums(static_cast<size_t>(pieces) * 8);
    double start = now();
    parallelFor(pieces, [&](int64_t piece) {
      const uint64_t *data = probeBuffer.data() + piece * words;
      uint64_t lanes[8] = {};
      for (int64_t i = 0; i + 8 <= words; i += 8) {
        for (int lane = 0; lane < 8; ++lane) {
          lanes[lane] += data[i + lane];
        }
      }
      std::copy(lanes, lanes + 8, sums.begin() + piece * 8);
    });
    double seconds = now() - start;
    // The sums are used, so that the reads are made.
    return static_cast<double>(probeBuffer.size() * sizeof(uint64_t)) /
           (seconds + (sums[0] == 1 ? 1e-12 : 0));
  }
};

AttendBench::AttendBench(std::unique_ptr<State> state) : state_(std::move(state)) {}
AttendBench::~AttendBench() = default;

const AttendBenchOptions &AttendBench::options() const { return state_->options; }

std::string AttendBench::geometryText() const {
  const AttendBenchOptions &o = state_->options;
  return fmt::format("heads {}/{}, D {}, T {}", o.queryHeads, o.kvHeads, o.headDim, o.tokens);
}

StatusOr<std::unique_ptr<AttendBench>> AttendBench::create(MethodProvider &provider,
                                                           const std::string &baseline,
                                                           const AttendBenchOptions &options) {
  if (options.kvHeads < 1 || options.queryHeads % options.kvHeads != 0 || options.headDim < 2 ||
      options.tokens < 1 || options.rounds < 2 || !(options.kept > 0 && options.kept <= 1)) {
    return Status::badInput("expected query heads in a multiple of KV heads, D of at least 2, T of "
                            "at least 1, 2 rounds and a kept share in (0, 1]");
  }
  auto state = std::make_unique<State>(State{provider, options, {}, {}, {}});
  state->geometry = {1, options.queryHeads, options.kvHeads, options.headDim, ElementType::F16, 0,
                     {}};
  for (int64_t i = 0; i < options.headDim / 2; ++i) {
    state->geometry.ropeInvFreq.push_back(static_cast<float>(
        std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(options.headDim))));
  }
  auto prepared = state->prepare(baseline, {});
  KVCACHE_RETURN_IF_ERROR(prepared.status());
  state->baseline = std::move(*prepared);
  state->probeBuffer.assign((options.cold ? size_t(128) : size_t(8)) << 17, 1);
  return std::unique_ptr<AttendBench>(new AttendBench(std::move(state)));
}

StatusOr<AttendMeasurement>
AttendBench::measure(const std::string &method,
                     const std::map<std::string, std::string> &parameters) {
  auto prepared = state_->prepare(method, parameters);
  KVCACHE_RETURN_IF_ERROR(prepared.status());
  Variant &variant = *prepared, &baseline = state_->baseline;
  AttendMeasurement result;
  result.method = method;
  result.rows = variant.rows;
  result.needBytes = variant.needBytes;
  auto error = errorOf(*variant.execution, state_->options.seed + 3);
  KVCACHE_RETURN_IF_ERROR(error.status());
  result.maxError = *error;

  std::mt19937_64 generator(state_->options.seed + 4);
  Rows query;
  query.fill(generator, 0, 1, state_->geometry);
  std::vector<float> out(query.q.size());
  std::vector<double> probes, ratios;
  for (int64_t round = -1; round < state_->options.rounds; ++round) {
    baseline.seconds.clear();
    std::vector<int> order{0, 1, 2};
    std::shuffle(order.begin(), order.end(), generator);
    size_t before = variant.seconds.size();
    double probe = 0;
    for (int which : order) {
      if (which == 2) {
        probe = state_->probe();
      } else {
        KVCACHE_RETURN_IF_ERROR((which == 0 ? variant : baseline).call(query.q.data(), out.data()));
      }
    }
    if (round < 0) { // the first round pays for page faults
      variant.seconds.clear();
      continue;
    }
    probes.push_back(probe);
    ratios.push_back(variant.seconds[before] / baseline.seconds[0]);
  }
  result.seconds = bootstrap(variant.seconds);
  result.ratio = bootstrap(ratios);
  result.probeBytesPerSecond = medianOf(probes);
  auto middle = ratios.begin() + static_cast<int64_t>(ratios.size() / 2);
  result.drift = medianOf({middle, ratios.end()}) / medianOf({ratios.begin(), middle}) - 1;
  return result;
}

} // namespace kvcache::tools
