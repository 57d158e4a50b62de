// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Files appear whole or not at all. An executable that is calibrated here carries its artefacts.

#include "tools/commands/CompileCommand.h"

#include "runtime/exec/Executor.h"
#include "runtime/exec/Kvx.h"
#include "runtime/io/AtomicFile.h"
#include "runtime/model/ModelConfig.h"
#include "runtime/model/RopeFrequencies.h"
#include "tools/commands/ApplyMethod.h"
#include "tools/commands/ArtefactFile.h"
#include "tools/commands/MethodArguments.h"
#include "tools/commands/ModelInput.h"
#include "tools/commands/RecordedCases.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

StatusOr<rt::Geometry> chooseGeometry(const std::string &geometry, const std::string &model,
                                      int64_t *tokens) {
  rt::Geometry chosen;
  if (geometry.empty() || !model.empty()) {
    StatusOr<rt::ModelConfig> config =
        rt::ModelConfig::load(model.empty() ? bundledModel() : model);
    KVCACHE_RETURN_IF_ERROR(config.status());
    chosen = config->geometry(abi::ElementType::F16);
  }
  if (geometry.empty()) {
    return chosen;
  }
  KVCACHE_RETURN_IF_ERROR(parseGeometry(geometry, chosen, tokens));
  for (auto [name, value] : {std::pair{"L", chosen.layers},
                             {"Hq", chosen.queryHeads},
                             {"Hkv", chosen.kvHeads},
                             {"D", chosen.headDim}}) {
    if (value < 1) {
      return Status::badInput("--geometry " + geometry + ": " + name +
                              " is missing, expected L, Hq, Hkv and D, or --model");
    }
  }
  if (static_cast<int64_t>(chosen.ropeInvFreq.size()) != chosen.headDim / 2) {
    chosen.ropeInvFreq = rt::ropeInverseFrequencies(chosen.headDim, 10000.0, nullptr);
  }
  return chosen;
}

namespace {

class CompileCommand final : public Command {
public:
  explicit CompileCommand(CompilerProvider &provider) : provider_(provider) {}

  const char *name() const override { return "compile"; }
  const char *summary() const override { return "Compile a method to an executable"; }
  const char *example() const override {
    return "kvasir compile method.mlir --target cpu --geometry L=32,Hq=32,Hkv=8,D=128 -o "
           "method.kvx";
  }

  void declare(CLI::App &app) override {
    arguments_.declare(app, provider_);
    app.add_option("--geometry", geometry_,
                   "L=..,Hq=..,Hkv=..,D=..,act=f16 (or f32, bf16); overrides the model's");
    app.add_option("--model", model_,
                   "A model folder whose geometry to compile for; the bundled model otherwise");
    app.add_option("--isa", isas_, "Instruction sets to put in: v3, v4; both otherwise")
        ->delimiter(',');
    app.add_option("--calib", calibration_, "A dump (as for apply) to calibrate from");
    app.add_option("--artefacts", artefacts_,
                   "What `kvasir calibrate` wrote for this method, instead of --calib");
    app.add_option("-o,--output", output_, "The file to write; text goes to stdout without it");
    app.add_option("--emit", emit_,
                   "Stop earlier: mlir:STAGE (composed, specialized, decomposed, fused, planned, "
                   "scheduled, kernels), llvm, asm, so");
    app.add_flag("--record", record_,
                 "Store results of the reference target for `kvasir-rt verify`");
  }

  Status run(const CommonOptions &common, CommandReport &report) override {
    KVCACHE_RETURN_IF_ERROR(checkTarget(provider_, arguments_.target));
    if (arguments_.target != "cpu") {
      return Status::badInput("--target " + arguments_.target +
                              ": nothing to compile, expected cpu");
    }
    bool isText = !emit_.empty() && emit_ != "so";
    if (output_.empty() && !isText) {
      return Status::badInput("expected -o FILE for " +
                              (emit_.empty() ? std::string("an executable") : "--emit=" + emit_));
    }
    if (!emit_.empty() && (record_ || !calibration_.empty() || !artefacts_.empty())) {
      return Status::badInput(
          "--emit=" + emit_ +
          ": expected none of --record, --calib and --artefacts, which make part of an executable");
    }
    if (!artefacts_.empty() && !calibration_.empty()) {
      return Status::badInput("expected --calib or --artefacts, got both");
    }
    StatusOr<rt::Geometry> geometry = chooseGeometry(geometry_, model_, nullptr);
    KVCACHE_RETURN_IF_ERROR(geometry.status());
    auto settings = parseSettings(arguments_.settings);
    KVCACHE_RETURN_IF_ERROR(settings.status());
    StatusOr<CompileResult> compiled =
        provider_.compile({arguments_.method, *settings, *geometry, isas_, emit_, arguments_.target,
                           arguments_.integerProducts()});
    KVCACHE_RETURN_IF_ERROR(compiled.status());
    Status fused = addInfos(*compiled, report);
    KVCACHE_RETURN_IF_ERROR(fused);
    if (emit_.empty()) {
      KVCACHE_RETURN_IF_ERROR(finishExecutable(*compiled, *settings, *geometry));
    } else if (output_.empty()) {
      fmt::print("{}", compiled->emitted);
    } else {
      KVCACHE_RETURN_IF_ERROR(rt::writeFileAtomically(output_, compiled->emitted));
    }
    describe(*compiled, *geometry, common, report);
    return Status::ok();
  }

private:
  Status addInfos(const CompileResult &compiled, CommandReport &report) const {
    Status status;
    for (int i = 0; compiled.executable && i < compiled.executable->kernels_size(); ++i) {
      const proto::KernelInfo &info = compiled.executable->kernels(i);
      if (arguments_.requireFused && info.status() != "fused" && status.isOk()) {
        status = Status::checkFailed("--require-fused: kernel '" + info.name() + "' is " +
                                     info.status() + ": " + info.reason());
      }
      report.kernels.push_back({info.name(),
                                {info.ops().begin(), info.ops().end()},
                                "cpu",
                                info.status(),
                                info.reason(),
                                0,
                                0,
                                0});
    }
    return status;
  }

  /// Gives artefacts to a method that needs them: from --artefacts, or made from --calib.
  Status calibrated(rt::Execution &execution) const {
    if (!artefacts_.empty()) {
      return loadArtefacts(artefacts_, execution);
    }
    if (calibration_.empty()) {
      return Status::badInput("--record: method '" + arguments_.method +
                              "' must be calibrated, expected --calib FILE or --artefacts FILE");
    }
    StatusOr<std::shared_ptr<CacheFile>> file = CacheFile::open(calibration_);
    KVCACHE_RETURN_IF_ERROR(file.status());
    return calibrate(execution, **file);
  }

  /// Stores the artefacts in the executable.
  Status addArtefacts(CompileResult &compiled, const rt::Geometry &geometry) const {
    StatusOr<std::unique_ptr<rt::CompiledExecution>> execution =
        rt::CompiledExecution::create(compiled.executable);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    bool holds = !(*execution)->artefactShapes().empty();
    if (artefacts_.empty() ? !(*execution)->needsCalibration() : !holds) {
      return Status::badInput(
          (artefacts_.empty() ? "--calib " + calibration_ : "--artefacts " + artefacts_) +
          ": method '" + arguments_.method + "' has nothing to calibrate");
    }
    KVCACHE_RETURN_IF_ERROR(calibrated(**execution));
    for (size_t t = 0; t < (*execution)->tensors().size(); ++t) {
      if ((*execution)->tensors()[t].artefact) { // values that the method states make room
        compiled.executable->mutable_tensors(static_cast<int>(t))->clear_values();
      }
      for (int64_t layer = 0; (*execution)->tensors()[t].artefact && layer < geometry.layers;
           ++layer) {
        const std::vector<char> &values = (*execution)->artefact(static_cast<int32_t>(t), layer);
        compiled.executable->mutable_tensors(static_cast<int>(t))
            ->add_values(values.data(), values.size());
      }
    }
    return Status::ok();
  }

  /// Calibrates and records where asked to, then writes the .kvx.
  Status finishExecutable(CompileResult &compiled,
                          const std::map<std::string, std::string> &settings,
                          const rt::Geometry &geometry) {
    if (!calibration_.empty() || !artefacts_.empty()) {
      KVCACHE_RETURN_IF_ERROR(addArtefacts(compiled, geometry));
    }
    if (record_) {
      MethodRequest request;
      request.method = arguments_.method;
      request.parameters = settings;
      request.geometry = geometry;
      request.integerProducts = arguments_.integerProducts();
      KVCACHE_RETURN_IF_ERROR(recordCases(
          provider_, request, [this](rt::Execution &execution) { return calibrated(execution); },
          *compiled.executable));
    }
    return rt::writeKvx(output_, *compiled.executable);
  }

  void describe(const CompileResult &compiled, const rt::Geometry &g, const CommonOptions &common,
                CommandReport &report) const {
    Json isas = Json::array();
    int64_t code = 0;
    for (int i = 0; compiled.executable && i < compiled.executable->code_size(); ++i) {
      isas.push_back(compiled.executable->code(i).isa());
      code += static_cast<int64_t>(compiled.executable->code(i).object_bytes());
    }
    bool whole = compiled.executable != nullptr;
    report.rows.push_back(
        {{"method", arguments_.method},
         {"params",
          whole ? Json(std::map<std::string, std::string>(compiled.executable->parameters().begin(),
                                                          compiled.executable->parameters().end()))
                : Json(nullptr)},
         {"target", "cpu"},
         {"method_hash", whole ? Json(compiled.executable->method_hash()) : Json(nullptr)},
         {"emit", emit_.empty() ? "kvx" : emit_},
         {"output", output_.empty() ? Json(nullptr) : Json(output_)},
         {"layers", g.layers},
         {"q_heads", g.queryHeads},
         {"kv_heads", g.kvHeads},
         {"head_dim", g.headDim},
         {"act", std::string(abi::nameOf(g.act))},
         {"isas", isas},
         {"code_bytes", code > 0 ? Json(code) : Json(nullptr)},
         {"compile_s", whole ? Json(compiled.seconds) : Json(nullptr)}});
    if (emit_.empty()) {
      fmt::print("{}: {} for L={} Hq={} Hkv={} D={} {}, {} in {:.2f} s\nkernels: {}\n", output_,
                 arguments_.method, g.layers, g.queryHeads, g.kvHeads, g.headDim,
                 abi::nameOf(g.act), fmt::join(isas.get<std::vector<std::string>>(), " and "),
                 compiled.seconds, kernelStatusText(report.kernels));
    } else if (common.verbose) {
      printNote("note", "emitted " + emit_);
    }
  }

  CompilerProvider &provider_;
  MethodArguments arguments_;
  std::string geometry_, model_, output_, emit_, calibration_, artefacts_;
  std::vector<std::string> isas_;
  bool record_ = false;
};

} // namespace

std::unique_ptr<Command> makeCompileCommand(CompilerProvider &provider) {
  return std::make_unique<CompileCommand>(provider);
}

} // namespace kvcache::tools
