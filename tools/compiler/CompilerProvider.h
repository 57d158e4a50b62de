// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The MethodProvider that compiles: method text to an Execution of the cpu or the reference target,
// in process.

#pragma once

#include "runtime/abi/executable.pb.h"
#include "tools/commands/MethodGraph.h"
#include "tools/commands/MethodProvider.h"

#include <memory>
#include <string>
#include <vector>

namespace kvcache::tools {

/// What `kvasir compile` asks for.
struct CompileRequest {
  std::string method;
  std::map<std::string, std::string> parameters;
  rt::Geometry geometry;
  std::vector<std::string> isas; ///< "v3", "v4"; empty: both
  /// Text to return instead of an executable: "mlir:STAGE" (composed, specialized, decomposed,
  /// fused, kernels), "llvm", "asm"; "so" returns the bytes of the shared object; empty: the
  /// executable alone.
  std::string emit;
  std::string target = "cpu";
  bool integerProducts = false; ///< attention multiplies codes in integers where it can
};

struct CompileResult {
  std::shared_ptr<proto::Executable> executable; ///< null when `emit` stopped earlier
  std::string emitted;
  double seconds = 0;
};

class CompilerProvider final : public MethodProvider {
public:
  rt::StatusOr<std::unique_ptr<rt::Execution>> load(const MethodRequest &request) override;
  std::vector<MethodSummary> shipped() override;
  std::vector<std::string> targets() const override;

  /// What is known of any method, with `parameters` set. Bad input with file and line when the text
  /// is at fault.
  rt::StatusOr<MethodSummary> summary(const std::string &method,
                                      const std::map<std::string, std::string> &parameters);
  /// What is fused with what, with byte figures for a cache of `tokens` rows.
  rt::StatusOr<MethodGraph> graph(const CompileRequest &request, int64_t tokens);
  /// Compiles without loading. Bad input with file and line when the text is at fault.
  rt::StatusOr<CompileResult> compile(const CompileRequest &request);

private:
  struct Compilation;
};

} // namespace kvcache::tools
