// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where a command gets the method it runs from. `kvasir` compiles IR in process; `kvasir-rt` loads a
// .kvx. Commands depend on this interface alone, so that both drivers share them and kvasir-rt links
// no compiler.

#pragma once

#include "runtime/Execution.h"
#include "tools/commands/MethodDescription.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvcache::tools {

/// What a command wants to run.
struct MethodRequest {
  std::string method;                          ///< shipped name, `A+B`, a .mlir file, or a .kvx file
  std::map<std::string, std::string> parameters; ///< --set name=value
  rt::Geometry geometry;
  std::string target = "cpu";                  ///< cpu | reference
  bool requireFused = false;                   ///< anything not fused is an error
  bool captureScores = false;                  ///< keep what each selection ranked, for export
  bool integerProducts = false;                ///< attention multiplies codes in integers where it can
  bool anyQueryHeads = false;                  ///< the geometry does not know Hq: an executable of any Hq serves
};

/// What is known of a method without running it.
struct MethodSummary {
  std::string name, family, paper, title;
  std::vector<std::string> phases, labels;
  std::map<std::string, std::string> parameters; ///< name -> default
  bool hasTokenBudget = false;
  double bitsPerValueK = 16, bitsPerValueV = 16; ///< of coded rows
  MethodDescription description;
};

class MethodProvider {
public:
  virtual ~MethodProvider() = default;
  /// A method ready to run, or one message that names the file, op, parameter or target at fault.
  virtual rt::StatusOr<std::unique_ptr<rt::Execution>> load(const MethodRequest &request) = 0;
  /// Shipped methods, sorted by name. Empty for a provider that holds no library.
  virtual std::vector<MethodSummary> shipped() = 0;
  /// Targets that `load` knows.
  virtual std::vector<std::string> targets() const = 0;
};

} // namespace kvcache::tools
