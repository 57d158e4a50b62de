// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Between a client and MLIR's language server: the server sees the prelude's aliases in front of
// each method file, the client sees its own lines and columns, and a hover over an op of the
// dialect also shows what its ODS description says.

#pragma once

#include "mlir/Support/LLVM.h"

#include "llvm/Support/JSON.h"

#include <map>
#include <mutex>
#include <string>

namespace kvcache::tools {

/// The description of an op ("kvcache.append") as Markdown; empty when there is none.
std::string describeOp(mlir::StringRef op);

/// Both directions may run at the same time.
class PreludeRewriter {
public:
  /// Changes a message on its way to the server: texts get the prelude, and positions on the first
  /// line move behind it.
  void toServer(llvm::json::Value &message);
  /// Changes a message on its way to the client.
  void toClient(llvm::json::Value &message);

private:
  int64_t columnsOf(const std::string &uri) const;
  void rewriteText(const std::string &uri, llvm::json::Object &holder);
  /// Moves each position on the first line by `columns`, not below column 0.
  static void movePositions(llvm::json::Value &value, int64_t columns);

  std::mutex mutex_;
  std::map<std::string, int64_t> columns_;      ///< of the prelude, by the URI of an open document
  std::map<std::string, std::string> requests_; ///< id -> URI, until it is answered
};

} // namespace kvcache::tools
