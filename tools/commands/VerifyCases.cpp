// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A method is compiled once per geometry; each of its edge shapes runs on the reference and on
// every other target.

#include "tools/commands/VerifyCases.h"

#include "runtime/model/RopeFrequencies.h"
#include "tools/commands/RecordedCases.h"

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

/// The method for one geometry, calibrated on a generated text of its own.
StatusOr<std::unique_ptr<rt::Execution>> loadFor(MethodProvider &provider,
                                                 MethodArguments arguments,
                                                 const rt::Geometry &geometry,
                                                 const std::string &target) {
  arguments.target = target;
  arguments.requireFused = arguments.requireFused && target != "reference";
  arguments.products = target == "reference" ? "f32" : arguments.products;
  StatusOr<MethodRequest> request = makeRequest(arguments, provider, geometry);
  KVCACHE_RETURN_IF_ERROR(request.status());
  request->captureScores = true;
  StatusOr<std::unique_ptr<rt::Execution>> execution = provider.load(*request);
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

/// What `target` makes of a case, next to what the reference made of it.
Comparison compareCase(rt::Execution &target, CacheFile &file, const DumpSpec &spec,
                       const ApplyResult &expected, double tolerance) {
  Comparison comparison;
  StatusOr<ApplyResult> result = applyMethod(target, file, budgetOfCase(spec.budget, target), true);
  if (!result.isOk()) {
    comparison.status = Status::checkFailed(result.status().message());
    return comparison;
  }
  comparison = compareResults(*result, expected, target, tolerance);
  comparison.status = comparison.status.isOk() ? result->proof.check : comparison.status;
  return comparison;
}

Status verifyGroup(MethodProvider &provider, const MethodArguments &arguments,
                   const std::vector<std::string> &targets, const EdgeGroup &group,
                   const std::function<void()> &advance, std::vector<VerifyRow> &rows,
                   CommandReport &report, Status &status) {
  rt::Geometry geometry;
  geometry.layers = 2;
  geometry.kvHeads = 2;
  geometry.queryHeads = 2 * group.group;
  geometry.headDim = 64;
  geometry.act = group.act;
  geometry.ropeInvFreq = rt::ropeInverseFrequencies(64, 10000.0, nullptr);
  StatusOr<std::unique_ptr<rt::Execution>> reference =
      loadFor(provider, arguments, geometry, "reference");
  KVCACHE_RETURN_IF_ERROR(reference.status());
  std::vector<std::unique_ptr<rt::Execution>> others;
  for (const std::string &target : targets) {
    StatusOr<std::unique_ptr<rt::Execution>> other = loadFor(provider, arguments, geometry, target);
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
      VerifyRow row{arguments.method,
                    targets[i],
                    shape.name,
                    std::string(abi::nameOf(group.act)),
                    shape.spec,
                    group.group,
                    compareCase(*others[i], **file, shape.spec, *expected,
                                outputTolerance(geometry.act, arguments.integerProducts()))};
      if (status.isOk() && !row.comparison.status.isOk()) {
        status = Status::checkFailed("case '" + row.shape + "' (G=" + std::to_string(group.group) +
                                     ", " + row.act + ") on " + row.target + ": " +
                                     row.comparison.status.message());
      }
      report.rows.push_back(toJson(row));
      rows.push_back(std::move(row));
    }
    advance();
  }
  for (const std::unique_ptr<rt::Execution> &other : others) {
    Status fused =
        addKernels(*other, arguments.requireFused && other->target() != "reference", report);
    status = status.isOk() ? fused : status;
  }
  return Status::ok();
}

} // namespace

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

int64_t edgeCaseCount() {
  int64_t total = 0;
  for (const EdgeGroup &group : edgeGroups()) {
    total += static_cast<int64_t>(group.shapes.size());
  }
  return total;
}

Status verifyMethod(MethodProvider &provider, const MethodArguments &arguments,
                    const std::vector<std::string> &targets, const std::function<void()> &advance,
                    std::vector<VerifyRow> &rows, CommandReport &report) {
  Status status;
  for (const EdgeGroup &group : edgeGroups()) {
    KVCACHE_RETURN_IF_ERROR(
        verifyGroup(provider, arguments, targets, group, advance, rows, report, status));
  }
  return status;
}

Status verifyExecutable(const std::string &path, std::vector<VerifyRow> &rows,
                        CommandReport &report) {
  std::string method;
  StatusOr<std::vector<CheckedCase>> cases = checkCases(path, method, report.kernels);
  KVCACHE_RETURN_IF_ERROR(cases.status());
  Status status;
  for (const CheckedCase &one : *cases) {
    VerifyRow row;
    row.method = method;
    row.target = "cpu";
    row.shape = "recorded";
    row.spec = *DumpSpec::parse(one.name); // checkCases has parsed it
    row.comparison = one.comparison;
    report.rows.push_back(toJson(row));
    rows.push_back(row);
    status = status.isOk() ? one.comparison.status : status;
  }
  return status;
}

} // namespace kvcache::tools
