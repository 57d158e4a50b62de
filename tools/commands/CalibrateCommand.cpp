// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Calibrates from a text, by a dense prefill of a model, or from a dump.

#include "tools/commands/CalibrateCommand.h"

#include "runtime/Artefacts.h"
#include "runtime/model/Decoder.h"
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
    app.add_option("-o,--output", output_, "The artefacts, a safetensors file")->required();
  }

  Status run(const CommonOptions &, CommandReport &report) override {
    if (prompt_.empty() == dump_.empty()) {
      return Status::badInput("expected --prompt FILE or --kv FILE, got " +
                              std::string(prompt_.empty() ? "neither" : "both"));
    }
    StatusOr<std::unique_ptr<rt::Execution>> execution = prompt_.empty() ? fromDump() : fromText();
    KVCACHE_RETURN_IF_ERROR(execution.status());
    KVCACHE_RETURN_IF_ERROR(addKernels(**execution, arguments_.requireFused, report));
    KVCACHE_RETURN_IF_ERROR(saveArtefacts(output_, **execution, prompt_.empty() ? dump_ : prompt_));
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
    if (!(*execution)->needsCalibration()) {
      return Status::badInput("method '" + arguments_.method + "' has nothing to calibrate");
    }
    return execution;
  }

  StatusOr<std::unique_ptr<rt::Execution>> fromDump() {
    StatusOr<std::shared_ptr<CacheFile>> file = CacheFile::open(dump_);
    KVCACHE_RETURN_IF_ERROR(file.status());
    StatusOr<std::unique_ptr<rt::Execution>> execution = load((*file)->geometry(), file->get());
    KVCACHE_RETURN_IF_ERROR(execution.status());
    KVCACHE_RETURN_IF_ERROR(calibrate(**execution, **file));
    return execution;
  }

  StatusOr<std::unique_ptr<rt::Execution>> fromText() {
    StatusOr<std::unique_ptr<rt::Decoder>> decoder = rt::Decoder::load(model_);
    KVCACHE_RETURN_IF_ERROR(decoder.status());
    StatusOr<std::vector<int32_t>> tokens = readPrompt(prompt_, (*decoder)->config(), model_);
    KVCACHE_RETURN_IF_ERROR(tokens.status());
    StatusOr<std::unique_ptr<rt::Execution>> execution =
        load((*decoder)->geometry(abi::ElementType::F16), nullptr);
    KVCACHE_RETURN_IF_ERROR(execution.status());
    KVCACHE_RETURN_IF_ERROR(calibrateFromTokens(**execution, **decoder, provider_, *tokens));
    return execution;
  }

  void describe(rt::Execution &execution, CommandReport &report) const {
    const rt::Geometry &g = execution.geometry();
    Json artefacts = Json::array();
    fmt::print("{}: {} for L={} Hq={} Hkv={} D={} {}\n", output_, execution.methodName(), g.layers,
               g.queryHeads, g.kvHeads, g.headDim, abi::nameOf(g.act));
    for (const rt::ArtefactShape &shape : execution.artefactHolder()->artefactShapes()) {
      artefacts.push_back({{"name", shape.name}, {"shape", shape.dims}});
      fmt::print("artefact  {} [{}] of each layer\n", shape.name, fmt::join(shape.dims, ", "));
    }
    report.rows.push_back({{"method", execution.methodName()},
                           {"params", execution.parameters()},
                           {"target", execution.target()},
                           {"method_hash", execution.methodHash()},
                           {"output", output_},
                           {"layers", g.layers},
                           {"q_heads", g.queryHeads},
                           {"kv_heads", g.kvHeads},
                           {"head_dim", g.headDim},
                           {"act", std::string(abi::nameOf(g.act))},
                           {"artefacts", artefacts}});
  }

  MethodProvider &provider_;
  MethodArguments arguments_;
  std::string model_, prompt_, dump_, output_;
};

} // namespace

std::unique_ptr<Command> makeCalibrateCommand(MethodProvider &provider) {
  return std::make_unique<CalibrateCommand>(provider);
}

} // namespace kvcache::tools
