// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compiles the method for a geometry and reads the executable that comes out.

#include "tools/commands/ExplainCommand.h"

#include "runtime/io/AtomicFile.h"
#include "tools/commands/CompileCommand.h"
#include "tools/commands/Explanation.h"
#include "tools/commands/GeneratedDump.h"
#include "tools/commands/MethodArguments.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <spawn.h>

extern char **environ;

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

/// Runs Graphviz on `dotFile`; the picture appears whole or not at all.
Status drawSvg(const std::string &dotFile, const std::string &svgFile) {
  std::string temporary = svgFile + ".tmp", output = "-o" + temporary;
  std::string words[] = {"dot", "-Tsvg", output, dotFile};
  char *argv[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(), nullptr};
  pid_t child = 0;
  int status = 0;
  std::error_code error;
  if (posix_spawnp(&child, "dot", nullptr, nullptr, argv, environ) != 0) {
    return Status::unavailable(
        "--svg " + svgFile +
        ": cannot run Graphviz 'dot', expected it on the path (--dot FILE needs no program)");
  }
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    std::filesystem::remove(temporary, error);
    return Status::unavailable("--svg " + svgFile + ": Graphviz 'dot' failed to write the file");
  }
  std::filesystem::rename(temporary, svgFile, error);
  return error ? Status::unavailable("--svg " + svgFile + ": " + error.message()) : Status::ok();
}

class ExplainCommand final : public Command {
public:
  explicit ExplainCommand(CompilerProvider &provider) : provider_(provider) {}

  const char *name() const override { return "explain"; }
  const char *summary() const override { return "Say what a method needs, holds, runs and moves"; }
  const char *example() const override {
    return "kvasir explain method.mlir --geometry L=32,Hq=32,Hkv=8,D=128,T=32768 --svg method.svg";
  }

  void declare(CLI::App &app) override {
    app.add_option("METHOD", arguments_.method, "A shipped method, A+B or a .mlir file")
        ->required();
    app.add_option("--geometry", geometry_,
                   "L=..,Hq=..,Hkv=..,D=..,act=f16,T=32768; overrides the model's");
    app.add_option("--model", model_,
                   "A model folder whose geometry to use; the bundled model otherwise");
    app.add_flag("--kernels", kernels_,
                 "Say what each loop nest fuses, what that keeps out of memory, and why it ends "
                 "where it does");
    app.add_option("--dot", dot_, "Write the graph for Graphviz to this file");
    app.add_option("--svg", svg_, "Draw the graph to this file (needs Graphviz)");
    arguments_.declareSettings(app);
  }

  Status run(const CommonOptions &, CommandReport &report) override {
    int64_t tokens = 32768;
    StatusOr<rt::Geometry> geometry = chooseGeometry(geometry_, model_, &tokens);
    KVCACHE_RETURN_IF_ERROR(geometry.status());
    auto settings = parseSettings(arguments_.settings);
    KVCACHE_RETURN_IF_ERROR(settings.status());
    StatusOr<MethodSummary> summary = provider_.summary(arguments_.method, *settings);
    KVCACHE_RETURN_IF_ERROR(summary.status());
    CompileRequest request{arguments_.method, *settings, *geometry, {"v3"}, ""};
    StatusOr<CompileResult> compiled = provider_.compile(request);
    KVCACHE_RETURN_IF_ERROR(compiled.status());
    const proto::Executable &executable = *compiled->executable;
    for (const proto::KernelInfo &info : executable.kernels()) {
      report.kernels.push_back({info.name(),
                                {info.ops().begin(), info.ops().end()},
                                "cpu",
                                info.status(),
                                info.reason(),
                                0,
                                0,
                                0});
      if (arguments_.requireFused && info.status() != "fused") {
        return Status::checkFailed("--require-fused: kernel '" + info.name() + "' is " +
                                   info.status() + ": " + info.reason());
      }
    }
    Explanation explanation = explain(executable, *summary, *geometry, tokens);
    explanation.summary.parameters = {executable.parameters().begin(),
                                      executable.parameters().end()};
    StatusOr<MethodGraph> graph = provider_.graph(request, tokens);
    KVCACHE_RETURN_IF_ERROR(graph.status());
    Json row = toJson(explanation);
    row["fused_kernels"] = toJson(*graph);
    report.rows.push_back(std::move(row));
    fmt::print("{}{}", toText(explanation), kernels_ ? toText(*graph) : "");
    std::string title =
        fmt::format("{} on L={} Hq={} Hkv={} D={}, T={}", arguments_.method, geometry->layers,
                    geometry->queryHeads, geometry->kvHeads, geometry->headDim, tokens);
    return writeGraph(toDot(*graph, title));
  }

private:
  Status writeGraph(const std::string &text) const {
    if (!dot_.empty()) {
      KVCACHE_RETURN_IF_ERROR(rt::writeFileAtomically(dot_, text));
    }
    if (svg_.empty()) {
      return Status::ok();
    }
    StatusOr<std::string> path = temporaryPath();
    KVCACHE_RETURN_IF_ERROR(path.status());
    Status status = rt::writeFileAtomically(*path, text);
    status = status.isOk() ? drawSvg(*path, svg_) : status;
    std::error_code ignored;
    std::filesystem::remove(*path, ignored);
    return status;
  }

  CompilerProvider &provider_;
  MethodArguments arguments_;
  std::string geometry_, model_, dot_, svg_;
  bool kernels_ = false;
};

} // namespace

std::unique_ptr<Command> makeExplainCommand(CompilerProvider &provider) {
  return std::make_unique<ExplainCommand>(provider);
}

} // namespace kvcache::tools
