// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One line per shipped method, all of them or those with given legality labels.

#include "tools/commands/MethodsCommand.h"

#include "tools/commands/MethodPage.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace kvcache::tools {

using rt::Status;

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
  const char *example() const override { return "kvasir methods --label multi-turn-safe"; }

  void declare(CLI::App &app) override {
    app.add_option("--label", labels_,
                   "Only methods with this legality label; repeat it for methods with all of them")
        ->allow_extra_args(false)
        ->take_all();
    app.add_option("--pages", pages_, "Write a page for each method into this folder");
  }

  Status run(const CommonOptions &common, CommandReport &report) override {
    std::vector<MethodSummary> shipped = provider_.shipped();
    KVCACHE_RETURN_IF_ERROR(checkLabels(shipped));
    if (!pages_.empty()) {
      shipped.erase(std::remove_if(shipped.begin(), shipped.end(),
                                   [&](const MethodSummary &one) { return !hasLabels(one); }),
                    shipped.end());
      KVCACHE_RETURN_IF_ERROR(writeMethodPages(pages_, shipped));
    }
    std::vector<std::vector<std::string>> table = {
        {"method", "family", "budget", "bits K/V", "phases", "labels", "paper"}};
    for (const MethodSummary &method : shipped) {
      if (!hasLabels(method)) {
        continue;
      }
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
    return Status::ok();
  }

private:
  bool hasLabels(const MethodSummary &method) const {
    return std::all_of(labels_.begin(), labels_.end(), [&](const std::string &label) {
      return std::count(method.labels.begin(), method.labels.end(), label) > 0;
    });
  }

  /// A label that no shipped method has is a mistake, not an empty list.
  Status checkLabels(const std::vector<MethodSummary> &shipped) const {
    std::set<std::string> known;
    for (const MethodSummary &method : shipped) {
      known.insert(method.labels.begin(), method.labels.end());
    }
    for (const std::string &label : labels_) {
      if (known.count(label) == 0) {
        return Status::badInput(
            fmt::format("--label {}: expected one of {}", label, fmt::join(known, ", ")));
      }
    }
    return Status::ok();
  }

  MethodProvider &provider_;
  std::vector<std::string> labels_;
  std::string pages_;
};

} // namespace

std::unique_ptr<Command> makeMethodsCommand(MethodProvider &provider) {
  return std::make_unique<MethodsCommand>(provider);
}

} // namespace kvcache::tools
