// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir-translate: executables and methods between their file formats and IR.

#include "dialect/KVCacheDialect.h"
#include "dialect/ScheduleOps.h"
#include "frontends/MethodGraph.h"
#include "frontends/MethodParser.h"
#include "runtime/exec/Kvx.h"
#include "targets/ExecutableTranslation.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Tools/mlir-translate/MlirTranslateMain.h"
#include "mlir/Tools/mlir-translate/Translation.h"

#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/raw_ostream.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

using namespace mlir;
using namespace mlir::kvcache;

namespace proto = ::kvcache::proto;
namespace rt = ::kvcache::rt;

static void registerDialects(DialectRegistry &registry) {
  registry.insert<KVCacheDialect, arith::ArithDialect, func::FuncDialect, math::MathDialect,
                  scf::SCFDialect>();
}

static OwningOpRef<Operation *> release(FailureOr<OwningOpRef<ModuleOp>> module) {
  return failed(module) ? OwningOpRef<Operation *>()
                        : OwningOpRef<Operation *>(module->release().getOperation());
}

/// A place in the file that is translated; without a line, the whole of it.
static Location placeIn(const llvm::MemoryBuffer &file, MLIRContext *context, unsigned line = 0,
                        unsigned column = 0) {
  return FileLineColLoc::get(context, file.getBufferIdentifier(), line, column);
}

static OwningOpRef<Operation *> kvxToMlir(llvm::SourceMgr &source, MLIRContext *context) {
  const llvm::MemoryBuffer *file = source.getMemoryBuffer(source.getMainFileID());
  auto parsed = rt::parseKvx({file->getBufferStart(), file->getBufferSize()},
                             file->getBufferIdentifier().str());
  if (!parsed.isOk()) {
    llvm::errs() << "error: " << parsed.status().message() << '\n'; // it names the file
    return {};
  }
  return release(importExecutable(placeIn(*file, context), **parsed));
}

static LogicalResult mlirToKvx(Operation *op, llvm::raw_ostream &output) {
  ExecutableOp executable;
  op->walk([&](ExecutableOp found) { executable = found; });
  if (!executable || executable.getBody().getOps<ExecCodeOp>().empty()) {
    return op->emitOpError("expects to hold a kvcache.executable with code");
  }
  proto::Executable message;
  if (failed(exportExecutable(executable, message))) {
    return failure();
  }
  auto bytes = rt::serializeKvx(message);
  if (!bytes.isOk()) {
    return op->emitOpError(bytes.status().message());
  }
  output << *bytes;
  return success();
}

/// A method file is read as every command reads it: with the aliases of the prelude.
static LogicalResult methodToGraph(const std::shared_ptr<llvm::SourceMgr> &source,
                                   llvm::raw_ostream &output, MLIRContext *context) {
  DialectRegistry registry;
  registerDialects(registry);
  context->appendDialectRegistry(registry);
  const llvm::MemoryBuffer *file = source->getMemoryBuffer(source->getMainFileID());
  FailureOr<OwningOpRef<ModuleOp>> module =
      parseMethodText(*context, file->getBuffer(), file->getBufferIdentifier());
  proto::MethodGraph graph;
  if (failed(module) || failed(exportMethodGraph(**module, graph))) {
    return failure();
  }
  std::string text;
  if (!google::protobuf::TextFormat::PrintToString(graph, &text)) {
    return (*module)->emitOpError("cannot be printed as protobuf text");
  }
  output << text;
  return success();
}

/// The first error of the text, for a diagnostic.
struct FirstTextError final : google::protobuf::io::ErrorCollector {
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string &message) override {
    if (text.empty()) {
      text = message;
      place = {line + 1, column + 1};
    }
  }
  std::string text;
  std::pair<unsigned, unsigned> place; ///< line and column, from 1
};

static OwningOpRef<Operation *> graphToMethod(llvm::SourceMgr &source, MLIRContext *context) {
  const llvm::MemoryBuffer *file = source.getMemoryBuffer(source.getMainFileID());
  context->loadAllAvailableDialects();
  proto::MethodGraph graph;
  FirstTextError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFromString(file->getBuffer().str(), &graph)) {
    emitError(placeIn(*file, context, error.place.first, error.place.second)) << error.text;
    return {};
  }
  return release(importMethodGraph(placeIn(*file, context), graph));
}

int main(int argc, char **argv) {
  TranslateToMLIRRegistration readsKvx("kvx-to-mlir", "a .kvx file to IR of the scheduled stage",
                                       kvxToMlir, registerDialects);
  TranslateFromMLIRRegistration writesKvx(
      "mlir-to-kvx", "an executable with its code to a .kvx file", mlirToKvx, registerDialects);
  TranslateRegistration writesGraph("method-to-graph",
                                    "methods to protobuf text (method_graph.proto)", methodToGraph);
  TranslateToMLIRRegistration readsGraph("graph-to-method",
                                         "protobuf text (method_graph.proto) to methods",
                                         graphToMethod, registerDialects);
  return failed(mlirTranslateMain(argc, argv, "Kvasir translation driver")) ? 2 : 0;
}
