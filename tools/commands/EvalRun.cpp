// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loads, calibrates, evaluates.

#include "tools/commands/EvalRun.h"

#include "runtime/eval/CalibrationData.h"
#include "runtime/eval/ModelHash.h"
#include "runtime/io/AtomicFile.h"
#include "runtime/model/Tokens.h"
#include "tools/commands/ArtefactFile.h"
#include "tools/commands/Budget.h"
#include "tools/commands/HostInfo.h"
#include "tools/commands/Progress.h"
#include "tools/report/EvalTable.h"
#include "tools/report/Format.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <unistd.h>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

/// The name under which the baseline is shipped.
constexpr const char *baseline = "dense";

std::atomic<bool> interrupted{false};

void onInterrupt(int) {
  interrupted = true;
  const char text[] = "\nstopping after the current part; press again to end at once\n";
  (void)!write(STDERR_FILENO, text, sizeof text - 1);
}

/// While it lives, SIGINT sets a flag once; a second one ends the process as usual.
class InterruptGuard {
public:
  InterruptGuard() {
    interrupted = false;
    struct sigaction action = {};
    action.sa_handler = onInterrupt;
    action.sa_flags = SA_RESETHAND;
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptGuard() { sigaction(SIGINT, &before_, nullptr); }
  InterruptGuard(const InterruptGuard &) = delete;
  InterruptGuard &operator=(const InterruptGuard &) = delete;

private:
  struct sigaction before_ = {};
};

/// Bytes of a sequence that holds a recorded prompt, compressed to `tokens`.
StatusOr<int64_t> bytesWith(rt::Decoder &decoder, rt::Execution &execution,
                            const rt::PromptRecording &recording, int64_t tokens) {
  StatusOr<std::unique_ptr<rt::Sequence>> sequence =
      execution.createSequence({tokens, 0, recording.requests});
  KVCACHE_RETURN_IF_ERROR(sequence.status());
  rt::SequenceRun run;
  run.sequence = sequence->get();
  KVCACHE_RETURN_IF_ERROR(rt::feedPrompt(decoder, recording, execution, run));
  KVCACHE_RETURN_IF_ERROR(decoder.promptEnd(execution, {&run}));
  int64_t bytes = 0;
  for (int64_t layer = 0; layer < execution.geometry().layers; ++layer) {
    bytes += run.sequence->report(layer).bytesMeasured;
  }
  return bytes;
}

/// Equal prompts' lengths share one answer, so that notes and searches happen once. A share of 1.0
/// keeps what is decoded later, too: methods that hold their budget after every step would drop
/// tokens otherwise, and nothing would show that a method which drops nothing equals dense.
StatusOr<rt::EvalBudget> makeBudget(rt::Decoder &decoder, const std::string &text) {
  StatusOr<Budget> budget = parseBudget(text, "");
  KVCACHE_RETURN_IF_ERROR(budget.status());
  auto known = std::make_shared<std::map<std::pair<const rt::Execution *, int64_t>, int64_t>>();
  auto resolve = [&decoder, budget = *budget, known](rt::Execution &execution,
                                                     const rt::PromptRecording &recording,
                                                     int64_t fed) -> StatusOr<int64_t> {
    if (budget.kind == Budget::Kind::Fraction && budget.share == 1) {
      return recording.tokens + fed;
    }
    std::pair<const rt::Execution *, int64_t> key = {&execution, recording.tokens};
    if (auto found = known->find(key); found != known->end()) {
      return found->second;
    }
    StatusOr<int64_t> tokens =
        resolveBudget(budget, execution, recording.tokens, [&](int64_t count) {
          return bytesWith(decoder, execution, recording, count);
        });
    if (tokens.isOk()) {
      (*known)[key] = *tokens;
    }
    return tokens;
  };
  return rt::EvalBudget{text, resolve};
}

/// A file is shown by its name without folder and extension.
std::string shownName(const std::string &method) {
  std::filesystem::path path(method);
  return path.has_extension() && path.extension().string().find('+') == std::string::npos
             ? path.stem().string()
             : method;
}

class EvalRun {
public:
  EvalRun(MethodProvider &provider, const EvalRequest &request, CommandReport &report,
          ReportData &data)
      : provider_(provider), request_(request), report_(report), data_(data) {}

  Status run();

private:
  Status loadMethods();
  Status useArtefacts();
  Status evaluate();
  Status reportKernels();

  MethodProvider &provider_;
  const EvalRequest &request_;
  CommandReport &report_;
  ReportData &data_;
  std::unique_ptr<rt::Decoder> decoder_;
  rt::TaskMaterial material_;
  std::vector<std::unique_ptr<rt::Execution>> executions_;
  std::vector<rt::EvalMethod> methods_;                              ///< dense first
  std::map<std::string, std::map<std::string, std::string>> chosen_; ///< parameters, by name
};

Status EvalRun::loadMethods() {
  std::vector<MethodChoice> choices = request_.methods;
  auto dense = std::find_if(choices.begin(), choices.end(),
                            [](const MethodChoice &choice) { return choice.method == baseline; });
  if (dense == choices.end()) {
    choices.insert(choices.begin(), {baseline, {}});
  } else {
    std::rotate(choices.begin(), dense, dense + 1);
  }
  for (const MethodChoice &choice : choices) {
    MethodRequest request;
    request.method = choice.method;
    request.parameters = choice.parameters;
    request.geometry = decoder_->geometry(abi::ElementType::F16);
    request.target = request_.target;
    request.requireFused = request_.requireFused;
    StatusOr<std::unique_ptr<rt::Execution>> execution = provider_.load(request);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    std::string name = shownName(choice.method);
    for (const rt::EvalMethod &other : methods_) {
      if (other.name == name) {
        return Status::badInput("method '" + name + "' is given twice");
      }
    }
    methods_.push_back({name, execution->get()});
    chosen_[name] = choice.parameters;
    executions_.push_back(std::move(*execution));
  }
  KVCACHE_RETURN_IF_ERROR(useArtefacts());
  return rt::calibrateMethods(*decoder_, *methods_.front().execution, material_, request_.grid,
                              methods_);
}

/// Each file goes to the method whose hash it has.
Status EvalRun::useArtefacts() {
  for (const std::string &path : request_.artefacts) {
    StatusOr<std::string> hash = methodHashOfArtefacts(path);
    KVCACHE_RETURN_IF_ERROR(hash.status());
    auto method = std::find_if(methods_.begin(), methods_.end(), [&](const rt::EvalMethod &one) {
      return one.execution->methodHash() == *hash;
    });
    if (method == methods_.end() || !method->artefacts.empty()) {
      return Status::badInput("--artefacts " + path + ": " +
                              (method == methods_.end()
                                   ? "none of the methods has the hash " + *hash +
                                         ", made of its text and its parameters"
                                   : "method '" + method->name + "' has artefacts already"));
    }
    KVCACHE_RETURN_IF_ERROR(loadArtefacts(path, *method->execution, data_.modelHash));
    method->artefacts = checksumOfArtefacts(*method->execution);
  }
  for (const rt::EvalMethod &method : methods_) {
    std::string sources = rt::describeSources(*method.execution);
    if (method.artefacts.empty() && sources.empty()) {
      noteStatedArtefacts(*method.execution);
    } else if (method.artefacts.empty()) {
      printNote("note", "method '" + method.name + "' is calibrated on " + sources);
    }
  }
  return Status::ok();
}

Status EvalRun::evaluate() {
  rt::EvalGrid grid = request_.grid;
  for (const std::string &text : request_.budgets) {
    StatusOr<rt::EvalBudget> budget = makeBudget(*decoder_, text);
    KVCACHE_RETURN_IF_ERROR(budget.status());
    grid.budgets.push_back(std::move(*budget));
  }
  rt::Journal journal;
  if (!request_.journal.empty()) {
    KVCACHE_RETURN_IF_ERROR(journal.open(request_.journal));
  }
  std::unique_ptr<Progress> progress;
  double shown = 0;
  rt::EvalHooks hooks;
  hooks.cancel = &interrupted;
  hooks.progress = [&](const rt::EvalProgress &now) {
    if (!progress) {
      progress = std::make_unique<Progress>("evaluating", "tokens", std::llround(now.totalWork));
    }
    progress->advance(std::llround(now.doneWork - shown));
    shown = now.doneWork;
  };
  InterruptGuard guard;
  std::vector<rt::EvalMethod> others(methods_.begin() + 1, methods_.end());
  StatusOr<rt::EvalResult> result =
      rt::evaluate(*decoder_, material_, methods_.front(), others, grid,
                   data_.modelHash + " version=" + data_.version, journal, hooks);
  KVCACHE_RETURN_IF_ERROR(result.status());
  data_.cells = std::move(result->cells);
  data_.interrupted = result->interrupted;
  return Status::ok();
}

Status EvalRun::reportKernels() {
  Status status;
  for (const rt::EvalMethod &method : methods_) {
    Status fused = addKernels(*method.execution, request_.requireFused, report_);
    status = status.isOk() ? fused : status;
    ReportedMethod reported;
    reported.name = method.name;
    reported.settings = settingsText(chosen_[method.name]);
    reported.kernels = kernelStatusText(method.execution->kernels());
    data_.methods.push_back(reported);
  }
  return status;
}

Status EvalRun::run() {
  StatusOr<std::unique_ptr<rt::Decoder>> decoder = rt::Decoder::load(request_.model);
  KVCACHE_RETURN_IF_ERROR(decoder.status());
  decoder_ = std::move(*decoder);
  if (!rt::isByteLevel(decoder_->config())) {
    return Status::badInput(request_.model +
                            ": expected a byte-level model: the tasks are made of bytes");
  }
  StatusOr<rt::TaskMaterial> material = rt::TaskMaterial::load(request_.model);
  KVCACHE_RETURN_IF_ERROR(material.status());
  material_ = std::move(*material);
  StatusOr<std::string> hash = rt::modelHash(request_.model);
  KVCACHE_RETURN_IF_ERROR(hash.status());
  data_.model = request_.model;
  data_.modelHash = *hash;
  data_.version = KVASIR_VERSION;
  data_.host = hostInfo();
  data_.seed = report_.seed = request_.grid.seed;
  KVCACHE_RETURN_IF_ERROR(loadMethods());
  KVCACHE_RETURN_IF_ERROR(evaluate());
  return reportKernels();
}

} // namespace

Status runEvaluation(MethodProvider &provider, const EvalRequest &request, CommandReport &report,
                     ReportData &data) {
  return EvalRun(provider, request, report, data).run();
}

StatusOr<std::map<std::string, std::map<std::string, std::string>>>
readSettings(const std::string &path, std::string &text) {
  StatusOr<std::string> content = rt::readWholeFile(path);
  KVCACHE_RETURN_IF_ERROR(content.status());
  text = *content;
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("methods") || !json["methods"].is_object()) {
    return Status::badInput(path + ": expected a JSON object with an object 'methods'");
  }
  std::map<std::string, std::map<std::string, std::string>> settings;
  for (const auto &[method, parameters] : json["methods"].items()) {
    if (!parameters.is_object()) {
      return Status::badInput(path + ": expected an object of parameters for method '" + method +
                              "'");
    }
    settings[method];
    for (const auto &[name, value] : parameters.items()) {
      settings[method][name] = value.is_string() ? value.get<std::string>() : value.dump();
    }
  }
  return settings;
}

Status statusOf(const ReportData &data, const std::string &journal) {
  KVCACHE_RETURN_IF_ERROR(checkProof(data));
  if (data.interrupted) {
    return Status::unavailable(
        journal.empty() ? "interrupted: only finished cells are reported; --journal FILE would "
                          "let a second run continue"
                        : "interrupted: only finished cells are reported; the same command "
                          "continues from " +
                              journal);
  }
  return Status::ok();
}

} // namespace kvcache::tools
