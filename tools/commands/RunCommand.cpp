// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text goes to stdout, the proof to stderr.

#include "tools/commands/RunCommand.h"

#include "runtime/eval/ModelHash.h"
#include "runtime/model/Tokens.h"
#include "tools/commands/ArtefactFile.h"
#include "tools/commands/MethodArguments.h"
#include "tools/commands/ModelInput.h"
#include "tools/commands/RequestTables.h"
#include "tools/commands/RunMethod.h"
#include "tools/commands/VerifyRun.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

class RunCommand final : public Command {
public:
  explicit RunCommand(MethodProvider &provider) : provider_(provider) {}

  const char *name() const override { return "run"; }
  const char *summary() const override { return "Generate text with a compressed cache"; }
  const char *example() const override {
    return "kvasir run method.mlir --prompt prompt.txt --budget 0.25 --max-new-tokens 64";
  }

  void declare(CLI::App &app) override {
    arguments_.declare(app, provider_);
    model_ = bundledModel();
    app.add_option("--model", model_,
                   "A model folder: config.json and *.safetensors; the bundled model otherwise");
    app.add_option("--prompt", prompts_, "A text file; repeat it for a batch")
        ->allow_extra_args(false)
        ->take_all();
    app.add_option("--tokens", tokens_,
                   "Token ids instead of text: JSON or safetensors I32, one or several sequences");
    app.add_option("--max-new-tokens", maxNewTokens_, "How many tokens to generate")
        ->capture_default_str();
    app.add_option(
        "--budget", budget_,
        "What to keep: tokens per head and layer (512), a fraction (0.25) or bytes (64MiB)");
    app.add_option("--ratio", ratio_, "The share of tokens to drop (0.75), instead of --budget");
    app.add_option("--calib", calibration_,
                   "A text file to calibrate from; the first prompt otherwise");
    app.add_option("--artefacts", artefacts_,
                   "What `kvasir calibrate` wrote for this method, instead of calibrating");
    app.add_option(
           "--request", requests_,
           "A table that comes with the prompt, NAME=NUMBER,NUMBER,..; repeat it for several")
        ->allow_extra_args(false)
        ->take_all();
    app.add_flag("--verify", verify_,
                 "Compare with a run of the same prompts by the reference target alone");
  }

  Status run(const CommonOptions &common, CommandReport &report) override {
    StatusOr<Budget> budget = parseBudget(budget_, ratio_);
    KVCACHE_RETURN_IF_ERROR(budget.status());
    if (maxNewTokens_ < 1) {
      return Status::badInput(
          fmt::format("--max-new-tokens {}: expected at least 1", maxNewTokens_));
    }
    if (prompts_.empty() == tokens_.empty()) {
      return Status::badInput("expected --prompt FILE or --tokens FILE, got " +
                              std::string(prompts_.empty() ? "neither" : "both"));
    }
    if (!artefacts_.empty() && !calibration_.empty()) {
      return Status::badInput("expected --calib or --artefacts, got both");
    }
    StatusOr<std::unique_ptr<rt::Decoder>> decoder = rt::Decoder::load(model_);
    KVCACHE_RETURN_IF_ERROR(decoder.status());
    StatusOr<std::vector<NamedPrompt>> prompts = readPrompts(**decoder);
    KVCACHE_RETURN_IF_ERROR(prompts.status());
    StatusOr<rt::RequestTables> tables = parseRequestTables(requests_);
    KVCACHE_RETURN_IF_ERROR(tables.status());
    for (NamedPrompt &prompt : *prompts) {
      KVCACHE_RETURN_IF_ERROR(checkRequestTables(
          *tables, static_cast<int64_t>(prompt.tokens.size()), prompt.name + ": --request "));
      prompt.requests = *tables;
      addKnownTables((*decoder)->config(), prompt.requests);
    }
    StatusOr<MethodRequest> request =
        makeRequest(arguments_, provider_, (*decoder)->geometry(abi::ElementType::F16));
    KVCACHE_RETURN_IF_ERROR(request.status());
    request->captureScores = verify_;
    StatusOr<std::unique_ptr<rt::Execution>> execution = load(*request, **decoder, *prompts);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    StatusOr<std::vector<RunRow>> rows =
        runMethod(**decoder, **execution, *prompts, {*budget, maxNewTokens_});
    KVCACHE_RETURN_IF_ERROR(rows.status());
    Status checked = addKernels(**execution, arguments_.requireFused, report);
    if (verify_ && checked.isOk()) {
      checked = verify(*request, **decoder, **execution, *prompts, *rows);
    }
    print(*rows, common, checked, report);
    return checked;
  }

private:
  StatusOr<std::vector<NamedPrompt>> readPrompts(const rt::Decoder &decoder) {
    std::vector<NamedPrompt> prompts;
    for (const std::string &path : prompts_) {
      StatusOr<std::vector<int32_t>> tokens = readPrompt(path, decoder.config(), model_);
      KVCACHE_RETURN_IF_ERROR(tokens.status());
      prompts.push_back({path, std::move(*tokens)});
    }
    if (!tokens_.empty()) {
      StatusOr<std::vector<std::vector<int32_t>>> sequences =
          rt::readTokenFile(tokens_, decoder.config().vocabSize);
      KVCACHE_RETURN_IF_ERROR(sequences.status());
      for (size_t i = 0; i < sequences->size(); ++i) {
        prompts.push_back({sequences->size() == 1 ? tokens_ : fmt::format("{}[{}]", tokens_, i),
                           std::move((*sequences)[i])});
      }
    }
    return prompts;
  }

  StatusOr<std::unique_ptr<rt::Execution>> load(const MethodRequest &request, rt::Decoder &decoder,
                                                const std::vector<NamedPrompt> &prompts) {
    StatusOr<std::unique_ptr<rt::Execution>> execution = provider_.load(request);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    if (!artefacts_.empty()) {
      StatusOr<std::string> hash = rt::modelHash(model_);
      KVCACHE_RETURN_IF_ERROR(hash.status());
      KVCACHE_RETURN_IF_ERROR(loadArtefacts(artefacts_, **execution, *hash));
      return execution;
    }
    if (!(*execution)->needsCalibration()) {
      if (!calibration_.empty() && !warned_) {
        printNote("note",
                  "method '" + request.method + "' has nothing to calibrate: --calib is not used");
      }
      if (!warned_) {
        noteStatedArtefacts(**execution);
      }
      warned_ = true;
      return execution;
    }
    std::vector<int32_t> tokens = prompts.at(0).tokens;
    if (!calibration_.empty()) {
      StatusOr<std::vector<int32_t>> read = readPrompt(calibration_, decoder.config(), model_);
      KVCACHE_RETURN_IF_ERROR(read.status());
      tokens = std::move(*read);
    } else if (!warned_) {
      printNote("warning",
                "the method is calibrated from the prompt itself; --calib FILE gives other data");
    }
    warned_ = true;
    KVCACHE_RETURN_IF_ERROR(calibrateFromTokens(**execution, decoder, provider_, tokens));
    return execution;
  }

  Status verify(MethodRequest request, rt::Decoder &decoder, rt::Execution &execution,
                const std::vector<NamedPrompt> &prompts, std::vector<RunRow> &rows) {
    std::vector<std::string> targets = provider_.targets();
    if (std::find(targets.begin(), targets.end(), "reference") == targets.end()) {
      return Status::badInput("--verify: this driver holds no reference target, expected `kvasir "
                              "run --verify` or `kvasir-rt verify`");
    }
    request.target = "reference";
    request.requireFused = request.integerProducts = false;
    StatusOr<std::unique_ptr<rt::Execution>> reference = load(request, decoder, prompts);
    KVCACHE_RETURN_IF_ERROR(reference.status());
    return verifyRun(decoder, execution, **reference, prompts, rows);
  }

  /// Also folds a failed proof into `checked`.
  void print(std::vector<RunRow> &rows, const CommonOptions &common, Status &checked,
             CommandReport &report) {
    for (RunRow &row : rows) {
      row.model = model_;
      checked = checked.isOk() ? row.proof.check : checked;
      report.rows.push_back(toJson(row));
      if (rows.size() > 1) {
        fmt::print("==> {} <==\n", row.prompt);
      }
      fmt::print("{}\n", row.text.empty() ? Json(row.newTokens).dump() : row.text);
    }
    std::fflush(stdout);
    for (const RunRow &row : rows) {
      fmt::print(stderr, "{}", toText(row, report.kernels));
      for (size_t layer = 0; common.verbose && layer < row.proof.keptTokens.size(); ++layer) {
        fmt::print(stderr, "layer {:<3}       kept {}\n", layer,
                   fmt::join(row.proof.keptTokens[layer], " "));
      }
    }
  }

  MethodProvider &provider_;
  MethodArguments arguments_;
  std::string model_, tokens_, budget_, ratio_, calibration_, artefacts_;
  std::vector<std::string> prompts_, requests_;
  int64_t maxNewTokens_ = 64;
  bool verify_ = false, warned_ = false;
};

} // namespace

std::unique_ptr<Command> makeRunCommand(MethodProvider &provider) {
  return std::make_unique<RunCommand>(provider);
}

} // namespace kvcache::tools
