// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Samples to search on, samples to check with, and a file of artefacts in the end. What is found is
// compared with equal budgets on samples that the search has not seen.

#include "tools/commands/SearchCommand.h"

#include "runtime/Artefacts.h"
#include "runtime/eval/ModelHash.h"
#include "tools/commands/ArtefactFile.h"
#include "tools/commands/BudgetSearch.h"
#include "tools/commands/MethodArguments.h"
#include "tools/commands/ModelInput.h"
#include "tools/commands/Progress.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

class SearchCommand final : public Command {
public:
  explicit SearchCommand(MethodProvider &provider) : provider_(provider) {}

  const char *name() const override { return "search"; }
  const char *summary() const override { return "Search budgets of layers on tasks of a model"; }
  const char *example() const override {
    return "kvasir search method.mlir --budget 64 --journal search.jsonl -o budgets.safetensors";
  }

  void declare(CLI::App &app) override {
    arguments_.declare(app, provider_);
    model_ = bundledModel();
    app.add_option("--model", model_,
                   "A model folder: config.json and *.safetensors; the bundled model otherwise");
    app.add_option("--budget", options_.target, "Tokens per head, the mean over layers")
        ->required();
    app.add_option("--artefact", artefact_,
                   "Which artefact, where several have a number per layer");
    app.add_option("--tasks", tasks_, "Tasks, as for eval (passkey, kv)")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->take_all();
    app.add_option("--length", length_, "Tokens of the contexts")->capture_default_str();
    app.add_option("--samples", samples_, "Samples of a task")->capture_default_str();
    app.add_option("--group", options_.group, "Layers that are searched together")
        ->capture_default_str();
    app.add_option("--generations", options_.generations, "Generations of a group")
        ->capture_default_str();
    app.add_option("--sigma", options_.sigma, "First step, relative to the budget")
        ->capture_default_str();
    app.add_option("--seed", options_.seed, "Seed of samples and candidates")
        ->capture_default_str();
    app.add_option("--journal", journal_, "Keep scores in this file, and continue from it");
    app.add_option("-o,--output", output_, "The artefacts, a safetensors file")->required();
  }

  Status run(const CommonOptions &, CommandReport &report) override;

private:
  Status check() const;
  Status load();
  Status chooseArtefact();
  StatusOr<std::vector<rt::Batch>> batches(uint64_t seed);
  Status describe(const BudgetSearchResult &result, double equal, double found,
                  CommandReport &report);

  MethodProvider &provider_;
  MethodArguments arguments_;
  std::string model_, artefact_, journal_, output_;
  std::vector<std::string> tasks_;
  int64_t length_ = 512, samples_ = 12;
  size_t index_ = 0;
  BudgetSearchOptions options_;
  std::unique_ptr<rt::Decoder> decoder_;
  std::unique_ptr<rt::Execution> dense_, method_;
  rt::TaskMaterial material_;
};

Status SearchCommand::check() const {
  const std::pair<const char *, int64_t> counts[] = {{"--budget", options_.target},
                                                     {"--samples", samples_},
                                                     {"--group", options_.group},
                                                     {"--generations", options_.generations}};
  for (auto [option, count] : counts) {
    if (count < 1) {
      return Status::badInput(
          fmt::format("{}: expected a number of at least 1, got {}", option, count));
    }
  }
  if (!(options_.sigma > 0)) {
    return Status::badInput(
        fmt::format("--sigma: expected a number above 0, got {}", options_.sigma));
  }
  if (options_.target > length_) {
    return Status::badInput(fmt::format("--budget {}: expected at most the {} tokens of --length",
                                        options_.target, length_));
  }
  return Status::ok();
}

Status SearchCommand::load() {
  StatusOr<std::unique_ptr<rt::Decoder>> decoder = rt::Decoder::load(model_);
  KVCACHE_RETURN_IF_ERROR(decoder.status());
  decoder_ = std::move(*decoder);
  StatusOr<rt::TaskMaterial> material = rt::TaskMaterial::load(model_);
  KVCACHE_RETURN_IF_ERROR(material.status());
  material_ = std::move(*material);
  StatusOr<MethodRequest> request =
      makeRequest(arguments_, provider_, decoder_->geometry(abi::ElementType::F16));
  KVCACHE_RETURN_IF_ERROR(request.status());
  StatusOr<std::unique_ptr<rt::Execution>> method = provider_.load(*request);
  KVCACHE_RETURN_IF_ERROR(method.status());
  method_ = std::move(*method);
  request->method = "dense";
  request->parameters.clear();
  StatusOr<std::unique_ptr<rt::Execution>> dense = provider_.load(*request);
  KVCACHE_RETURN_IF_ERROR(dense.status());
  dense_ = std::move(*dense);
  return method_->hasTokenBudget() ? chooseArtefact()
                                   : Status::badInput("method '" + arguments_.method +
                                                      "' has no token budget to search for");
}

Status SearchCommand::chooseArtefact() {
  std::vector<std::string> names;
  std::vector<rt::ArtefactShape> shapes = method_->artefactHolder()
                                              ? method_->artefactHolder()->artefactShapes()
                                              : std::vector<rt::ArtefactShape>();
  for (size_t i = 0; i < shapes.size(); ++i) {
    bool fits = shapes[i].dims == std::vector<int64_t>{method_->geometry().layers};
    if (fits && (artefact_.empty() || artefact_ == shapes[i].name)) {
      names.push_back(shapes[i].name);
      index_ = i;
    }
  }
  if (names.size() != 1 || method_->needsCalibration()) {
    return Status::badInput(
        fmt::format("method '{}': expected one artefact{} of type tensor<layer:L, f32> that a file "
                    "may give, got {}",
                    arguments_.method, artefact_.empty() ? "" : " '" + artefact_ + "'",
                    names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "))));
  }
  artefact_ = names.front();
  return Status::ok();
}

StatusOr<std::vector<rt::Batch>> SearchCommand::batches(uint64_t seed) {
  std::vector<rt::Batch> made;
  rt::RecordOptions record;
  record.queryRows = method_->neededQueryRows();
  record.preRopeKeys = method_->needsPreRopeKeys();
  for (const std::string &name : tasks_) {
    StatusOr<rt::Task> task = rt::taskNamed(name);
    KVCACHE_RETURN_IF_ERROR(task.status());
    std::vector<rt::Sample> samples;
    for (int64_t i = 0; i < samples_; ++i) {
      StatusOr<rt::Sample> sample = rt::makeSample(material_, *task, length_, seed, i);
      KVCACHE_RETURN_IF_ERROR(sample.status());
      samples.push_back(rt::questionInside(std::move(*sample)));
    }
    StatusOr<rt::Batch> batch = rt::prefillBatch(*decoder_, *dense_, std::move(samples), record);
    KVCACHE_RETURN_IF_ERROR(batch.status());
    KVCACHE_RETURN_IF_ERROR(rt::runReference(*decoder_, *dense_, *batch, /*attention=*/false));
    made.push_back(std::move(*batch));
  }
  return made;
}

Status SearchCommand::run(const CommonOptions &, CommandReport &report) {
  KVCACHE_RETURN_IF_ERROR(check());
  if (tasks_.empty()) {
    tasks_ = {"passkey", "kv"};
  }
  KVCACHE_RETURN_IF_ERROR(load());
  StatusOr<std::string> hash = rt::modelHash(model_);
  KVCACHE_RETURN_IF_ERROR(hash.status());
  rt::Journal journal;
  if (!journal_.empty()) {
    KVCACHE_RETURN_IF_ERROR(journal.open(journal_));
  }
  options_.longest = length_;
  options_.key = fmt::format("model={} method={} target={} tasks={} length={} samples={} seed={}",
                             *hash, method_->methodHash(), method_->target(),
                             fmt::join(tasks_, ","), length_, samples_, options_.seed);
  for (const auto &[name, value] : method_->parameters()) {
    options_.key += " " + name + "=" + value;
  }
  StatusOr<std::vector<rt::Batch>> seen = batches(options_.seed);
  KVCACHE_RETURN_IF_ERROR(seen.status());
  std::unique_ptr<Progress> progress;
  options_.progress = [&] { progress->advance(); };
  BudgetSearch search(*decoder_, *method_, index_, *seen, journal, options_);
  progress = std::make_unique<Progress>("search", "candidates", search.candidates());
  StatusOr<BudgetSearchResult> result = search.run();
  KVCACHE_RETURN_IF_ERROR(result.status());
  progress.reset();
  StatusOr<std::vector<rt::Batch>> fresh = batches(options_.seed + 1);
  KVCACHE_RETURN_IF_ERROR(fresh.status());
  StatusOr<double> equal = search.score(result->start.budgets, *fresh, "checked-on");
  KVCACHE_RETURN_IF_ERROR(equal.status());
  StatusOr<double> found = search.score(result->best.budgets, *fresh, "checked-on");
  KVCACHE_RETURN_IF_ERROR(found.status());
  KVCACHE_RETURN_IF_ERROR(addKernels(*method_, arguments_.requireFused, report));
  KVCACHE_RETURN_IF_ERROR(saveArtefacts(
      output_, *method_,
      {fmt::format("search {} budget={}", options_.key, options_.target), "", options_.seed}));
  return describe(*result, *equal, *found, report);
}

Status SearchCommand::describe(const BudgetSearchResult &result, double equal, double found,
                               CommandReport &report) {
  fmt::print("{}: {}.{} = {}\n", output_, method_->methodName(), artefact_,
             fmt::join(result.best.budgets, " "));
  fmt::print("candidates {}  right: equal {:.3f}, found {:.3f}; on other samples: equal {:.3f}, "
             "found {:.3f}\n",
             result.evaluated, result.start.score, result.best.score, equal, found);
  report.seed = options_.seed;
  report.rows.push_back({{"method", method_->methodName()},
                         {"params", method_->parameters()},
                         {"target", method_->target()},
                         {"method_hash", method_->methodHash()},
                         {"output", output_},
                         {"artefact", artefact_},
                         {"tasks", tasks_},
                         {"length", length_},
                         {"samples", samples_},
                         {"budget", options_.target},
                         {"candidates", result.evaluated},
                         {"values", result.best.budgets},
                         {"score_equal", result.start.score},
                         {"score_found", result.best.score},
                         {"objective_equal", result.start.objective},
                         {"objective_found", result.best.objective},
                         {"other_score_equal", equal},
                         {"other_score_found", found}});
  return Status::ok();
}

} // namespace

std::unique_ptr<Command> makeSearchCommand(MethodProvider &provider) {
  return std::make_unique<SearchCommand>(provider);
}

} // namespace kvcache::tools
