// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The table, the JSON and the CSV of the attention bench.

#include "tools/commands/BenchCommand.h"

#include "runtime/io/AtomicFile.h"
#include "runtime/parallel/Parallel.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cmath>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

Json jsonOf(const std::optional<double> &value) { return value ? Json(*value) : Json(nullptr); }

const char *productsOf(const AttendMeasurement &m) { return m.integerProducts ? "int16" : "f32"; }

/// The JSON row of a measurement.
Json rowOf(const AttendMeasurement &m, const AttendRun &run, const std::string &baseline,
           const AttendBenchOptions &o) {
  return {{"kernel", "attend " + m.method},
          {"format_k", m.bitsK},
          {"format_v", m.bitsV},
          {"products", productsOf(m)},
          {"tokens", o.tokens},
          {"kept_tokens", m.rows},
          {"batch", o.batch},
          {"q_heads", o.queryHeads},
          {"kv_heads", o.kvHeads},
          {"head_dim", o.headDim},
          {"threads", run.threads},
          {"cold", o.cold},
          {"rounds", o.rounds},
          {"median_s", m.seconds.median},
          {"lo_s", m.seconds.low},
          {"hi_s", m.seconds.high},
          {"against", baseline},
          {"ratio_vs_against", m.ratio.median},
          {"ratio_lo", m.ratio.low},
          {"ratio_hi", m.ratio.high},
          {"control_ratio", run.control.median},
          {"control_lo", run.control.low},
          {"control_hi", run.control.high},
          {"control_off", isOff(run.control)},
          {"disturbed_share", run.disturbed},
          {"verdict", m.verdict},
          {"ratio_vs_dense", m.ratioVsDense.median},
          {"ratio_vs_dense_lo", m.ratioVsDense.low},
          {"ratio_vs_dense_hi", m.ratioVsDense.high},
          {"need_bytes", m.needBytes},
          {"moved_bytes", m.movedBytes > 0 ? Json(m.movedBytes) : Json(nullptr)},
          {"gbps", static_cast<double>(m.needBytes) / m.seconds.median / 1e9},
          {"probe_gbps", run.readBytesPerSecond / 1e9},
          {"bytes_s", m.bounds.bytesSeconds},
          {"unpack_s", jsonOf(m.bounds.unpackSeconds)},
          {"products_s", jsonOf(m.bounds.productsSeconds)},
          {"bound", m.bounds.tightest()},
          {"share_of_bound", m.bounds.tightestSeconds() / m.seconds.median},
          {"drift", m.drift},
          {"max_error", m.maxError}};
}

void printHeader() {
  fmt::print("{:<20} {:<8} {:>7} {:>9} {:>9} {:>6} {:>13}  {:<13} {:>6}  {:<8} {:>5} {:>8}\n",
             "method", "products", "rows", "need MiB", "time ms", "ratio", "interval", "verdict",
             "GB/s", "bound", "share", "error");
}

void printRow(const AttendMeasurement &m) {
  fmt::print(
      "{:<20} {:<8} {:>7} {:>9.1f} {:>9.2f} {:>6.2f} {:>13}  {:<13} {:>6.1f}  {:<8} {:>5.2f} "
      "{:>8.1e}\n",
      m.method, productsOf(m), m.rows, static_cast<double>(m.needBytes) / (1 << 20),
      m.seconds.median * 1e3, m.ratio.median,
      fmt::format("[{:.2f}, {:.2f}]", m.ratio.low, m.ratio.high), m.verdict,
      static_cast<double>(m.needBytes) / m.seconds.median / 1e9, m.bounds.tightest(),
      m.bounds.tightestSeconds() / m.seconds.median, m.maxError);
}

std::string csvField(const Json &value) {
  if (!value.is_string()) {
    return value.is_null() ? "" : value.dump();
  }
  std::string quoted = "\"";
  for (char letter : value.get<std::string>()) {
    quoted += letter == '"' ? "\"\"" : std::string(1, letter);
  }
  return quoted + "\"";
}

/// A line of keys, then one line for each row, keys as in the JSON; text is quoted, null is empty.
std::string csvOf(const Json &rows) {
  std::string text;
  for (const auto &item : rows.front().items()) {
    text += (text.empty() ? "" : ",") + item.key();
  }
  for (const Json &row : rows) {
    std::string line;
    for (const auto &item : row.items()) {
      line += (line.empty() ? "" : ",") + csvField(item.value());
    }
    text += "\n" + line;
  }
  return text + "\n";
}

class BenchCommand final : public Command {
public:
  explicit BenchCommand(MethodProvider &provider) : provider_(provider) {}

  const char *name() const override { return "bench"; }
  const char *summary() const override {
    return "Time decode attention of methods against a baseline and itself";
  }
  const char *example() const override {
    return "kvasir bench attend --formats f16,int8,int4 --tokens 16384 --heads 8/8,32/8 --csv "
           "attend.csv";
  }

  void declare(CLI::App &app) override {
    app.add_option("WHAT", what_, "attend: attention of one new token over the cache of one layer")
        ->required();
    app.add_option("--methods", methods_,
                   "Methods to time; default, without --formats: dense and every shipped method")
        ->delimiter(',');
    app.add_option(
           "--formats", formats_,
           "Storage formats to time, of K and V or K/V: f16, int4, int4g64, int2t32, int8/int4; "
           "each is the method store:FORMAT")
        ->delimiter(',');
    app.add_option("--products", products_,
                   "What codes are multiplied as, one row for each: f32, or int16 (queries and "
                   "probabilities as fixed-point numbers of 16 bits, sums exact)")
        ->delimiter(',')
        ->check(CLI::IsMember({"f32", "int16"}))
        ->capture_default_str();
    app.add_option("--against", baseline_,
                   "The method whose time is 1, timed twice: its second cache is the control")
        ->capture_default_str();
    // A list here, where other commands take one number.
    app.remove_option(app.get_option("--threads"));
    app.add_option("--threads", threads_,
                   "Threads to use, one run for each; 0: as many as the process may use")
        ->delimiter(',');
    app.add_option("--heads", heads_, "Query heads / KV heads, one run or more for each")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--head-dim", headDims_, "D, likewise")->delimiter(',')->capture_default_str();
    app.add_option("--tokens", tokens_, "T, likewise")->delimiter(',')->capture_default_str();
    app.add_option("--batch", batches_,
                   "Sequences that a timed call attends to, one after another; likewise")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--kept", options_.kept, "Share of T that methods with a token budget hold")
        ->capture_default_str();
    app.add_option("--rounds", options_.rounds, "Rounds, at least 2")->capture_default_str();
    app.add_option("--seed", options_.seed, "Of the caches and the order")->capture_default_str();
    app.add_flag("--warm{false}", options_.cold,
                 "Leave the caches of the processor as the call before left them");
    app.add_option("--csv", csv_, "Write the rows to this file too");
  }

  Status run(const CommonOptions &, CommandReport &report) override;

private:
  Status parseGeometries();
  Status runGeometry(CommandReport &report);
  StatusOr<AttendRun> runOnce(AttendBench &bench, CommandReport &report);

  MethodProvider &provider_;
  std::string what_, baseline_ = "dense", csv_;
  std::vector<std::string> methods_, formats_, heads_ = {"32/8"}, products_ = {"f32"};
  std::vector<int64_t> tokens_ = {AttendBenchOptions().tokens},
                       headDims_ = {AttendBenchOptions().headDim},
                       batches_ = {AttendBenchOptions().batch};
  std::vector<int> threads_ = {0};
  std::vector<AttendBenchOptions> geometries_; ///< what the lists come to
  AttendBenchOptions options_;
};

/// "32/8" as query heads and KV heads.
Status parseHeads(const std::string &text, AttendBenchOptions &options) {
  size_t slash = text.find('/');
  if (slash == std::string::npos ||
      !CLI::detail::lexical_cast(text.substr(0, slash), options.queryHeads) ||
      !CLI::detail::lexical_cast(text.substr(slash + 1), options.kvHeads)) {
    return Status::badInput("expected --heads as query heads / KV heads such as 32/8, got '" +
                            text + "'");
  }
  return Status::ok();
}

Status BenchCommand::parseGeometries() {
  for (const std::string &heads : heads_) {
    AttendBenchOptions options = options_;
    KVCACHE_RETURN_IF_ERROR(parseHeads(heads, options));
    for (int64_t headDim : headDims_) {
      for (int64_t tokens : tokens_) {
        for (int64_t batch : batches_) {
          options.headDim = headDim;
          options.tokens = tokens;
          options.batch = batch;
          geometries_.push_back(options);
        }
      }
    }
  }
  return Status::ok();
}

/// One run on the threads of the pool, printed and reported.
StatusOr<AttendRun> BenchCommand::runOnce(AttendBench &bench, CommandReport &report) {
  fmt::print(
      "{}, f16, {} threads, {}; time over that of {}, median of {} rounds and 95 % interval\n",
      bench.geometryText(), rt::threads(), options_.cold ? "cold" : "warm", baseline_,
      options_.rounds);
  auto run = bench.run();
  KVCACHE_RETURN_IF_ERROR(run.status());
  fmt::print("control: {}\n", controlText(baseline_, *run));
  printHeader();
  std::string drifted; // by more than the interval, which is as wide as halves differ by chance
  for (const AttendMeasurement &measured : run->methods) {
    printRow(measured);
    report.rows.push_back(rowOf(measured, *run, baseline_, options_));
    if (std::abs(measured.drift) > measured.ratio.high - measured.ratio.low) {
      drifted += fmt::format("{}{} {:+.0f} %", drifted.empty() ? "" : ", ", measured.method,
                             measured.drift * 100);
    }
  }
  if (!drifted.empty()) {
    printNote("note", "ratios drifted between the halves of the run: " + drifted);
  }
  std::fflush(stdout);
  return run;
}

/// All methods at the geometry of options_, one run for each number of threads.
Status BenchCommand::runGeometry(CommandReport &report) {
  auto bench = AttendBench::create(provider_, baseline_, options_);
  KVCACHE_RETURN_IF_ERROR(bench.status());
  for (const std::string &method : methods_) {
    for (const std::string &products : products_) {
      KVCACHE_RETURN_IF_ERROR((*bench)->add(method, {}, products == "int16"));
    }
  }
  std::vector<AttendMeasurement> last;
  for (int count : threads_) {
    KVCACHE_RETURN_IF_ERROR(rt::setThreads(count));
    auto run = runOnce(**bench, report);
    KVCACHE_RETURN_IF_ERROR(run.status());
    last = std::move(run->methods);
  }
  for (const AttendMeasurement &measured : last) {
    report.kernels.insert(report.kernels.end(), measured.kernels.begin(), measured.kernels.end());
  }
  return Status::ok();
}

Status BenchCommand::run(const CommonOptions &, CommandReport &report) {
  if (what_ != "attend") {
    return Status::badInput("unknown bench '" + what_ + "', expected attend");
  }
  KVCACHE_RETURN_IF_ERROR(parseGeometries());
  for (int count : threads_) {
    KVCACHE_RETURN_IF_ERROR(rt::setThreads(count));
  }
  report.seed = options_.seed;
  if (methods_.empty() && formats_.empty()) {
    for (const MethodSummary &method : provider_.shipped()) {
      methods_.push_back(method.name);
    }
  }
  for (const std::string &format : formats_) {
    methods_.push_back("store:" + format);
  }
  for (const AttendBenchOptions &geometry : geometries_) {
    options_ = geometry;
    KVCACHE_RETURN_IF_ERROR(runGeometry(report));
  }
  return csv_.empty() ? Status::ok() : rt::writeFileAtomically(csv_, csvOf(report.rows));
}

} // namespace

std::unique_ptr<Command> makeBenchCommand(MethodProvider &provider) {
  return std::make_unique<BenchCommand>(provider);
}

AttendTimer makeDemoTimer(MethodProvider &provider) {
  return [&provider](const std::vector<TimedMethod> &methods) -> StatusOr<AttendTimings> {
    AttendBenchOptions options;
    options.rounds = 15;
    options.limitSeconds = 30;
    auto bench = AttendBench::create(provider, "dense", options);
    KVCACHE_RETURN_IF_ERROR(bench.status());
    AttendTimings timings;
    std::vector<size_t> added;
    for (size_t i = 0; i < methods.size(); ++i) {
      Status prepared = (*bench)->add(methods[i].name, methods[i].parameters);
      timings.methods.push_back(prepared);
      if (prepared.isOk()) {
        added.push_back(i);
      }
    }
    auto run = (*bench)->run();
    KVCACHE_RETURN_IF_ERROR(run.status());
    for (size_t i = 0; i < added.size(); ++i) {
      const AttendMeasurement &m = run->methods[i];
      timings.methods[added[i]] =
          AttendTiming{m.seconds.median, m.ratio.median, m.ratio.low, m.ratio.high,
                       std::string(m.verdict) != "no difference"};
    }
    timings.setting = fmt::format("{}, {} threads; control: {}", (*bench)->geometryText(),
                                  run->threads, controlText("dense", *run));
    return timings;
  };
}

} // namespace kvcache::tools
