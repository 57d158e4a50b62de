// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir-reduce: makes a method file smaller while a script finds it interesting (exit code 1).

#include "dialect/KVCacheDialect.h"
#include "frontends/MethodParser.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Tools/mlir-reduce/MlirReduceMain.h"

#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

namespace {

using namespace mlir;

int refuse(const Twine &message) {
  llvm::errs() << "error: " << message << "\n";
  return 2;
}

} // namespace

/// Writes the method at `path` with its aliases spelled out to a temporary file.
static FailureOr<std::string> writeSpelledOut(MLIRContext &context, StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer) {
    llvm::errs() << "error: " << path << ": " << buffer.getError().message() << "\n";
    return failure();
  }
  FailureOr<OwningOpRef<ModuleOp>> module =
      kvcache::parseMethodText(context, (*buffer)->getBuffer(), path);
  if (failed(module)) {
    return failure();
  }
  SmallString<128> name;
  int file;
  if (llvm::sys::fs::createTemporaryFile("kvasir-reduce", "mlir", file, name)) {
    llvm::errs() << "error: cannot make a temporary file\n";
    return failure();
  }
  llvm::raw_fd_ostream(file, /*shouldClose=*/true) << **module;
  return std::string(name);
}

int main(int argc, char **argv) {
  std::string input, output, script, argument;
  for (int i = 1; i < argc; ++i) {
    StringRef word = argv[i];
    if (word == "--help" || word == "-h") {
      llvm::outs()
          << "kvasir-reduce METHOD.mlir --test=SCRIPT [--test-arg=TEXT] -o OUTPUT.mlir\n\n"
             "Leaves out ops of a method while SCRIPT [TEXT] FILE ends with exit code 1.\n";
      return 0;
    }
    if (word == "-o" && i + 1 < argc) {
      output = argv[++i];
    } else if (word.consume_front("--test=")) {
      script = word.str();
    } else if (word.consume_front("--test-arg=")) {
      argument = word.str();
    } else if (!word.starts_with("-") && input.empty()) {
      input = word.str();
    } else {
      return refuse("'" + word +
                    "': expected METHOD.mlir --test=SCRIPT [--test-arg=TEXT] -o OUTPUT.mlir");
    }
  }
  if (input.empty() || script.empty() || output.empty()) {
    return refuse("expected METHOD.mlir --test=SCRIPT [--test-arg=TEXT] -o OUTPUT.mlir");
  }
  if (!llvm::sys::fs::can_execute(script)) {
    return refuse(script + ": expected a program that can be run");
  }
  DialectRegistry registry;
  registerAllDialects(registry);
  registry.insert<kvcache::KVCacheDialect>();
  registerAllPasses();
  MLIRContext context(registry);
  context.loadAllAvailableDialects();
  FailureOr<std::string> file = writeSpelledOut(context, input);
  if (failed(file)) {
    return 2;
  }
  llvm::FileRemover remover(*file);
  // Most candidates are no valid IR, and say so. Only the reason of a failure is told.
  std::string last;
  ScopedDiagnosticHandler quiet(&context, [&last](Diagnostic &diagnostic) {
    last = diagnostic.str();
    return success();
  });
  std::string tree = "--reduction-tree=traversal-mode=0 test=" + script +
                     (argument.empty() ? "" : " test-arg=" + argument);
  std::vector<std::string> words = {argv[0], *file, tree, "-o", output};
  std::vector<char *> pointers;
  for (std::string &word : words) {
    pointers.push_back(word.data());
  }
  if (failed(mlirReduceMain(static_cast<int>(pointers.size()), pointers.data(), context))) {
    return refuse(input + ": " + (last.empty() ? "not reduced" : last));
  }
  return 0;
}
