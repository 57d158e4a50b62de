// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rounds, ratios, bounds. Why copies are made anew in each round: two caches with the same content
// differ by 5 to 13 % in time, call after call, by where their pages lie; a variant that keeps its
// cache measures its luck. With copies drawn in random order from the same memory, the order of two
// equal variants is a coin's toss, and rounds are independent of each other.

#include "tools/commands/AttendBench.h"

#include "runtime/parallel/Parallel.h"
#include "tools/commands/AttendVariant.h"
#include "tools/commands/BenchProbes.h"
#include "tools/commands/HostInfo.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <system_error>

namespace kvcache::tools {

using namespace rt;

namespace {

constexpr int64_t callsPerCopy = 3;
constexpr int64_t leastRounds = 5; ///< of a run with a time limit
constexpr int64_t attemptsPerCall = 5;
constexpr double quietShare = 0.02; ///< of a call's time, waited at most, for it to count as quiet
constexpr const char *denseName = "dense";

/// Bytes the system can still give; the largest number where it does not say.
int64_t availableBytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string word; file >> word;) {
    int64_t kibibytes = 0;
    if (word == "MemAvailable:" && file >> kibibytes) {
      return kibibytes << 10;
    }
  }
  return std::numeric_limits<int64_t>::max();
}

/// Seconds that the threads of this process have waited for a processor that did other work, or for
/// one to wake up on; 0 where the system does not count them.
double waitedSeconds() {
  double nanoseconds = 0;
  std::error_code error;
  for (const auto &task : std::filesystem::directory_iterator("/proc/self/task", error)) {
    std::ifstream file(task.path() / "schedstat");
    double ran = 0, waited = 0;
    if (file >> ran >> waited) {
      nanoseconds += waited;
    }
  }
  return nanoseconds * 1e-9;
}

int64_t movedBytes(const Execution &execution) {
  int64_t bytes = 0;
  for (const KernelReport &kernel : execution.kernels()) {
    bytes += kernel.bytesRead + kernel.bytesWritten;
  }
  return bytes;
}

/// The result of the attempt of `work` during which threads waited least, and in `share` how much
/// of its time that was; the first quiet attempt is the last.
template <typename Work>
double leastDisturbed(Work work, double &share) {
  double best = 0;
  share = std::numeric_limits<double>::infinity();
  for (int64_t attempt = 0; attempt < attemptsPerCall && share > quietShare; ++attempt) {
    double before = waitedSeconds();
    auto start = std::chrono::steady_clock::now();
    double result = work();
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    double waited = (waitedSeconds() - before) / took.count();
    if (waited < share) {
      share = waited;
      best = result;
    }
  }
  return best;
}

/// Rates of the machine while rounds run, and how many calls other work disturbed.
struct Rates {
  int64_t calls = 0, disturbed = 0;
  std::vector<double> products;
  std::map<int, std::vector<double>> unpacked; ///< by bits

  void measure(const std::set<int> &widths) {
    double share = 0;
    products.push_back(leastDisturbed(productsPerSecond, share));
    for (int bits : widths) {
      unpacked[bits].push_back(leastDisturbed([bits] { return unpackedPerSecond(bits); }, share));
    }
  }
  /// Reads with the probe, which leaves the caches cold.
  void read(BenchProbes &probes) {
    double before = waitedSeconds();
    double rate = probes.readBytesPerSecond();
    double waited = (waitedSeconds() - before) * rate / static_cast<double>(probes.bytes());
    (waited > quietShare ? disturbedReads : quietReads).push_back(rate);
  }
  double readBytesPerSecond() const {
    return medianOf(quietReads.empty() ? disturbedReads : quietReads);
  }
  /// Infinite when the rate of this width is not known.
  double secondsToUnpack(int64_t values, int bits) const {
    return values == 0 ? 0 : static_cast<double>(values) / medianOf(unpacked.at(bits));
  }

private:
  std::vector<double> quietReads, disturbedReads;
};

/// One variant in the rounds.
struct Entry {
  std::string method;
  bool integerProducts = false;
  std::unique_ptr<AttendVariant> variant;
  std::vector<double> seconds; ///< by round
  int64_t attempts = 0;        ///< in the last round
  int64_t movedBytes = 0;      ///< of one call
};

} // namespace

double AttendBounds::tightestSeconds() const {
  return std::max({bytesSeconds, unpackSeconds.value_or(0), productsSeconds.value_or(0)});
}

const char *AttendBounds::tightest() const {
  double largest = tightestSeconds();
  return largest == bytesSeconds ? "bytes" : unpackSeconds == largest ? "unpack" : "products";
}

struct AttendBench::State {
  MethodProvider &provider;
  AttendBenchOptions options;
  Geometry geometry;
  std::unique_ptr<BenchProbes> probes;
  std::vector<Entry> entries; ///< the baseline, its control, dense where it is neither, the methods
  size_t dense = 0, firstMethod = 0;
  std::chrono::steady_clock::time_point start{}; ///< of the run

  Status add(const std::string &method, const std::map<std::string, std::string> &parameters,
             bool integerProducts) {
    // Rows of f16, for the cache that stays and the copies of one variant at a time.
    int64_t bytes = options.tokens * geometry.kvHeads * geometry.headDim * 4 * (1 + options.batch);
    int64_t available = availableBytes();
    if (bytes > available) {
      return Status::unavailable(
          fmt::format("caches of T = {} and batch = {} need {} MiB, {} MiB are available",
                      options.tokens, options.batch, bytes >> 20, available >> 20));
    }
    MethodRequest request;
    request.method = method;
    request.parameters = parameters;
    request.geometry = geometry;
    request.integerProducts = integerProducts;
    auto variant =
        AttendVariant::create(provider, request, {options.tokens, options.kept, options.seed});
    KVCACHE_RETURN_IF_ERROR(variant.status());
    entries.push_back({method, integerProducts, std::move(*variant), {}, 0, 0});
    return Status::ok();
  }

  /// Whether the run has taken longer than it should.
  bool isLate() const {
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    return options.limitSeconds > 0 && took.count() > options.limitSeconds;
  }

  /// Times one call. A long call is interrupted by other work more often than a short one, so one
  /// that had to wait is repeated, a few times; else the call that waited least is taken.
  StatusOr<double> timeCall(Entry &entry, const std::vector<float> &query, Rates &rates) {
    std::vector<float> out(query.size());
    double best = 0, leastShare = std::numeric_limits<double>::infinity();
    for (int64_t attempt = 0; attempt < attemptsPerCall && leastShare > quietShare; ++attempt) {
      if (attempt > 0 && isLate()) {
        break;
      }
      if (options.cold) {
        rates.read(*probes);
      }
      double before = waitedSeconds();
      auto took = entry.variant->attend(query.data(), out.data());
      KVCACHE_RETURN_IF_ERROR(took.status());
      double share = (waitedSeconds() - before) / *took;
      ++entry.attempts;
      if (share < leastShare) {
        leastShare = share;
        best = *took;
      }
    }
    ++rates.calls;
    rates.disturbed += leastShare > quietShare ? 1 : 0;
    return best;
  }

  /// Times one variant on fresh copies; the median of a few calls.
  StatusOr<double> timeOnce(Entry &entry, const std::vector<float> &query, Rates &rates) {
    std::vector<float> out(query.size());
    KVCACHE_RETURN_IF_ERROR(entry.variant->makeCopies(options.batch));
    if (!options.cold) {
      KVCACHE_RETURN_IF_ERROR(entry.variant->attend(query.data(), out.data()).status());
    }
    entry.attempts = 0;
    int64_t before = movedBytes(entry.variant->execution());
    std::vector<double> seconds;
    for (int64_t call = 0; call < callsPerCopy; ++call) {
      auto took = timeCall(entry, query, rates);
      KVCACHE_RETURN_IF_ERROR(took.status());
      seconds.push_back(*took);
    }
    entry.movedBytes = (movedBytes(entry.variant->execution()) - before) / entry.attempts;
    entry.variant->dropCopies();
    return medianOf(seconds);
  }

  /// Widths of all that is stored.
  std::set<int> widths() const {
    std::set<int> result;
    for (const Entry &entry : entries) {
      for (const StoredValues &stored : {entry.variant->keys(), entry.variant->values()}) {
        if (stored.codes > 0) {
          result.insert(stored.codeBits);
        }
        if (stored.exact > 0) {
          result.insert(16);
        }
      }
    }
    return result;
  }

  Status rounds(Rates &rates) {
    for (Entry &entry : entries) {
      entry.seconds.clear();
    }
    std::vector<float> query = randomQuery(geometry, options.seed + 4);
    std::mt19937_64 generator(options.seed + 5);
    std::vector<size_t> order(entries.size());
    std::iota(order.begin(), order.end(), size_t(0));
    start = std::chrono::steady_clock::now();
    for (int64_t round = -1; round < options.rounds; ++round) {
      if (round >= leastRounds && isLate()) {
        break;
      }
      std::shuffle(order.begin(), order.end(), generator);
      for (size_t number : order) {
        if (!options.cold) {
          rates.read(*probes);
        }
        auto seconds = timeOnce(entries[number], query, rates);
        KVCACHE_RETURN_IF_ERROR(seconds.status());
        if (round >= 0) { // the first round pays for page faults of code and buffers
          entries[number].seconds.push_back(*seconds);
        }
      }
      rates.measure(widths());
    }
    return Status::ok();
  }

  AttendBounds boundsOf(const AttendVariant &variant, const Rates &rates) const {
    AttendBounds bounds;
    double batch = static_cast<double>(options.batch);
    bounds.bytesSeconds =
        batch * static_cast<double>(variant.needBytes()) / rates.readBytesPerSecond();
    double values = 0, unpack = 0;
    for (const StoredValues &stored : {variant.keys(), variant.values()}) {
      values += static_cast<double>(stored.codes + stored.exact);
      unpack += rates.secondsToUnpack(stored.codes, stored.codeBits) +
                rates.secondsToUnpack(stored.exact, 16);
    }
    double group = static_cast<double>(geometry.queryHeads / geometry.kvHeads);
    double products = group * values / medianOf(rates.products);
    if (std::isfinite(unpack)) {
      bounds.unpackSeconds = batch * unpack;
    }
    if (std::isfinite(products)) {
      bounds.productsSeconds = batch * products;
    }
    return bounds;
  }

  AttendMeasurement judge(const Entry &entry, const Rates &rates, const Interval &control) const {
    const AttendVariant &variant = *entry.variant;
    AttendMeasurement result;
    result.method = entry.method;
    result.integerProducts = entry.integerProducts;
    result.rows = variant.rows();
    result.bitsK = variant.keys().bitsEach;
    result.bitsV = variant.values().bitsEach;
    result.needBytes = variant.needBytes() * options.batch;
    result.movedBytes = entry.movedBytes;
    result.seconds = bootstrap(entry.seconds);
    std::vector<double> ratios = ratiosOf(entry.seconds, entries[0].seconds);
    result.ratio = bootstrap(ratios);
    result.ratioVsDense = bootstrap(ratiosOf(entry.seconds, entries[dense].seconds));
    result.drift = driftOf(ratios);
    result.bounds = boundsOf(variant, rates);
    result.maxError = variant.maxError();
    result.verdict = verdictOf(result.ratio, control);
    result.kernels = variant.execution().kernels();
    return result;
  }
};

AttendBench::AttendBench(std::unique_ptr<State> state) : state_(std::move(state)) {}
AttendBench::~AttendBench() = default;

std::string AttendBench::geometryText() const {
  const AttendBenchOptions &o = state_->options;
  return fmt::format("heads {}/{}, D {}, T {}{}", o.queryHeads, o.kvHeads, o.headDim, o.tokens,
                     o.batch > 1 ? fmt::format(", batch {}", o.batch) : "");
}

StatusOr<std::unique_ptr<AttendBench>> AttendBench::create(MethodProvider &provider,
                                                           const std::string &baseline,
                                                           const AttendBenchOptions &options) {
  if (options.kvHeads < 1 || options.queryHeads < 1 || options.queryHeads % options.kvHeads != 0 ||
      options.headDim < 2 || options.tokens < 1 || options.batch < 1 || options.rounds < 2 ||
      !(options.kept > 0 && options.kept <= 1)) {
    return Status::badInput("expected query heads in a multiple of KV heads, D of at least 2, T of "
                            "at least 1, batch of at least 1, 2 rounds and a kept share in (0, 1]");
  }
  auto state = std::make_unique<State>(State{provider, options, {}, {}, {}});
  state->geometry = {1, options.queryHeads, options.kvHeads, options.headDim, ElementType::F16, 0,
                     {}};
  for (int64_t i = 0; i < options.headDim / 2; ++i) {
    state->geometry.ropeInvFreq.push_back(static_cast<float>(
        std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(options.headDim))));
  }
  KVCACHE_RETURN_IF_ERROR(state->add(baseline, {}, false));
  KVCACHE_RETURN_IF_ERROR(state->add(baseline, {}, false));
  if (baseline != denseName) {
    state->dense = state->entries.size();
    KVCACHE_RETURN_IF_ERROR(state->add(denseName, {}, false));
  }
  state->firstMethod = state->entries.size();
  int64_t coldBytes = std::max<int64_t>(128 << 20, 4 * lastLevelCacheBytes() + (1 << 20));
  state->probes = std::make_unique<BenchProbes>(options.cold ? coldBytes : 8 << 20);
  return std::unique_ptr<AttendBench>(new AttendBench(std::move(state)));
}

Status AttendBench::add(const std::string &method,
                        const std::map<std::string, std::string> &parameters,
                        bool integerProducts) {
  return state_->add(method, parameters, integerProducts);
}

StatusOr<AttendRun> AttendBench::run() {
  Rates rates;
  KVCACHE_RETURN_IF_ERROR(state_->rounds(rates));
  AttendRun run;
  run.threads = threads();
  std::vector<double> control = ratiosOf(state_->entries[1].seconds, state_->entries[0].seconds);
  run.control = bootstrap(control);
  run.controlDrift = driftOf(control);
  run.readBytesPerSecond = rates.readBytesPerSecond();
  run.disturbed = static_cast<double>(rates.disturbed) / static_cast<double>(rates.calls);
  for (size_t i = state_->firstMethod; i < state_->entries.size(); ++i) {
    run.methods.push_back(state_->judge(state_->entries[i], rates, run.control));
  }
  return run;
}

std::string controlText(const std::string &baseline, const AttendRun &run) {
  std::string text = fmt::format("{} against itself {:.2f} [{:.2f}, {:.2f}]", baseline,
                                 run.control.median, run.control.low, run.control.high);
  if (isOff(run.control)) {
    text += ", which is off: distrust differences of this size";
  }
  if (run.disturbed > 0.1) {
    text += fmt::format("; other work disturbed {:.0f} % of the calls, which flatters short ones",
                        run.disturbed * 100);
  }
  return text;
}

} // namespace kvcache::tools
