// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One line per shipped method.

#include "tools/commands/MethodsCommand.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>

namespace kvcache::tools {

Json toJson(const MethodSummary &summary) {
  return {{"method", summary.name},
          {"family", summary.family},
          {"title", summary.title},
          {"paper", summary.paper.empty() ? Json(nullptr) : Json(summary.paper)},
          {"phases", summary.phases},
          {"labels", summary.labels},
          {"params", summary.parameters},
          {"takes_budget", summary.hasTokenBudget},
          {"bits_per_value_k", summary.bitsPerValueK},
          {"bits_per_value_v", summary.bitsPerValueV}};
}

namespace {

class MethodsCommand final : public Command {
public:
  explicit MethodsCommand(MethodProvider &provider) : provider_(provider) {}

  const char *name() const override { return "methods"; }
  const char *summary() const override { return "List the shipped methods"; }
  const char *example() const override { return "kvasir methods --json methods.json"; }
  void declare(CLI::App &) override {}

  rt::Status run(const CommonOptions &common, CommandReport &report) override {
    std::vector<std::vector<std::string>> table = {
        {"method", "family", "budget", "bits K/V", "phases", "labels", "paper"}};
    for (const MethodSummary &method : provider_.shipped()) {
      report.rows.push_back(toJson(method));
      table.push_back({method.name, method.family, method.hasTokenBudget ? "tokens" : "-",
                       fmt::format("{:.4g}/{:.4g}", method.bitsPerValueK, method.bitsPerValueV),
                       fmt::format("{}", fmt::join(method.phases, " ")),
                       fmt::format("{}", fmt::join(method.labels, " ")), method.paper});
      if (common.verbose) {
        for (const auto &[parameter, value] : method.parameters) {
          printNote("parameter", method.name + ": " + parameter + " = " + value);
        }
      }
    }
    std::vector<size_t> widths(table[0].size());
    for (const auto &row : table) {
      for (size_t i = 0; i < row.size(); ++i) {
        widths[i] = std::max(widths[i], row[i].size());
      }
    }
    for (const auto &row : table) {
      std::string line;
      for (size_t i = 0; i < row.size(); ++i) {
        line += i + 1 == row.size() ? row[i] : fmt::format("{:<{}}  ", row[i], widths[i]);
      }
      fmt::print("{}\n", line);
    }
    return rt::Status::ok();
  }

private:
  MethodProvider &provider_;
};

} // namespace

std::unique_ptr<Command> makeMethodsCommand(MethodProvider &provider) {
  return std::make_unique<MethodsCommand>(provider);
}

} // namespace kvcache::tools
