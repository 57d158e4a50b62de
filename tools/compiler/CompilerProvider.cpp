// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Method text -> stages -> target -> Execution. Invariant: whatever goes wrong in the compiler
// reaches the caller as one Status whose message is the first diagnostic, with its file and line.

#include "tools/compiler/CompilerProvider.h"

#include "dialect/KVCacheDialect.h"
#include "dialect/MethodOps.h"
#include "dialect/ParameterText.h"
#include "frontends/MethodSource.h"
#include "passes/pipelines/Stages.h"
#include "targets/TargetRegistry.h"
#include "tools/compiler/FusedGraph.h"
#include "tools/compiler/Summaries.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <chrono>
#include <xxhash.h>

namespace kvcache::tools {

using namespace mlir;
using namespace mlir::kvcache;
using rt::Status;
using rt::StatusOr;

namespace {

/// "file:line:column: message" of the first error emitted while it lives; notes follow after "; ".
class FirstDiagnostic {
public:
  explicit FirstDiagnostic(MLIRContext &context)
      : handler_(&context, [this](Diagnostic &diagnostic) {
          if (diagnostic.getSeverity() == DiagnosticSeverity::Error && message_.empty()) {
            message_ = describe(diagnostic);
            for (Diagnostic &note : diagnostic.getNotes()) {
              message_ += "; " + describe(note);
            }
          }
          return success();
        }) {}

  Status status(const char *otherwise) const {
    return Status::badInput(message_.empty() ? otherwise : message_);
  }

private:
  static std::string describe(Diagnostic &diagnostic) {
    std::string text;
    llvm::raw_string_ostream stream(text);
    if (auto file = dyn_cast<FileLineColLoc>(diagnostic.getLocation())) {
      stream << file.getFilename().getValue() << ":";
      if (file.getLine() > 0) { // else the file as a whole
        stream << file.getLine() << ":" << file.getColumn() << ":";
      }
      stream << " ";
    }
    stream << diagnostic;
    for (char &c : text) {
      c = c == '\n' ? ' ' : c;
    }
    return text;
  }

  std::string message_;
  ScopedDiagnosticHandler handler_;
};

MethodGeometry toMethodGeometry(const rt::Geometry &geometry) {
  return {geometry.layers, geometry.queryHeads, geometry.kvHeads, geometry.headDim,
          std::string(abi::nameOf(geometry.act))};
}

Status checkGeometryIsWhole(const rt::Geometry &g) {
  if (g.layers < 1 || g.kvHeads < 1 || g.headDim < 1 || g.queryHeads < 1 ||
      g.queryHeads % g.kvHeads != 0) {
    return Status::badInput(
        "expected a geometry with L, Hq, Hkv, D of at least 1 and Hq a multiple of Hkv, got L=" +
        std::to_string(g.layers) + ", Hq=" + std::to_string(g.queryHeads) +
        ", Hkv=" + std::to_string(g.kvHeads) + ", D=" + std::to_string(g.headDim));
  }
  return Status::ok();
}

std::string printed(Operation *op) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  OpPrintingFlags flags;
  op->print(stream, flags);
  return text;
}

std::string hashOf(const std::string &text) {
  return llvm::utohexstr(XXH3_64bits(text.data(), text.size()), /*LowerCase=*/true, 16);
}

/// Values of all parameters, as text.
void describeParameters(MethodOp method, google::protobuf::Map<std::string, std::string> &to) {
  for (auto param : method.getBody().front().getOps<ParamOp>()) {
    to[param.getSymName().str()] = parameterText(param);
  }
}

} // namespace

/// One compilation. It has a context of its own: methods come from users, and contexts keep all
/// they ever saw.
struct CompilerProvider::Compilation {
  Compilation(const Target &target, const rt::Geometry &geometry)
      : target(target), geometry(geometry),
        context(registryOf(target), MLIRContext::Threading::DISABLED), diagnostic(context) {
    // Emitters create ops of every dialect that the target registers, which nothing has parsed
    // before.
    context.loadAllAvailableDialects();
    context.printOpOnDiagnostic(false);
  }

  Status read(const std::string &method, const std::map<std::string, std::string> &parameters) {
    FailureOr<LoadedMethods> loaded = loadMethods(context, method, parameters);
    if (failed(loaded)) {
      return diagnostic.status("the method could not be read");
    }
    methods = std::move(*loaded);
    compose.parts = methods.parts;
    compose.bases = methods.bases;
    for (const auto &[name, value] : parameters) {
      compose.overrides[name] = value;
    }
    return Status::ok();
  }

  StatusOr<MethodOp> runTo(Stage stage) {
    FailureOr<MethodOp> method =
        runStages(*methods.module, compose, toMethodGeometry(geometry), stage);
    if (failed(method)) {
      return diagnostic.status("the method could not be compiled");
    }
    return *method;
  }

  /// The text of the composed method names it for good: its hash is the method's.
  StatusOr<std::string> composedText() {
    StatusOr<MethodOp> composed = runTo(Stage::Composed);
    KVCACHE_RETURN_IF_ERROR(composed.status());
    std::string text = printed(*composed);
    composed->erase();
    return text;
  }

  const Target &target;
  rt::Geometry geometry;
  MLIRContext context;
  FirstDiagnostic diagnostic;
  LoadedMethods methods;
  ComposeRequest compose;

private:
  static DialectRegistry registryOf(const Target &target) {
    DialectRegistry registry;
    target.registerDialects(registry);
    return registry;
  }
};

namespace {

StatusOr<const Target *> targetCalled(const std::string &name) {
  if (const Target *target = findTarget(name)) {
    return target;
  }
  std::vector<std::string> known;
  for (const Target *target : allTargets()) {
    known.push_back(target->name().str());
  }
  return Status::badInput("unknown target '" + name + "', expected " + llvm::join(known, " or "));
}

/// Names the executable and says where it comes from.
void describe(const std::string &name, MethodOp method, const std::string &composedText,
              proto::Executable &executable) {
  executable.set_producer("kvasir " KVASIR_VERSION ", LLVM " LLVM_VERSION_STRING);
  executable.set_method(name);
  executable.set_method_hash(hashOf(composedText));
  executable.set_composed_ir(composedText);
  describeParameters(method, *executable.mutable_parameters());
  if (!executable.has_token_budget()) {
    executable.set_budget_refusal(budgetRefusal(name, method));
  }
}

/// The text or bytes that `--emit` asked for.
StatusOr<std::string> emittedForm(const std::string &form, const Artifact &artifact) {
  if (StringRef(form).starts_with("mlir:")) {
    return artifact.stageIr;
  }
  if (form == "llvm") {
    return artifact.llvmIr;
  }
  if (form == "asm") {
    return artifact.assembly;
  }
  if (form == "so") {
    return artifact.objects.front();
  }
  if (!form.empty()) {
    return Status::badInput("unknown form '" + form + "', expected mlir:STAGE, llvm, asm or so");
  }
  return std::string();
}

} // namespace

StatusOr<CompileResult> CompilerProvider::compile(const CompileRequest &request) {
  auto started = std::chrono::steady_clock::now();
  KVCACHE_RETURN_IF_ERROR(checkGeometryIsWhole(request.geometry));
  StatusOr<const Target *> target = targetCalled(request.target);
  KVCACHE_RETURN_IF_ERROR(target.status());
  Compilation compilation(**target, request.geometry);
  KVCACHE_RETURN_IF_ERROR(compilation.read(request.method, request.parameters));
  CompileResult result;
  StringRef stageName = request.emit;
  bool isStage = stageName.consume_front("mlir:");
  bool isTargets = isStage && llvm::is_contained({"planned", "scheduled", "kernels"}, stageName);
  if (isStage && !isTargets) {
    std::optional<Stage> stage = stageFromName(stageName);
    if (!stage) {
      return Status::badInput("unknown stage '" + stageName.str() +
                              "', expected composed, specialized, decomposed, fused, planned, scheduled or kernels");
    }
    StatusOr<MethodOp> method = compilation.runTo(*stage);
    KVCACHE_RETURN_IF_ERROR(method.status());
    result.emitted = printed(*method) + "\n";
    return result;
  }

  StatusOr<std::string> composedText = compilation.composedText();
  KVCACHE_RETURN_IF_ERROR(composedText.status());
  StatusOr<MethodOp> method = compilation.runTo((*target)->stage());
  KVCACHE_RETURN_IF_ERROR(method.status());
  TargetOptions options;
  options.isas = request.isas;
  options.integerProducts = request.integerProducts;
  options.wantStage = isTargets ? stageName.str() : "";
  options.wantLlvmIr = request.emit == "llvm";
  options.wantAssembly = request.emit == "asm";
  FailureOr<Artifact> artifact = (*target)->compile(*method, request.geometry, options);
  if (failed(artifact)) {
    return compilation.diagnostic.status("the method could not be compiled");
  }
  describe(request.method, *method, *composedText, *artifact->executable);
  StatusOr<std::string> emitted = emittedForm(request.emit, *artifact);
  KVCACHE_RETURN_IF_ERROR(emitted.status());
  result.emitted = std::move(*emitted);
  result.executable = std::move(artifact->executable);
  result.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return result;
}

StatusOr<MethodGraph> CompilerProvider::graph(const CompileRequest &request, int64_t tokens) {
  KVCACHE_RETURN_IF_ERROR(checkGeometryIsWhole(request.geometry));
  StatusOr<const Target *> target = targetCalled(request.target);
  KVCACHE_RETURN_IF_ERROR(target.status());
  Compilation compilation(**target, request.geometry);
  KVCACHE_RETURN_IF_ERROR(compilation.read(request.method, request.parameters));
  StatusOr<MethodOp> method = compilation.runTo(Stage::Decomposed);
  KVCACHE_RETURN_IF_ERROR(method.status());
  KernelBoundaries boundaries;
  formKernels(*method, &boundaries);
  return graphOf(*method, boundaries, tokens);
}

StatusOr<std::unique_ptr<rt::Execution>> CompilerProvider::load(const MethodRequest &request) {
  KVCACHE_RETURN_IF_ERROR(checkGeometryIsWhole(request.geometry));
  StatusOr<const Target *> target = targetCalled(request.target);
  KVCACHE_RETURN_IF_ERROR(target.status());
  std::shared_ptr<proto::Executable> executable;
  if ((*target)->makesExecutables()) {
    CompileRequest compileRequest{request.method, request.parameters, request.geometry, {}, "",
                                  request.target};
    std::vector<std::string> isas = (*target)->hostIsas();
    if (isas.empty()) {
      return Status::badInput(
          "target '" + request.target +
          "' makes no code that runs on this processor: x86-64-v3 (AVX2) is the least");
    }
    compileRequest.isas = {isas.front()};
    compileRequest.integerProducts = request.integerProducts;
    StatusOr<CompileResult> compiled = compile(compileRequest);
    KVCACHE_RETURN_IF_ERROR(compiled.status());
    executable = compiled->executable;
  }
  Compilation compilation(**target, request.geometry);
  KVCACHE_RETURN_IF_ERROR(compilation.read(request.method, request.parameters));
  StatusOr<MethodOp> method = compilation.runTo(Stage::Composed);
  KVCACHE_RETURN_IF_ERROR(method.status());
  TargetOptions options;
  options.captureScores = request.captureScores;
  FailureOr<std::unique_ptr<rt::Execution>> execution =
      (*target)->load(*method, request.geometry, executable, options);
  if (failed(execution)) {
    return compilation.diagnostic.status("the method could not be loaded");
  }
  if (request.requireFused) {
    for (const rt::KernelReport &kernel : (*execution)->kernels()) {
      if (kernel.status != "fused") {
        return Status::checkFailed("--require-fused: kernel '" + kernel.name + "' is " +
                                   kernel.status +
                                   (kernel.reason.empty() ? "" : ": " + kernel.reason));
      }
    }
  }
  return std::move(*execution);
}

std::vector<std::string> CompilerProvider::targets() const {
  std::vector<std::string> names;
  for (const Target *target : allTargets()) {
    names.push_back(target->name().str());
  }
  return names;
}

StatusOr<MethodSummary>
CompilerProvider::summary(const std::string &method,
                          const std::map<std::string, std::string> &parameters) {
  DialectRegistry registry;
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  FirstDiagnostic diagnostic(context);
  FailureOr<LoadedMethods> methods = loadMethods(context, method, parameters);
  if (failed(methods)) {
    return diagnostic.status("the method could not be read");
  }
  return summarize(method, *methods);
}

std::vector<MethodSummary> CompilerProvider::shipped() {
  std::vector<MethodSummary> summaries;
  for (const std::string &name : shippedMethodNames()) {
    DialectRegistry registry;
    MLIRContext context(registry, MLIRContext::Threading::DISABLED);
    FirstDiagnostic diagnostic(context);
    FailureOr<LoadedMethods> methods = loadMethods(context, name);
    if (succeeded(methods)) {
      summaries.push_back(summarize(name, *methods));
    }
  }
  return summaries;
}

} // namespace kvcache::tools
