// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The table and the JSON of the attention bench.

#include "tools/commands/BenchCommand.h"

#include "runtime/parallel/Parallel.h"
#include "tools/commands/MethodArguments.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

/// The JSON row of a measurement; bits per value stand for the formats.
Json rowOf(const AttendMeasurement &m, const AttendBenchOptions &o, const MethodSummary *summary,
           int threads) {
  double bytesPerSecond =
      m.seconds.median > 0 ? static_cast<double>(m.needBytes) / m.seconds.median : 0;
  return {{"kernel", "attend " + m.method},
          {"format_k", summary ? Json(summary->bitsPerValueK) : Json(nullptr)},
          {"format_v", summary ? Json(summary->bitsPerValueV) : Json(nullptr)},
          {"products", "f32"},
          {"tokens", o.tokens},
          {"kept_tokens", m.rows},
          {"batch", 1},
          {"q_heads", o.queryHeads},
          {"kv_heads", o.kvHeads},
          {"head_dim", o.headDim},
          {"threads", threads},
          {"cold", o.cold},
          {"median_s", m.seconds.median},
          {"lo_s", m.seconds.low},
          {"hi_s", m.seconds.high},
          {"ratio_vs_dense", m.ratio.median},
          {"ratio_lo", m.ratio.low},
          {"ratio_hi", m.ratio.high},
          {"verdict", m.verdict()},
          {"need_bytes", m.needBytes},
          {"moved_bytes", nullptr},
          {"gbps", bytesPerSecond / 1e9},
          {"probe_gbps", m.probeBytesPerSecond / 1e9},
          {"bound", "bytes"},
          {"share_of_bound", m.probeBytesPerSecond > 0
                                 ? Json(bytesPerSecond / m.probeBytesPerSecond)
                                 : Json(nullptr)},
          {"drift", m.drift},
          {"max_error", m.maxError}};
}

class BenchCommand final : public Command {
public:
  explicit BenchCommand(MethodProvider &provider) : provider_(provider) {}

  const char *name() const override { return "bench"; }
  const char *summary() const override {
    return "Time decode attention of methods against a baseline";
  }
  const char *example() const override {
    return "kvasir bench attend --methods dense --tokens 32768 --threads 1";
  }

  void declare(CLI::App &app) override {
    app.add_option("WHAT", what_, "attend: attention of one new token over the cache of one layer")
        ->required();
    app.add_option("--methods", methods_,
                   "methods to time; default: dense and every shipped method")
        ->delimiter(',');
    app.add_option("--against", baseline_, "the method whose time is 1")->capture_default_str();
    app.add_option("--heads", heads_, "query heads / KV heads")->capture_default_str();
    app.add_option("--head-dim", options_.headDim, "D")->capture_default_str();
    app.add_option("--tokens", options_.tokens, "T")->capture_default_str();
    app.add_option("--kept", options_.kept, "share of T that methods with a token budget hold")
        ->capture_default_str();
    app.add_option("--rounds", options_.rounds, "rounds, at least 2")->capture_default_str();
    app.add_option("--seed", options_.seed, "of the caches and the order")->capture_default_str();
    app.add_flag("--warm{false}", options_.cold,
                 "one cache, whatever the last-level cache holds of it");
  }

  Status run(const CommonOptions &, CommandReport &report) override {
    if (what_ != "attend") {
      return Status::badInput("unknown bench '" + what_ + "', expected attend");
    }
    size_t slash = heads_.find('/');
    if (slash == std::string::npos ||
        !CLI::detail::lexical_cast(heads_.substr(0, slash), options_.queryHeads) ||
        !CLI::detail::lexical_cast(heads_.substr(slash + 1), options_.kvHeads)) {
      return Status::badInput("expected --heads as query heads / KV heads such as 32/8, got '" +
                              heads_ + "'");
    }
    report.seed = options_.seed;
    std::vector<MethodSummary> shipped = provider_.shipped();
    if (methods_.empty()) {
      for (const MethodSummary &method : shipped) {
        methods_.push_back(method.name);
      }
    }
    auto bench = AttendBench::create(provider_, baseline_, options_);
    KVCACHE_RETURN_IF_ERROR(bench.status());
    fmt::print(
        "{}, f16, {} threads, {}; time over that of {}, median of {} rounds and 95 % interval\n",
        (*bench)->geometryText(), rt::threads(), options_.cold ? "cold" : "warm", baseline_,
        options_.rounds);
    fmt::print("{:<16} {:>7} {:>9} {:>9} {:>6} {:>15}  {:<14} {:>7} {:>7} {:>9}\n", "method",
               "rows", "need MiB", "time ms", "ratio", "interval", "verdict", "GB/s", "share",
               "error");
    for (const std::string &method : methods_) {
      auto measured = (*bench)->measure(method, {});
      KVCACHE_RETURN_IF_ERROR(measured.status());
      const MethodSummary *summary = nullptr;
      for (const MethodSummary &one : shipped) {
        summary = one.name == method ? &one : summary;
      }
      Json row = rowOf(*measured, options_, summary, rt::threads());
      fmt::print(
          "{:<16} {:>7} {:>9.1f} {:>9.2f} {:>6.2f} {:>15}  {:<14} {:>7.1f} {:>7.2f} {:>9.1e}\n",
          method, measured->rows, static_cast<double>(measured->needBytes) / (1 << 20),
          measured->seconds.median * 1e3, measured->ratio.median,
          fmt::format("[{:.2f}, {:.2f}]", measured->ratio.low, measured->ratio.high),
          measured->verdict(), row["gbps"].get<double>(),
          row["share_of_bound"].is_null() ? 0.0 : row["share_of_bound"].get<double>(),
          measured->maxError);
      std::fflush(stdout);
      report.rows.push_back(row);
    }
    return Status::ok();
  }

private:
  MethodProvider &provider_;
  std::string what_, baseline_ = "dense", heads_ = "32/8";
  std::vector<std::string> methods_;
  AttendBenchOptions options_;
};

} // namespace

std::unique_ptr<Command> makeBenchCommand(MethodProvider &provider) {
  return std::make_unique<BenchCommand>(provider);
}

AttendTimer makeDemoTimer(MethodProvider &provider) {
  AttendBenchOptions options;
  options.rounds = 9;
  auto bench = std::make_shared<std::unique_ptr<AttendBench>>();
  auto time = [&provider, options, bench](
                  const std::string &method,
                  const std::map<std::string, std::string> &parameters) -> StatusOr<AttendTiming> {
    if (!*bench) {
      auto created = AttendBench::create(provider, "dense", options);
      KVCACHE_RETURN_IF_ERROR(created.status());
      *bench = std::move(*created);
    }
    auto measured = (*bench)->measure(method, parameters);
    KVCACHE_RETURN_IF_ERROR(measured.status());
    return AttendTiming{measured->seconds.median, measured->ratio.median, measured->ratio.low,
                        measured->ratio.high};
  };
  return {fmt::format("heads {}/{}, D {}, T {}", options.queryHeads, options.kvHeads,
                      options.headDim, options.tokens),
          time};
}

} // namespace kvcache::tools
