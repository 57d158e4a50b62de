// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvasir-lsp-server: MLIR's language server with this dialect, for method files. The server runs on
// pipes in place of stdin and stdout; two threads carry messages between it and the client.

#include "dialect/KVCacheDialect.h"
#include "tools/lsp/Frames.h"
#include "tools/lsp/PreludeRewriter.h"

#include "mlir/InitAllDialects.h"
#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"

#include "llvm/Support/LogicalResult.h"
#include "llvm/Support/raw_ostream.h"

#include <csignal>
#include <cstdlib>
#include <thread>
#include <unistd.h>

using namespace kvcache::tools;

/// Carries messages until one side ends. `rewrite` changes each.
template <typename Rewrite>
static void carry(int from, int to, Rewrite rewrite) {
  FrameReader reader(from);
  while (std::optional<std::string> text = reader.next()) {
    llvm::Expected<llvm::json::Value> message = llvm::json::parse(*text);
    if (message) {
      rewrite(*message);
      text->clear();
      llvm::raw_string_ostream(*text) << *message;
    } else {
      // What is no JSON is the server's to refuse.
      llvm::consumeError(message.takeError());
    }
    if (!writeFrame(to, *text)) {
      break;
    }
  }
  close(to);
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; ++i) {
    llvm::StringRef option = llvm::StringRef(argv[i]).ltrim('-');
    if (!option.starts_with("log") && option != "help" && option != "version") {
      llvm::errs() << "error: '" << argv[i]
                   << "': expected --log=error|info|verbose, --help or --version\n";
      return 2;
    }
  }
  signal(SIGPIPE, SIG_IGN);
  int toServer[2], toClient[2];
  if (pipe(toServer) != 0 || pipe(toClient) != 0) {
    llvm::errs() << "error: cannot make pipes\n";
    return 2;
  }
  bool asksOnly = argc > 1 && !llvm::StringRef(argv[1]).ltrim('-').starts_with("log");
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  registry.insert<mlir::kvcache::KVCacheDialect>();
  if (asksOnly) {
    return mlir::failed(mlir::MlirLspServerMain(argc, argv, registry));
  }
  int input = dup(STDIN_FILENO), output = dup(STDOUT_FILENO);
  dup2(toServer[0], STDIN_FILENO);
  dup2(toClient[1], STDOUT_FILENO);
  close(toServer[0]);
  close(toClient[1]);
  PreludeRewriter rewriter;
  std::thread up(
      [&] { carry(input, toServer[1], [&](auto &message) { rewriter.toServer(message); }); });
  std::thread down(
      [&] { carry(toClient[0], output, [&](auto &message) { rewriter.toClient(message); }); });
  bool failed = mlir::failed(mlir::MlirLspServerMain(argc, argv, registry));
  llvm::outs().flush();
  close(STDOUT_FILENO);
  down.join();
  // `up` may wait for a client that says nothing more.
  up.detach();
  std::_Exit(failed ? 1 : 0);
}
