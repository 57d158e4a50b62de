// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Options of `eval` to a request; the report to table, JSON rows and HTML.

#include "tools/commands/EvalCommand.h"

#include "tools/commands/EvalRun.h"
#include "tools/commands/MethodArguments.h"
#include "tools/commands/ModelInput.h"
#include "tools/report/EvalTable.h"
#include "tools/report/HtmlReport.h"
#include "tools/report/RankTable.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

using Settings = std::map<std::string, std::map<std::string, std::string>>;

class EvalCommand final : public Command {
public:
  explicit EvalCommand(MethodProvider &provider) : provider_(provider) {}

  const char *name() const override { return "eval"; }
  const char *summary() const override {
    return "Measure quality, bytes and speed of methods over tasks, lengths and budgets";
  }
  const char *example() const override {
    return "kvasir eval all --tasks passkey,kv,text --question outside,inside --lengths 512,1024 "
           "--budgets 0.25,0.5 --journal j.jsonl --html r.html --json r.json";
  }

  void declare(CLI::App &app) override;
  Status run(const CommonOptions &common, CommandReport &report) override;

private:
  Status readGrid();
  Status chooseMethods();
  Status applySettings();

  MethodProvider &provider_;
  std::vector<std::string> methods_, tasks_ = {"passkey", "kv", "text"}, questions_ = {"outside"},
                                     settings_;
  std::string settingsFile_, html_, settingsText_;
  EvalRequest request_;
};

void EvalCommand::declare(CLI::App &app) {
  request_.model = bundledModel();
  request_.grid.lengths = {512};
  request_.budgets = {"0.25"};
  app.add_option("METHOD", methods_,
                 "Shipped methods, A+B, or .mlir files; `all`: every shipped method, with the "
                 "settings file of the model")
      ->required();
  auto list = [&](const char *option, auto &values, const char *help) {
    app.add_option(option, values, help)->delimiter(',')->allow_extra_args(false)->take_all();
  };
  list("--tasks", tasks_, "Tasks: passkey, needles, kv, var, copy, multi-turn, text, or all");
  list("--lengths", request_.grid.lengths, "Tokens of the contexts (512)");
  list("--budgets", request_.budgets,
       "What to keep: tokens per head and layer (128), fractions (0.25) or bytes (1MiB)");
  list("--question", questions_,
       "Where the question is when the context is compressed: outside, inside or both");
  app.add_option("--samples", request_.grid.samples, "Samples of a cell")->capture_default_str();
  app.add_option("--batch", request_.grid.batch, "Samples that run together")
      ->capture_default_str();
  app.add_option("--seed", request_.grid.seed, "Seed of the samples")->capture_default_str();
  app.add_option("--model", request_.model,
                 "A folder with a byte-level model, words.txt and heldout-*.txt; the bundled model "
                 "otherwise");
  app.add_option("--target", request_.target, "Where the methods run")->capture_default_str();
  app.add_option("--set", settings_,
                 "Set a parameter: NAME=VALUE for the methods that have it, METHOD:NAME=VALUE for "
                 "one")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--settings", settingsFile_,
                 "A JSON file with parameters by method; --set wins over it");
  app.add_flag("--require-fused", request_.requireFused, "Fail unless every kernel is fused");
  list("--artefacts", request_.artefacts,
       "Files that `kvasir calibrate` wrote, for methods that are calibrated otherwise");
  app.add_option("--journal", request_.journal,
                 "Keep finished work in this file, and continue from it");
  app.add_option("--html", html_, "Write a report with plots to this file");
}

Status EvalCommand::readGrid() {
  rt::EvalGrid &grid = request_.grid;
  if (tasks_ == std::vector<std::string>{"all"}) {
    grid.tasks = rt::allTasks();
    tasks_.clear();
  }
  for (const std::string &name : tasks_) {
    StatusOr<rt::Task> task = rt::taskNamed(name);
    if (!task.isOk()) {
      return Status::badInput("--tasks: " + task.status().message());
    }
    grid.tasks.push_back(*task);
  }
  for (const std::string &name : questions_) {
    if (name != "outside" && name != "inside") {
      return Status::badInput("--question " + name + ": expected outside or inside");
    }
    grid.questions.push_back(name == "inside" ? rt::QuestionPlace::Inside
                                              : rt::QuestionPlace::Outside);
  }
  if (grid.samples < 1 || grid.batch < 1) {
    return Status::badInput(fmt::format("--samples {} --batch {}: expected at least 1 of both",
                                        grid.samples, grid.batch));
  }
  return checkTarget(provider_, request_.target);
}

Status EvalCommand::chooseMethods() {
  for (const std::string &name : methods_) {
    if (name != "all") {
      request_.methods.push_back({name, {}});
      continue;
    }
    if (settingsFile_.empty()) {
      settingsFile_ = request_.model + "/settings.json";
    }
    for (const MethodSummary &shipped : provider_.shipped()) {
      request_.methods.push_back({shipped.name, {}});
    }
  }
  return Status::ok();
}

/// The settings file first, then --set.
Status EvalCommand::applySettings() {
  if (!settingsFile_.empty()) {
    StatusOr<Settings> fromFile = readSettings(settingsFile_, settingsText_);
    KVCACHE_RETURN_IF_ERROR(fromFile.status());
    for (MethodChoice &choice : request_.methods) {
      if (auto found = fromFile->find(choice.method); found != fromFile->end()) {
        choice.parameters = found->second;
      }
    }
  }
  std::map<std::string, std::map<std::string, std::string>> defaults;
  for (const MethodSummary &shipped : provider_.shipped()) {
    defaults[shipped.name] = shipped.parameters;
  }
  StatusOr<std::map<std::string, std::string>> values = parseSettings(settings_);
  KVCACHE_RETURN_IF_ERROR(values.status());
  for (const auto &[key, value] : *values) {
    size_t colon = key.find(':');
    std::string only = colon == std::string::npos ? "" : key.substr(0, colon);
    std::string parameter = colon == std::string::npos ? key : key.substr(colon + 1);
    bool taken = false;
    for (MethodChoice &choice : request_.methods) {
      // Of a method that is not shipped, only loading it tells what parameters it has.
      auto known = defaults.find(choice.method);
      bool has = known == defaults.end() || known->second.count(parameter) > 0;
      if (only.empty() ? has : only == choice.method) {
        choice.parameters[parameter] = value;
        taken = true;
      }
    }
    if (!taken) {
      return Status::badInput("--set " + key + "=" + value + ": " +
                              (only.empty()
                                   ? "no method given has the parameter '" + parameter + "'"
                                   : "method '" + only + "' is not evaluated"));
    }
  }
  return Status::ok();
}

Status EvalCommand::run(const CommonOptions &common, CommandReport &report) {
  KVCACHE_RETURN_IF_ERROR(readGrid());
  KVCACHE_RETURN_IF_ERROR(chooseMethods());
  KVCACHE_RETURN_IF_ERROR(applySettings());
  ReportData data;
  data.title = "Evaluation of KV-cache compression";
  data.argv = common.argv;
  data.settingsName = settingsFile_;
  data.settingsText = settingsText_;
  if (!settingsFile_.empty()) {
    printNote("settings", settingsFile_);
    fmt::print(stderr, "{}", settingsText_);
  }
  Status status = runEvaluation(provider_, request_, report, data);
  report.rows = evalRows(data);
  if (!data.cells.empty()) {
    Table table = evalTable(data);
    Table ranks = rankTable(data);
    fmt::print("{}", tableText(table));
    if (!ranks.rows.empty()) {
      fmt::print("\n{}", tableText(ranks));
    }
    if (!html_.empty()) {
      Status written = writeHtmlReport(html_, data, table, &ranks);
      status = status.isOk() ? written : status;
    }
  }
  return status.isOk() ? statusOf(data, request_.journal) : status;
}

} // namespace

std::unique_ptr<Command> makeEvalCommand(MethodProvider &provider) {
  return std::make_unique<EvalCommand>(provider);
}

} // namespace kvcache::tools
