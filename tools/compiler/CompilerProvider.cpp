// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Method text -> stages -> target -> Execution. Invariant: whatever goes wrong in the compiler reaches the caller as one
// Status whose message is the first diagnostic, with its file and line.

#include "tools/compiler/CompilerProvider.h"

#include "dialect/KVCacheDialect.h"
#include "dialect/MethodOps.h"
#include "frontends/MethodSource.h"
#include "passes/pipelines/Stages.h"
#include "runtime/exec/Executor.h"
#include "runtime/exec/HostCpu.h"
#include "targets/cpu/CpuTarget.h"
#include "targets/reference/ReferenceTarget.h"
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

  Status status(const char *otherwise) const { return Status::badInput(message_.empty() ? otherwise : message_); }

private:
  static std::string describe(Diagnostic &diagnostic) {
    std::string text;
    llvm::raw_string_ostream stream(text);
    if (auto file = dyn_cast<FileLineColLoc>(diagnostic.getLocation())) {
      stream << file.getFilename().getValue() << ":" << file.getLine() << ":" << file.getColumn() << ": ";
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
  return {geometry.layers, geometry.queryHeads, geometry.kvHeads, geometry.headDim, std::string(abi::nameOf(geometry.act))};
}

Status checkGeometryIsWhole(const rt::Geometry &g) {
  if (g.layers < 1 || g.kvHeads < 1 || g.headDim < 1 || g.queryHeads < 1 || g.queryHeads % g.kvHeads != 0) {
    return Status::badInput("expected a geometry with L, Hq, Hkv, D of at least 1 and Hq a multiple of Hkv, got L=" + std::to_string(g.layers) +
                            ", Hq=" + std::to_string(g.queryHeads) + ", Hkv=" + std::to_string(g.kvHeads) + ", D=" + std::to_string(g.headDim));
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

std::string hashOf(const std::string &text) { return llvm::utohexstr(XXH3_64bits(text.data(), text.size()), /*LowerCase=*/true, 16); }

/// Values of all parameters, as text.
void describeParameters(MethodOp method, google::protobuf::Map<std::string, std::string> &to) {
  for (auto param : method.getBody().front().getOps<ParamOp>()) {
    to[param.getSymName().str()] = parameterText(param);
  }
}

} // namespace

struct CompilerProvider::State {
  /// Each compilation has a context of its own: methods come from users, and contexts keep all they ever saw.
  struct Loaded {
    MLIRContext context;
    LoadedMethods methods;
    ComposeRequest compose;
  };

  static LogicalResult load(Loaded &loaded, const std::string &method, const std::map<std::string, std::string> &parameters) {
    // Emitters create ops of every kernel dialect, which nothing has parsed before.
    loaded.context.loadAllAvailableDialects();
    loaded.context.printOpOnDiagnostic(false);
    FailureOr<LoadedMethods> methods = loadMethods(loaded.context, method, parameters);
    if (failed(methods)) {
      return failure();
    }
    loaded.methods = std::move(*methods);
    loaded.compose.parts = loaded.methods.parts;
    loaded.compose.bases = loaded.methods.bases;
    for (const auto &[name, value] : parameters) {
      loaded.compose.overrides[name] = value;
    }
    return success();
  }
};

CompilerProvider::CompilerProvider() : state_(std::make_unique<State>()) {}
CompilerProvider::~CompilerProvider() = default;

StatusOr<CompileResult> CompilerProvider::compile(const CompileRequest &request) {
  auto started = std::chrono::steady_clock::now();
  KVCACHE_RETURN_IF_ERROR(checkGeometryIsWhole(request.geometry));
  DialectRegistry registry;
  cpu::registerKernelDialects(registry);
  State::Loaded loaded{MLIRContext(registry, MLIRContext::Threading::DISABLED), {}, {}};
  FirstDiagnostic diagnostic(loaded.context);
  if (failed(State::load(loaded, request.method, request.parameters))) {
    return diagnostic.status("the method could not be read");
  }

  StringRef emit = request.emit;
  Stage last = Stage::Fused;
  bool stopsAtStage = emit.consume_front("mlir:") && emit != "kernels";
  if (stopsAtStage) {
    std::optional<Stage> stage = stageFromName(emit);
    if (!stage) {
      return Status::badInput("unknown stage '" + emit.str() + "', expected composed, specialized, decomposed, fused or kernels");
    }
    last = *stage;
  }
  MethodGeometry geometry = toMethodGeometry(request.geometry);
  // The composed text names the method for good: its hash is the method's.
  FailureOr<MethodOp> composed = runStages(*loaded.methods.module, loaded.compose, geometry, Stage::Composed);
  if (failed(composed)) {
    return diagnostic.status("the method could not be composed");
  }
  std::string composedText = printed(*composed);
  auto result = CompileResult();
  composed->erase();
  FailureOr<MethodOp> method = runStages(*loaded.methods.module, loaded.compose, geometry, last);
  if (failed(method)) {
    return diagnostic.status("the method could not be compiled");
  }
  if (stopsAtStage) {
    result.emitted = printed(*method) + "\n";
    return result;
  }

  cpu::CpuTargetOptions options;
  options.wantLlvmIr = emit == "llvm";
  options.wantAssembly = emit == "asm";
  if (!request.isas.empty()) {
    options.isas.clear();
    for (const std::string &isa : request.isas) {
      if (isa != "v3" && isa != "v4") {
        return Status::badInput("unknown instruction set '" + isa + "', expected v3 or v4");
      }
      options.isas.push_back(isa == "v3" ? cpu::Isa::V3 : cpu::Isa::V4);
    }
  }
  FailureOr<cpu::CpuArtifact> artifact = cpu::compileForCpu(*method, request.geometry, options);
  if (failed(artifact)) {
    return diagnostic.status("the method could not be compiled");
  }
  proto::Executable &executable = *artifact->executable;
  executable.set_producer("kvasir " KVASIR_VERSION ", LLVM " LLVM_VERSION_STRING);
  executable.set_target("cpu");
  executable.set_method(request.method);
  executable.set_method_hash(hashOf(composedText));
  executable.set_composed_ir(composedText);
  describeParameters(*method, *executable.mutable_parameters());
  if (!executable.has_token_budget()) {
    executable.set_budget_refusal(budgetRefusal(request.method, *method));
  }
  if (request.emit == "mlir:kernels") {
    result.emitted = artifact->kernelIr;
  } else if (emit == "llvm") {
    result.emitted = artifact->llvmIr;
  } else if (emit == "asm") {
    result.emitted = artifact->assembly;
  } else if (emit == "so") {
    result.emitted = artifact->objects.front();
  } else if (!request.emit.empty()) {
    return Status::badInput("unknown form '" + request.emit + "', expected mlir:STAGE, llvm, asm or so");
  }
  result.executable = std::move(artifact->executable);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return result;
}

StatusOr<std::unique_ptr<rt::Execution>> CompilerProvider::load(const MethodRequest &request) {
  if (request.target == "reference") {
    KVCACHE_RETURN_IF_ERROR(checkGeometryIsWhole(request.geometry));
    DialectRegistry registry;
    cpu::registerKernelDialects(registry);
    State::Loaded loaded{MLIRContext(registry, MLIRContext::Threading::DISABLED), {}, {}};
    FirstDiagnostic diagnostic(loaded.context);
    if (failed(State::load(loaded, request.method, request.parameters))) {
      return diagnostic.status("the method could not be read");
    }
    FailureOr<MethodOp> method = runStages(*loaded.methods.module, loaded.compose, toMethodGeometry(request.geometry), Stage::Composed);
    if (failed(method)) {
      return diagnostic.status("the method could not be composed");
    }
    FailureOr<std::unique_ptr<rt::Execution>> execution = createReferenceExecution(*method, request.geometry);
    if (failed(execution)) {
      return diagnostic.status("the reference target cannot run the method");
    }
    if (request.requireFused) {
      return Status::checkFailed("--require-fused: the reference target fuses nothing");
    }
    return std::move(*execution);
  }
  if (request.target != "cpu") {
    return Status::badInput("unknown target '" + request.target + "', expected cpu or reference");
  }
  CompileRequest compileRequest{request.method, request.parameters, request.geometry, {}, ""};
  compileRequest.isas = {rt::HostCpu::detect().features.count("avx512f") != 0 ? "v4" : "v3"};
  StatusOr<CompileResult> compiled = compile(compileRequest);
  KVCACHE_RETURN_IF_ERROR(compiled.status());
  rt::CompiledOptions options;
  options.captureScores = request.captureScores;
  StatusOr<std::unique_ptr<rt::CompiledExecution>> execution = rt::CompiledExecution::create(compiled->executable, options);
  KVCACHE_RETURN_IF_ERROR(execution.status());
  return std::unique_ptr<rt::Execution>(std::move(*execution));
}

StatusOr<MethodSummary> CompilerProvider::summary(const std::string &method, const std::map<std::string, std::string> &parameters) {
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
