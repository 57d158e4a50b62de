// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Calibrates from a text, by a dense prefill of a model, from a dump, or on the sequences that the
// method asks for.

#include "tools/commands/CalibrateCommand.h"

#include "runtime/Artefacts.h"
#include "runtime/eval/CalibrationData.h"
#include "runtime/eval/ModelHash.h"
#include "runtime/io/Safetensors.h"
#include "runtime/model/Decoder.h"
#include "runtime/model/Tokens.h"
#include "tools/commands/ApplyMethod.h"
#include "tools/commands/ArtefactFile.h"
#include "tools/commands/MethodArguments.h"
#include "tools/commands/ModelInput.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

class CalibrateCommand final : public Command {
public:
  explicit CalibrateCommand(MethodProvider &provider) : provider_(provider) {}

  const char *name() const override { return "calibrate"; }
  const char *summary() const override { return "Calibrate a method and keep its artefacts"; }
  const char *example() const override {
    return "kvasir calibrate method.mlir --prompt text.txt -o artefacts.safetensors";
  }

  void declare(CLI::App &app) override {
    arguments_.declare(app, provider_);
    model_ = bundledModel();
    app.add_option("--model", model_,
                   "A model folder: config.json and *.safetensors; the bundled model otherwise");
    app.add_option("--prompt", prompt_, "A text file to calibrate from");
    app.add_option("--kv", dump_, "A dump (as for apply) to calibrate from, instead of a text");
    app.add_option("--seed", seed_, "Of the sequences that the method is calibrated on")
        ->capture_default_str();
    app.add_option("--sequences", sequences_,
                   "Also write those sequences: a safetensors file of I32 tensors, {i}.tokens and "
                   "their tables");
    app.add_option("-o,--output", output_, "The artefacts, a safetensors file")->required();
  }

  Status run(const CommonOptions &, CommandReport &report) override {
    if (!prompt_.empty() && !dump_.empty()) {
      return Status::badInput("expected --prompt FILE or --kv FILE, got both");
    }
    report.seed = seed_;
    StatusOr<std::unique_ptr<rt::Execution>> execution = dump_.empty() ? fromModel() : fromDump();
    KVCACHE_RETURN_IF_ERROR(execution.status());
    KVCACHE_RETURN_IF_ERROR(addKernels(**execution, arguments_.requireFused, report));
    KVCACHE_RETURN_IF_ERROR(saveArtefacts(output_, **execution, origin_));
    describe(**execution, report);
    return Status::ok();
  }

private:
  StatusOr<std::unique_ptr<rt::Execution>> load(const rt::Geometry &geometry,
                                                const CacheFile *dump) {
    StatusOr<MethodRequest> request =
        makeRequest(arguments_, provider_, geometry,
                    dump ? dump->parameters() : std::map<std::string, std::string>());
    KVCACHE_RETURN_IF_ERROR(request.status());
    request->anyQueryHeads = dump && !dump->hasQueries();
    StatusOr<std::unique_ptr<rt::Execution>> execution = provider_.load(*request);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    if (!(*execution)->needsCalibration() && (*execution)->calibrationSources().empty()) {
      return Status::badInput("method '" + arguments_.method + "' has nothing to calibrate");
    }
    KVCACHE_RETURN_IF_ERROR(checkData(**execution));
    return execution;
  }

  /// What the user gave is what the method asks for.
  Status checkData(const rt::Execution &execution) const {
    std::string sources = rt::describeSources(execution),
                method = "method '" + arguments_.method + "' ";
    bool data = !prompt_.empty() || !dump_.empty();
    if (!sources.empty() && data) {
      return Status::badInput(
          method + "is calibrated on " + sources +
          ", which the model's own texts give; expected neither --prompt nor --kv");
    }
    if (sources.empty() && !data) {
      return Status::badInput("expected --prompt FILE or --kv FILE, got neither");
    }
    if (sources.empty() && (seed_ != 0 || !sequences_.empty())) {
      return Status::badInput(method +
                              "draws no sequences: expected neither --seed nor --sequences");
    }
    return Status::ok();
  }

  StatusOr<std::unique_ptr<rt::Execution>> fromDump() {
    StatusOr<std::shared_ptr<CacheFile>> file = CacheFile::open(dump_);
    KVCACHE_RETURN_IF_ERROR(file.status());
    StatusOr<std::unique_ptr<rt::Execution>> execution = load((*file)->geometry(), file->get());
    KVCACHE_RETURN_IF_ERROR(execution.status());
    KVCACHE_RETURN_IF_ERROR(calibrate(**execution, **file));
    origin_.source = dump_;
    return execution;
  }

  StatusOr<std::unique_ptr<rt::Execution>> fromModel() {
    StatusOr<std::unique_ptr<rt::Decoder>> decoder = rt::Decoder::load(model_);
    KVCACHE_RETURN_IF_ERROR(decoder.status());
    StatusOr<std::unique_ptr<rt::Execution>> execution =
        load((*decoder)->geometry(abi::ElementType::F16), nullptr);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    StatusOr<std::string> hash = rt::modelHash(model_);
    KVCACHE_RETURN_IF_ERROR(hash.status());
    origin_ = {prompt_.empty() ? rt::describeSources(**execution) : prompt_, *hash, seed_};
    if (prompt_.empty()) {
      KVCACHE_RETURN_IF_ERROR(onSequences(**execution, **decoder));
      return execution;
    }
    StatusOr<std::vector<int32_t>> tokens = readPrompt(prompt_, (*decoder)->config(), model_);
    KVCACHE_RETURN_IF_ERROR(tokens.status());
    KVCACHE_RETURN_IF_ERROR(calibrateFromTokens(**execution, **decoder, provider_, *tokens));
    return execution;
  }

  Status onSequences(rt::Execution &execution, rt::Decoder &decoder) const {
    if (!rt::isByteLevel(decoder.config())) {
      return Status::badInput(model_ +
                              ": expected a byte-level model: the sequences are made of bytes");
    }
    StatusOr<rt::TaskMaterial> material = rt::TaskMaterial::load(model_);
    KVCACHE_RETURN_IF_ERROR(material.status());
    StatusOr<std::unique_ptr<rt::Execution>> dense = denseLike(execution, provider_);
    KVCACHE_RETURN_IF_ERROR(dense.status());
    StatusOr<std::vector<rt::CalibrationSequence>> fed =
        rt::calibrateOnSequences(decoder, **dense, *material, seed_, execution);
    KVCACHE_RETURN_IF_ERROR(fed.status());
    return sequences_.empty() ? Status::ok() : saveSequences(*fed);
  }

  Status saveSequences(const std::vector<rt::CalibrationSequence> &fed) const {
    rt::SafetensorsWriter writer;
    writer.setMetadata("calibrated_from", origin_.source);
    writer.setMetadata("seed", std::to_string(seed_));
    auto add = [&](const std::string &name, const std::vector<int32_t> &values) {
      writer.addView(name, rt::DType::I32, {static_cast<int64_t>(values.size())}, values.data());
    };
    for (size_t i = 0; i < fed.size(); ++i) {
      add(fmt::format("{}.tokens", i), fed[i].tokens);
      for (const auto &[name, table] : fed[i].tables) {
        add(fmt::format("{}.{}", i, name), table);
      }
    }
    return writer.write(sequences_);
  }

  void describe(rt::Execution &execution, CommandReport &report) const {
    const rt::Geometry &g = execution.geometry();
    Json artefacts = Json::array();
    fmt::print("{}: {} from {}, for L={} Hq={} Hkv={} D={} {}\n", output_, execution.methodName(),
               origin_.source, g.layers, g.queryHeads, g.kvHeads, g.headDim, abi::nameOf(g.act));
    for (const rt::ArtefactShape &shape : execution.artefactHolder()->artefactShapes()) {
      artefacts.push_back({{"name", shape.name}, {"shape", shape.dims}});
      fmt::print("artefact  {} [{}] of each layer\n", shape.name, fmt::join(shape.dims, ", "));
    }
    report.rows.push_back({{"method", execution.methodName()},
                           {"params", execution.parameters()},
                           {"target", execution.target()},
                           {"method_hash", execution.methodHash()},
                           {"output", output_},
                           {"calibrated_from", origin_.source},
                           {"seed", origin_.seed},
                           {"layers", g.layers},
                           {"q_heads", g.queryHeads},
                           {"kv_heads", g.kvHeads},
                           {"head_dim", g.headDim},
                           {"act", std::string(abi::nameOf(g.act))},
                           {"artefacts", artefacts}});
  }

  MethodProvider &provider_;
  MethodArguments arguments_;
  std::string model_, prompt_, dump_, output_, sequences_;
  uint64_t seed_ = 0;
  ArtefactOrigin origin_;
};

} // namespace

std::unique_ptr<Command> makeCalibrateCommand(MethodProvider &provider) {
  return std::make_unique<CalibrateCommand>(provider);
}

} // namespace kvcache::tools
