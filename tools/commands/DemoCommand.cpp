// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which methods run with which settings is in the settings file of the model; nothing here names
// one.

#include "tools/commands/DemoCommand.h"

#include "tools/commands/EvalRun.h"
#include "tools/commands/ModelInput.h"
#include "tools/report/EvalTable.h"
#include "tools/report/HtmlReport.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

class DemoCommand final : public Command {
public:
  DemoCommand(MethodProvider &provider, AttendTimer timer)
      : provider_(provider), timer_(std::move(timer)) {}

  const char *name() const override { return "demo"; }
  const char *summary() const override {
    return "Compare methods on the bundled model; writes report.html";
  }
  const char *example() const override { return "kvasir demo --html report.html"; }

  void declare(CLI::App &app) override {
    request_.grid.samples = 24;
    app.add_option("--html", html_, "Where the report goes")->capture_default_str();
    app.add_option("--samples", request_.grid.samples, "Samples of each task")
        ->capture_default_str();
    app.add_option("--seed", request_.grid.seed, "Seed of the samples")->capture_default_str();
    app.add_option("--journal", request_.journal,
                   "Keep finished work in this file, and continue from it");
  }

  Status run(const CommonOptions &common, CommandReport &report) override;

private:
  StatusOr<std::string> chooseMethods();
  Status timeMethods(ReportData &data);

  MethodProvider &provider_;
  AttendTimer timer_;
  std::string html_ = "report.html";
  EvalRequest request_;
};

/// The methods of the list "demo" of the settings file, each with its settings; without the list,
/// every shipped method. Returns the text of the file.
StatusOr<std::string> DemoCommand::chooseMethods() {
  std::string text, path = request_.model + "/settings.json";
  auto settings = readSettings(path, text);
  KVCACHE_RETURN_IF_ERROR(settings.status());
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  std::vector<std::string> names;
  if (json.contains("demo")) {
    for (const Json &name : json["demo"]) {
      if (!name.is_string()) {
        return Status::badInput(path + ": expected names of methods in the list 'demo', got " +
                                name.dump());
      }
      names.push_back(name.get<std::string>());
    }
  } else {
    for (const MethodSummary &shipped : provider_.shipped()) {
      names.push_back(shipped.name);
    }
  }
  for (const std::string &name : names) {
    auto found = settings->find(name);
    request_.methods.push_back(
        {name, found == settings->end() ? std::map<std::string, std::string>() : found->second});
  }
  return text;
}

Status DemoCommand::timeMethods(ReportData &data) {
  if (!timer_) {
    return Status::ok();
  }
  std::vector<TimedMethod> wanted;
  for (const ReportedMethod &method : data.methods) {
    wanted.push_back({method.name, {}});
    for (const MethodChoice &choice : request_.methods) {
      if (choice.method == method.name) {
        wanted.back().parameters = choice.parameters;
      }
    }
  }
  StatusOr<AttendTimings> timings = timer_(wanted);
  if (!timings.isOk()) {
    printNote("note", "methods are not timed: " + timings.status().message());
    for (ReportedMethod &method : data.methods) {
      method.timingMissing = timings.status().message();
    }
    return Status::ok();
  }
  data.timingGeometry = timings->setting;
  for (size_t i = 0; i < data.methods.size(); ++i) {
    const StatusOr<AttendTiming> &timing = timings->methods[i];
    if (timing.isOk()) {
      data.methods[i].timing = *timing;
    } else {
      data.methods[i].timingMissing = timing.status().message();
      printNote("note",
                "method '" + wanted[i].name + "' is not timed: " + timing.status().message());
    }
  }
  return Status::ok();
}

Status DemoCommand::run(const CommonOptions &common, CommandReport &report) {
  request_.model = bundledModel();
  request_.budgets = {"0.25"};
  request_.grid.tasks = {rt::Task::Text, rt::Task::Passkey, rt::Task::KeyValue};
  request_.grid.lengths = {512};
  request_.grid.questions = {rt::QuestionPlace::Outside, rt::QuestionPlace::Inside};
  request_.grid.attentionError = false;
  StatusOr<std::string> settings = chooseMethods();
  KVCACHE_RETURN_IF_ERROR(settings.status());
  ReportData data;
  data.title = "Kvasir: compression methods on one model";
  data.argv = common.argv;
  data.settingsName = request_.model + "/settings.json";
  data.settingsText = *settings;
  printNote("settings", data.settingsName);
  fmt::print(stderr, "{}", *settings);
  KVCACHE_RETURN_IF_ERROR(runEvaluation(provider_, request_, report, data));
  if (!data.interrupted) {
    KVCACHE_RETURN_IF_ERROR(timeMethods(data));
  }
  report.rows = demoRows(data);
  Table table = demoTable(data);
  fmt::print("{}", tableText(table));
  KVCACHE_RETURN_IF_ERROR(writeHtmlReport(html_, data, table));
  printNote("report", html_);
  return statusOf(data, request_.journal);
}

} // namespace

std::unique_ptr<Command> makeDemoCommand(MethodProvider &provider, AttendTimer timer) {
  return std::make_unique<DemoCommand>(provider, std::move(timer));
}

} // namespace kvcache::tools
