// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Methods, targets and settings to cases; the cases as lines, or as a table of methods.

#include "tools/commands/VerifyCommand.h"

#include "tools/commands/KvxProvider.h"
#include "tools/commands/Progress.h"
#include "tools/commands/VerifyCases.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

class VerifyCommand final : public Command {
public:
  explicit VerifyCommand(MethodProvider &provider) : provider_(provider) {}

  const char *name() const override { return "verify"; }
  const char *summary() const override {
    return "Compare targets with the reference on edge shapes";
  }
  const char *example() const override { return "kvasir verify method.mlir --targets all"; }

  void declare(CLI::App &app) override {
    app.add_option(
           "METHOD", methods_,
           "Shipped methods, A+B, .mlir files, or one .kvx made with --record; `all`: every "
           "shipped method")
        ->required();
    app.add_option("--targets", targets_, "Targets to check, or all")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->capture_default_str();
    arguments_.declareProducts(app);
    arguments_.declareSettings(app);
  }

  Status run(const CommonOptions &common, CommandReport &report) override;

private:
  Status chooseMethods();
  Status checkOptions();
  Status verifyEach(CommandReport &report);
  void printCases() const;
  void printTable() const;

  MethodProvider &provider_;
  MethodArguments arguments_;
  std::vector<std::string> methods_, targets_ = {"cpu"};
  std::vector<VerifyRow> rows_;
};

/// Puts the shipped methods where `all` is.
Status VerifyCommand::chooseMethods() {
  std::vector<std::string> chosen;
  for (const std::string &name : methods_) {
    if (name != "all") {
      chosen.push_back(name);
      continue;
    }
    for (const MethodSummary &shipped : provider_.shipped()) {
      chosen.push_back(shipped.name);
    }
  }
  if (chosen.empty()) {
    return Status::badInput("'all': no method is shipped with this program, expected a .kvx file "
                            "made with `kvasir compile --record`");
  }
  methods_ = chosen;
  return Status::ok();
}

Status VerifyCommand::checkOptions() {
  std::vector<std::string> known = provider_.targets();
  for (const std::string &method : methods_) {
    if (isKvxName(method)) {
      return Status::badInput(method + ": an executable is verified by itself");
    }
    if (std::find(known.begin(), known.end(), "reference") == known.end()) {
      return Status::badInput("'" + method +
                              "': expected a .kvx file made with `kvasir compile --record`");
    }
  }
  if (targets_ == std::vector<std::string>{"all"}) {
    targets_ = known;
  }
  for (const std::string &target : targets_) {
    KVCACHE_RETURN_IF_ERROR(checkTarget(provider_, target));
  }
  if (methods_.size() > 1 && !arguments_.settings.empty()) {
    return Status::badInput("--set: expected one method, whose parameter it is; " +
                            std::to_string(methods_.size()) + " are given");
  }
  return Status::ok();
}

/// Goes on behind a method that fails; the first failure counts.
Status VerifyCommand::verifyEach(CommandReport &report) {
  Status status;
  Progress progress("verifying", "cases", edgeCaseCount() * static_cast<int64_t>(methods_.size()));
  for (const std::string &method : methods_) {
    MethodArguments arguments = arguments_;
    arguments.method = method;
    Status one =
        verifyMethod(provider_, arguments, targets_, [&] { progress.advance(); }, rows_, report);
    if (!one.isOk() && methods_.size() > 1) {
      printNote("failed", "'" + method + "': " + one.message());
      std::string text = "method '" + method + "': " + one.message();
      one = one.code() == rt::StatusCode::CheckFailed ? Status::checkFailed(text)
                                                      : Status::badInput(text);
    }
    status = status.isOk() ? one : status;
  }
  return status;
}

Status VerifyCommand::run(const CommonOptions &common, CommandReport &report) {
  report.seed = 1;
  KVCACHE_RETURN_IF_ERROR(chooseMethods());
  Status status;
  if (methods_.size() == 1 && isKvxName(methods_.front())) {
    if (!arguments_.settings.empty()) {
      return Status::badInput(
          methods_.front() +
          ": --set: the parameters of an executable are bound when it is compiled");
    }
    status = verifyExecutable(methods_.front(), rows_, report);
  } else {
    KVCACHE_RETURN_IF_ERROR(checkOptions());
    status = verifyEach(report);
  }
  if (methods_.size() == 1) {
    if (!status.isOk() && status.code() != rt::StatusCode::CheckFailed) {
      return status;
    }
    printCases();
  } else {
    printTable();
  }
  if (status.isOk()) {
    fmt::print("{} cases of {} agree with the reference\n", rows_.size(),
               methods_.size() == 1 ? methods_.front()
                                    : std::to_string(methods_.size()) + " methods");
  }
  if (common.verbose) {
    printNote("kernels", kernelStatusText(report.kernels));
  }
  return status;
}

void VerifyCommand::printCases() const {
  for (const VerifyRow &row : rows_) {
    fmt::print("{:<5} {:<10} {:<13} G={} {:<4} {}, largest error {:.2g}\n",
               row.comparison.status.isOk() ? "pass" : "FAIL", row.target, row.shape,
               row.group > 0 ? std::to_string(row.group) : "-", row.act, row.spec.str(),
               row.comparison.worstError);
  }
}

/// One line for each method and target. A case that was not reached counts as one that failed.
void VerifyCommand::printTable() const {
  size_t width = 6;
  for (const std::string &method : methods_) {
    width = std::max(width, method.size());
  }
  fmt::print("{:<5} {:<{}}  {:<10} {:>7}  {:>13}  {:>14}\n", "", "method", width, "target", "agree",
             "largest error", "boundary swaps");
  for (const std::string &method : methods_) {
    for (const std::string &target : targets_) {
      int64_t agree = 0, swaps = 0;
      double worst = 0;
      for (const VerifyRow &row : rows_) {
        if (row.method == method && row.target == target) {
          agree += row.comparison.status.isOk() ? 1 : 0;
          swaps += row.comparison.boundarySwaps;
          worst = std::max(worst, static_cast<double>(row.comparison.worstError));
        }
      }
      fmt::print("{:<5} {:<{}}  {:<10} {:>7}  {:>13.2g}  {:>14}\n",
                 agree == edgeCaseCount() ? "pass" : "FAIL", method, width, target,
                 fmt::format("{}/{}", agree, edgeCaseCount()), worst, swaps);
    }
  }
}

} // namespace

std::unique_ptr<Command> makeVerifyCommand(MethodProvider &provider) {
  return std::make_unique<VerifyCommand>(provider);
}

} // namespace kvcache::tools
