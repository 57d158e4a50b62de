// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Options to request, file to result, result to file. Nothing is written unless all of it worked.

#include "tools/commands/ApplyCommand.h"

#include "tools/commands/ApplyFile.h"
#include "tools/commands/ArtefactFile.h"
#include "tools/commands/CompareResults.h"
#include "tools/commands/MethodArguments.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

class ApplyCommand final : public Command {
public:
  explicit ApplyCommand(MethodProvider &provider) : provider_(provider) {}

  const char *name() const override { return "apply"; }
  const char *summary() const override { return "Compress a dumped cache"; }
  const char *example() const override {
    return "kvasir apply method.mlir --kv dump.safetensors --budget 128 -o out.safetensors "
           "--verify";
  }

  void declare(CLI::App &app) override {
    arguments_.declare(app, provider_);
    app.add_option("--kv", input_, "The dumped cache, a safetensors file")->required();
    app.add_option("-o,--output", output_, "The compressed cache, a safetensors file")->required();
    app.add_option(
        "--budget", budget_,
        "What to keep: tokens per head and layer (512), a fraction (0.25) or bytes (64MiB)");
    app.add_option("--ratio", ratio_, "The share of tokens to drop (0.75), instead of --budget");
    app.add_option("--calib", calibration_, "A dump to calibrate from; the input itself otherwise");
    app.add_option("--artefacts", artefacts_,
                   "What `kvasir calibrate` wrote for this method, instead of calibrating");
    app.add_flag("--attend", attend_, "Attend with layers.{i}.queries over the compressed cache");
    app.add_flag("--verify", verify_, "Compare with the reference target");
  }

  Status run(const CommonOptions &common, CommandReport &report) override {
    StatusOr<Budget> budget = parseBudget(budget_, ratio_);
    KVCACHE_RETURN_IF_ERROR(budget.status());
    StatusOr<std::shared_ptr<CacheFile>> file = CacheFile::open(input_);
    KVCACHE_RETURN_IF_ERROR(file.status());
    if (!artefacts_.empty() && !calibration_.empty()) {
      return Status::badInput("expected --calib or --artefacts, got both");
    }
    std::shared_ptr<CacheFile> calibration;
    if (!calibration_.empty()) {
      StatusOr<std::shared_ptr<CacheFile>> opened = CacheFile::open(calibration_);
      KVCACHE_RETURN_IF_ERROR(opened.status());
      calibration = *opened;
    }
    for (const std::string &name : (*file)->unusedTensors()) {
      printNote("note", input_ + ": layers.*." + name + ": not used, no phase takes it");
    }
    if (attend_ && (*file)->attendRows() == 0) {
      return Status::badInput(input_ + ": layers.0.queries: missing, but --attend needs it");
    }
    StatusOr<MethodRequest> request =
        makeRequest(arguments_, provider_, (*file)->geometry(), (*file)->parameters());
    KVCACHE_RETURN_IF_ERROR(request.status());
    request->captureScores = true;
    request->anyQueryHeads = !(*file)->hasQueries();

    StatusOr<std::unique_ptr<rt::Execution>> execution =
        load(*request, calibration ? *calibration : **file, **file);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    StatusOr<ApplyResult> result = applyMethod(**execution, **file, *budget, attend_);
    KVCACHE_RETURN_IF_ERROR(result.status());
    ApplyRow row = describe(**execution, **file, *result);
    Status checked = addKernels(**execution, arguments_.requireFused, report);
    KVCACHE_RETURN_IF_ERROR(checked);
    if (verify_) {
      checked =
          verify(*request, calibration ? *calibration : **file, **file, *result, **execution, row);
    }
    checked = checked.isOk() ? result->proof.check : checked;
    report.rows.push_back(toJson(row));
    KVCACHE_RETURN_IF_ERROR(checked);
    KVCACHE_RETURN_IF_ERROR(writeResult(output_, **file, *result, row, report.kernels));
    fmt::print("{}", toText(row, report.kernels));
    if (common.verbose) {
      for (const auto &[name, value] : row.parameters) {
        printNote("parameter", name + " = " + value);
      }
    }
    return Status::ok();
  }

private:
  /// The method, calibrated from `calibration` where it has a calibrate phase, with the tables of `file`.
  StatusOr<std::unique_ptr<rt::Execution>>
  load(const MethodRequest &request, const CacheFile &calibration, const CacheFile &file) {
    StatusOr<std::unique_ptr<rt::Execution>> execution = provider_.load(request);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    KVCACHE_RETURN_IF_ERROR(loadTables(file.tensors(), **execution));
    bool calibrates = (*execution)->needsCalibration();
    if (!artefacts_.empty()) {
      KVCACHE_RETURN_IF_ERROR(loadArtefacts(artefacts_, **execution));
    } else if (calibrates) {
      if (calibration_.empty() && !warned_) {
        printNote("warning",
                  "the method is calibrated from the input itself; --calib FILE gives other data");
        warned_ = true;
      }
      KVCACHE_RETURN_IF_ERROR(calibrate(**execution, calibration));
    } else if (!calibration_.empty() && !warned_) {
      printNote("note",
                "method '" + request.method + "' has nothing to calibrate: --calib is not used");
      warned_ = true;
    }
    if (artefacts_.empty() && !calibrates && !noted_) {
      noteStatedArtefacts(**execution, &file.tensors());
      noted_ = true;
    }
    return execution;
  }

  Status verify(MethodRequest request, const CacheFile &calibration, const CacheFile &file,
                const ApplyResult &result, const rt::Execution &execution, ApplyRow &row) {
    std::vector<std::string> targets = provider_.targets();
    if (std::find(targets.begin(), targets.end(), "reference") == targets.end()) {
      return Status::badInput("--verify: this driver holds no reference target, expected `kvasir "
                              "apply --verify` or `kvasir-rt verify`");
    }
    request.target = "reference";
    const double tolerance = outputTolerance(request.geometry.act, request.integerProducts);
    request.requireFused = request.integerProducts = false;
    StatusOr<std::unique_ptr<rt::Execution>> reference = load(request, calibration, file);
    KVCACHE_RETURN_IF_ERROR(reference.status());
    // As resolved, so that a budget in bytes is the same number of tokens.
    Budget budget;
    budget.kind = result.budget < 0 ? Budget::Kind::None : Budget::Kind::Exact;
    budget.amount = result.budget;
    StatusOr<ApplyResult> expected = applyMethod(**reference, file, budget, attend_);
    KVCACHE_RETURN_IF_ERROR(expected.status());
    Comparison comparison = compareResults(result, *expected, execution, tolerance);
    row.boundarySwaps = comparison.boundarySwaps;
    row.verified = comparison.status.isOk();
    return comparison.status;
  }

  MethodProvider &provider_;
  MethodArguments arguments_;
  std::string input_, output_, budget_, ratio_, calibration_, artefacts_;
  bool attend_ = false, verify_ = false, warned_ = false, noted_ = false;
};

} // namespace

std::unique_ptr<Command> makeApplyCommand(MethodProvider &provider) {
  return std::make_unique<ApplyCommand>(provider);
}

} // namespace kvcache::tools
