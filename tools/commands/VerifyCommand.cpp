// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A method is compiled once per geometry; each of its edge shapes runs on the reference and on
// every other target. An executable is checked against the results recorded in it.

#include "tools/commands/VerifyCommand.h"

#include "runtime/model/RopeFrequencies.h"
#include "tools/commands/GeneratedDump.h"
#include "tools/commands/KvxProvider.h"
#include "tools/commands/MethodArguments.h"
#include "tools/commands/Progress.h"
#include "tools/commands/RecordedCases.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>

namespace kvcache::tools {

using abi::ElementType;
using rt::Status;
using rt::StatusOr;

namespace {

struct EdgeShape {
  const char *name;
  DumpSpec spec;
};

/// Query heads per KV head and element type of the cache, with the shapes that run there.
struct EdgeGroup {
  int64_t group;
  ElementType act;
  std::vector<EdgeShape> shapes;
};

const std::vector<EdgeGroup> &edgeGroups() {
  static const std::vector<EdgeGroup> groups = {
      {4,
       ElementType::F32,
       {{"above budget", {1, 150, 8, 0, 70}},
        {"below budget", {2, 40, 8, 0, 70}},
        {"at budget", {3, 70, 4, 0, 70}},
        {"one over", {4, 71, 0, 0, 70}},
        {"ties", {5, 120, 0, 8, 50}},
        {"one token", {6, 1, 4, 0, 4}},
        {"small budget", {7, 90, 6, 0, 5}}}},
      {1, ElementType::F32, {{"remainder", {8, 147, 9, 0, 67}}, {"one token", {9, 1, 2, 0, 1}}}},
      {4, ElementType::F16, {{"above budget", {10, 131, 8, 0, 66}}}},
      {1, ElementType::BF16, {{"above budget", {11, 131, 5, 0, 66}}}},
  };
  return groups;
}

struct VerifyRow {
  std::string method, target, shape, act;
  DumpSpec spec;
  int64_t group = 0;
  Comparison comparison;
};

Json toJson(const VerifyRow &row) {
  return {{"method", row.method},
          {"target", row.target},
          {"case", row.shape},
          {"group", row.group > 0 ? Json(row.group) : Json(nullptr)},
          {"act", row.act.empty() ? Json(nullptr) : Json(row.act)},
          {"tokens", row.spec.tokens},
          {"budget", row.spec.budget},
          {"steps", row.spec.steps},
          {"passed", row.comparison.status.isOk()},
          {"reason",
           row.comparison.status.isOk() ? Json(nullptr) : Json(row.comparison.status.message())},
          {"max_error", row.comparison.worstError},
          {"boundary_swaps", row.comparison.boundarySwaps}};
}

class VerifyCommand final : public Command {
public:
  explicit VerifyCommand(MethodProvider &provider) : provider_(provider) {}

  const char *name() const override { return "verify"; }
  const char *summary() const override {
    return "Compare targets with the reference on edge shapes";
  }
  const char *example() const override { return "kvasir verify method.mlir --targets all"; }

  void declare(CLI::App &app) override {
    app.add_option("METHOD", arguments_.method,
                   "A shipped method, A+B, a .mlir file, or a .kvx made with --record")
        ->required();
    app.add_option("--targets", targets_, "Targets to check, or all")
        ->delimiter(',')
        ->capture_default_str();
    arguments_.declareSettings(app);
  }

  Status run(const CommonOptions &common, CommandReport &report) override {
    report.seed = 1;
    if (isKvxName(arguments_.method)) {
      if (!arguments_.settings.empty()) {
        return Status::badInput(
            arguments_.method +
            ": --set: the parameters of an executable are bound when it is compiled");
      }
      return checkExecutable(report);
    }
    std::vector<std::string> known = provider_.targets();
    if (std::find(known.begin(), known.end(), "reference") == known.end()) {
      return Status::badInput("'" + arguments_.method +
                              "': expected a .kvx file made with `kvasir compile --record`");
    }
    if (targets_ == std::vector<std::string>{"all"}) {
      targets_ = known;
    }
    for (const std::string &target : targets_) {
      KVCACHE_RETURN_IF_ERROR(checkTarget(provider_, target));
    }
    int64_t total = 0;
    for (const EdgeGroup &group : edgeGroups()) {
      total += static_cast<int64_t>(group.shapes.size());
    }
    Status status;
    {
      Progress progress("verifying", "cases", total);
      for (const EdgeGroup &group : edgeGroups()) {
        KVCACHE_RETURN_IF_ERROR(checkGroup(group, progress, report, status));
      }
    }
    print(common, report, status);
    return status;
  }

private:
  Status checkExecutable(CommandReport &report) {
    std::string method;
    std::vector<rt::KernelReport> kernels;
    StatusOr<std::vector<CheckedCase>> cases = checkCases(arguments_.method, method, kernels);
    KVCACHE_RETURN_IF_ERROR(cases.status());
    report.kernels = kernels;
    Status status;
    for (const CheckedCase &one : *cases) {
      VerifyRow row;
      row.method = method;
      row.target = "cpu";
      row.shape = "recorded";
      row.spec = *DumpSpec::parse(one.name); // checkCases has parsed it
      row.comparison = one.comparison;
      rows_.push_back(row);
      report.rows.push_back(toJson(row));
      status = status.isOk() ? one.comparison.status : status;
    }
    print({}, report, status);
    return status;
  }

  /// The method for one geometry, calibrated on a generated text of its own.
  StatusOr<std::unique_ptr<rt::Execution>> load(const rt::Geometry &geometry,
                                                const std::string &target) {
    MethodArguments arguments = arguments_;
    arguments.target = target;
    arguments.requireFused = arguments_.requireFused && target != "reference";
    StatusOr<MethodRequest> request = makeRequest(arguments, provider_, geometry);
    KVCACHE_RETURN_IF_ERROR(request.status());
    request->captureScores = true;
    StatusOr<std::unique_ptr<rt::Execution>> execution = provider_.load(*request);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    if ((*execution)->needsCalibration()) {
      DumpSpec spec;
      spec.seed = 99;
      spec.tokens = 300;
      StatusOr<std::shared_ptr<CacheFile>> file = generateDump(spec, geometry);
      KVCACHE_RETURN_IF_ERROR(file.status());
      KVCACHE_RETURN_IF_ERROR(calibrate(**execution, **file));
    }
    return execution;
  }

  Status checkGroup(const EdgeGroup &group, Progress &progress, CommandReport &report,
                    Status &status) {
    rt::Geometry geometry;
    geometry.layers = 2;
    geometry.kvHeads = 2;
    geometry.queryHeads = 2 * group.group;
    geometry.headDim = 64;
    geometry.act = group.act;
    geometry.ropeInvFreq = rt::ropeInverseFrequencies(64, 10000.0, nullptr);
    StatusOr<std::unique_ptr<rt::Execution>> reference = load(geometry, "reference");
    KVCACHE_RETURN_IF_ERROR(reference.status());
    std::vector<std::unique_ptr<rt::Execution>> others;
    for (const std::string &target : targets_) {
      StatusOr<std::unique_ptr<rt::Execution>> other = load(geometry, target);
      KVCACHE_RETURN_IF_ERROR(other.status());
      others.push_back(std::move(*other));
    }
    for (const EdgeShape &shape : group.shapes) {
      StatusOr<std::shared_ptr<CacheFile>> file = generateDump(shape.spec, geometry);
      KVCACHE_RETURN_IF_ERROR(file.status());
      StatusOr<ApplyResult> expected =
          applyMethod(**reference, **file, budgetOfCase(shape.spec.budget, **reference), true);
      KVCACHE_RETURN_IF_ERROR(expected.status());
      for (size_t i = 0; i < others.size(); ++i) {
        VerifyRow row;
        row.method = arguments_.method;
        row.target = targets_[i];
        row.shape = shape.name;
        row.spec = shape.spec;
        row.group = group.group;
        row.act = std::string(abi::nameOf(group.act));
        StatusOr<ApplyResult> result =
            applyMethod(*others[i], **file, budgetOfCase(shape.spec.budget, *others[i]), true);
        if (result.isOk()) {
          row.comparison = compareResults(*result, *expected, *others[i]);
          row.comparison.status =
              row.comparison.status.isOk() ? result->proof.check : row.comparison.status;
        } else {
          row.comparison.status = Status::checkFailed(result.status().message());
        }
        if (status.isOk() && !row.comparison.status.isOk()) {
          status = Status::checkFailed(
              "case '" + row.shape + "' (G=" + std::to_string(group.group) + ", " + row.act +
              ") on " + row.target + ": " + row.comparison.status.message());
        }
        rows_.push_back(row);
        report.rows.push_back(toJson(row));
      }
      progress.advance();
    }
    for (const std::unique_ptr<rt::Execution> &other : others) {
      Status fused =
          addKernels(*other, arguments_.requireFused && other->target() != "reference", report);
      status = status.isOk() ? fused : status;
    }
    return Status::ok();
  }

  void print(const CommonOptions &common, const CommandReport &report, const Status &status) const {
    for (const VerifyRow &row : rows_) {
      fmt::print("{:<5} {:<10} {:<13} G={} {:<4} {}, largest error {:.2g}\n",
                 row.comparison.status.isOk() ? "pass" : "FAIL", row.target, row.shape,
                 row.group > 0 ? std::to_string(row.group) : "-", row.act, row.spec.str(),
                 row.comparison.worstError);
    }
    if (status.isOk()) {
      fmt::print("{} cases of {} agree with the reference\n", rows_.size(), arguments_.method);
    }
    if (common.verbose) {
      printNote("kernels", kernelStatusText(report.kernels));
    }
  }

  MethodProvider &provider_;
  MethodArguments arguments_;
  std::vector<std::string> targets_ = {"cpu"};
  std::vector<VerifyRow> rows_;
};

} // namespace

std::unique_ptr<Command> makeVerifyCommand(MethodProvider &provider) {
  return std::make_unique<VerifyCommand>(provider);
}

} // namespace kvcache::tools
