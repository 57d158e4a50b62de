// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A case is stored as its generator's text and the output file of `apply` on the reference.

#include "tools/commands/RecordedCases.h"

#include "runtime/exec/Executor.h"
#include "runtime/exec/Kvx.h"
#include "runtime/io/AtomicFile.h"
#include "tools/commands/ApplyFile.h"
#include "tools/commands/GeneratedDump.h"

#include <filesystem>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

/// More than the budget with steps, and less.
const DumpSpec recordedSpecs[] = {{11, 90, 6, 0, 70}, {12, 40, 3, 0, 70}};

/// Removes a temporary file.
struct FileRemover {
  std::string path;
  ~FileRemover() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

/// How many heads a layer of a result has: KV heads, or query heads where each has rows of its own.
int64_t headsOf(const rt::SafetensorsFile &file, int64_t layer) {
  std::string name = "layers." + std::to_string(layer) + ".indices";
  if (const rt::TensorView *together = file.find(name)) {
    return together->shape.empty() ? 0 : together->shape[0];
  }
  int64_t heads = 0;
  while (file.find(name + "." + std::to_string(heads)) != nullptr) {
    ++heads;
  }
  return heads;
}

/// The per-head tensors of one layer, stored together or one by one.
class LayerReader {
public:
  LayerReader(const rt::SafetensorsFile &file, int64_t layer, int64_t heads)
      : file_(file), prefix_("layers." + std::to_string(layer) + "."), heads_(heads) {}

  Status integers(const std::string &name, std::vector<rt::HeadContents> &to,
                  std::vector<int32_t> rt::HeadContents::*field) {
    for (int64_t head = 0; head < heads_; ++head) {
      bool together = file_.find(prefix_ + name) != nullptr;
      StatusOr<std::vector<int64_t>> values =
          together ? file_.readI64(prefix_ + name, {heads_, -1})
                   : file_.readI64(prefix_ + name + "." + std::to_string(head), {-1});
      KVCACHE_RETURN_IF_ERROR(values.status());
      auto [begin, end] = part(*values, together, head);
      (to[head].*field).assign(values->begin() + begin, values->begin() + end);
    }
    return Status::ok();
  }

  /// Leaves `to` alone when the file has no such tensor and `optional`.
  Status floats(const std::string &name, int64_t head, bool optional, std::vector<float> &to) {
    std::string whole = prefix_ + name, own = whole + "." + std::to_string(head);
    bool together = file_.find(whole) != nullptr;
    const rt::TensorView *view = file_.find(together ? whole : own);
    if (view == nullptr && optional) {
      return Status::ok();
    }
    StatusOr<std::vector<float>> values = file_.readF32(
        together ? whole : own, std::vector<int64_t>(view == nullptr ? 1 : view->shape.size(), -1));
    KVCACHE_RETURN_IF_ERROR(values.status());
    auto [begin, end] = part(*values, together, head);
    to.assign(values->begin() + begin, values->begin() + end);
    return Status::ok();
  }

  Status whole(const std::string &name, std::vector<float> &to) {
    const rt::TensorView *view = file_.find(prefix_ + name);
    if (view == nullptr) {
      return Status::ok();
    }
    StatusOr<std::vector<float>> values = file_.readF32(prefix_ + name, view->shape);
    KVCACHE_RETURN_IF_ERROR(values.status());
    to = std::move(*values);
    return Status::ok();
  }

private:
  template <typename T>
  std::pair<int64_t, int64_t> part(const std::vector<T> &values, bool together,
                                   int64_t head) const {
    int64_t size = static_cast<int64_t>(values.size());
    return together ? std::pair{head * (size / heads_), (head + 1) * (size / heads_)}
                    : std::pair{int64_t(0), size};
  }

  const rt::SafetensorsFile &file_;
  std::string prefix_;
  int64_t heads_;
};

StatusOr<std::string> resultBytes(rt::Execution &execution, const DumpSpec &spec) {
  StatusOr<std::shared_ptr<CacheFile>> file = generateDump(spec, execution.geometry());
  KVCACHE_RETURN_IF_ERROR(file.status());
  StatusOr<ApplyResult> result =
      applyMethod(execution, **file, budgetOfCase(spec.budget, execution), true);
  KVCACHE_RETURN_IF_ERROR(result.status());
  StatusOr<std::string> path = temporaryPath();
  KVCACHE_RETURN_IF_ERROR(path.status());
  FileRemover remover{*path};
  KVCACHE_RETURN_IF_ERROR(
      writeResult(*path, **file, *result, describe(execution, **file, *result), {}));
  return rt::readWholeFile(*path);
}

} // namespace

Budget budgetOfCase(int64_t tokens, const rt::Execution &execution) {
  Budget budget;
  if (execution.hasTokenBudget()) {
    budget.kind = Budget::Kind::Exact;
    budget.amount = tokens;
  }
  return budget;
}

StatusOr<ApplyResult> readResult(const std::string &path, const rt::Geometry &geometry) {
  StatusOr<std::shared_ptr<rt::SafetensorsFile>> file = rt::SafetensorsFile::open(path);
  KVCACHE_RETURN_IF_ERROR(file.status());
  ApplyResult result;
  for (int64_t layer = 0; layer < geometry.layers; ++layer) {
    int64_t heads = headsOf(**file, layer);
    LayerReader reader(**file, layer, heads);
    LayerResult read;
    read.heads.resize(static_cast<size_t>(heads));
    read.scores.resize(static_cast<size_t>(heads));
    KVCACHE_RETURN_IF_ERROR(reader.integers("indices", read.heads, &rt::HeadContents::source));
    KVCACHE_RETURN_IF_ERROR(reader.integers("pos", read.heads, &rt::HeadContents::positions));
    for (int64_t head = 0; head < heads; ++head) {
      KVCACHE_RETURN_IF_ERROR(reader.floats("k", head, false, read.heads[head].k));
      KVCACHE_RETURN_IF_ERROR(reader.floats("v", head, false, read.heads[head].v));
      KVCACHE_RETURN_IF_ERROR(reader.floats("counts", head, true, read.heads[head].counts));
      KVCACHE_RETURN_IF_ERROR(reader.floats("scores", head, true, read.scores[head]));
    }
    KVCACHE_RETURN_IF_ERROR(reader.whole("step.out", read.stepOut));
    KVCACHE_RETURN_IF_ERROR(reader.whole("out", read.out));
    KVCACHE_RETURN_IF_ERROR(reader.whole("lse", read.lse));
    result.layers.push_back(std::move(read));
  }
  return result;
}

Status recordCases(MethodProvider &provider, MethodRequest request,
                   const std::function<Status(rt::Execution &)> &calibrated,
                   proto::Executable &executable) {
  const bool integerProducts = request.integerProducts;
  request.target = "reference";
  request.integerProducts = false;
  request.captureScores = true;
  StatusOr<std::unique_ptr<rt::Execution>> reference = provider.load(request);
  KVCACHE_RETURN_IF_ERROR(reference.status());
  if ((*reference)->needsCalibration()) {
    KVCACHE_RETURN_IF_ERROR(calibrated(**reference));
  }
  for (const DumpSpec &spec : recordedSpecs) {
    StatusOr<std::string> bytes = resultBytes(**reference, spec);
    KVCACHE_RETURN_IF_ERROR(bytes.status());
    proto::Vector *vector = executable.add_vectors();
    vector->set_seed_text(spec.str());
    vector->set_name("apply");
    vector->set_expected(*bytes);
    vector->set_tolerance(outputTolerance(request.geometry.act, integerProducts));
  }
  return Status::ok();
}

StatusOr<std::vector<CheckedCase>> checkCases(const std::string &path, std::string &method,
                                              std::vector<rt::KernelReport> &kernels) {
  rt::CompiledOptions options;
  options.captureScores = true;
  StatusOr<std::unique_ptr<rt::CompiledExecution>> execution =
      rt::CompiledExecution::open(path, options);
  KVCACHE_RETURN_IF_ERROR(execution.status());
  const proto::Executable &message = (*execution)->message();
  if (message.vectors_size() == 0) {
    return Status::badInput(
        path +
        ": holds no recorded results, expected an executable made with `kvasir compile --record`");
  }
  method = (*execution)->methodName();
  std::vector<CheckedCase> checked;
  for (const proto::Vector &vector : message.vectors()) {
    StatusOr<DumpSpec> spec = DumpSpec::parse(vector.seed_text());
    if (!spec.isOk() || vector.name() != "apply") {
      return Status::badInput(path + ": " +
                              (spec.isOk() ? "unknown recorded result '" + vector.name() + "'"
                                           : spec.status().message()));
    }
    StatusOr<std::string> expectedPath = temporaryPath();
    KVCACHE_RETURN_IF_ERROR(expectedPath.status());
    FileRemover remover{*expectedPath};
    KVCACHE_RETURN_IF_ERROR(rt::writeFileAtomically(*expectedPath, vector.expected()));
    StatusOr<ApplyResult> expected = readResult(*expectedPath, (*execution)->geometry());
    if (!expected.isOk()) {
      return Status::badInput(path + ": recorded case '" + vector.seed_text() +
                              "' is damaged: " + expected.status().message());
    }
    StatusOr<std::shared_ptr<CacheFile>> file = generateDump(*spec, (*execution)->geometry());
    KVCACHE_RETURN_IF_ERROR(file.status());
    StatusOr<ApplyResult> result =
        applyMethod(**execution, **file, budgetOfCase(spec->budget, **execution), true);
    KVCACHE_RETURN_IF_ERROR(result.status());
    checked.push_back(
        {vector.seed_text(), compareResults(*result, *expected, **execution,
                                            std::min(vector.tolerance(), largestTolerance))});
  }
  kernels = (*execution)->kernels();
  return checked;
}

} // namespace kvcache::tools
