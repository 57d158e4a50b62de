// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Results of the reference target that travel in an executable, so that it can be checked where
// there is no compiler.

#pragma once

#include "runtime/abi/executable.pb.h"
#include "tools/commands/ApplyMethod.h"
#include "tools/commands/CompareResults.h"
#include "tools/commands/MethodProvider.h"

#include <functional>
#include <string>
#include <vector>

namespace kvcache::tools {

/// Runs the request on the reference target over generated inputs and adds the results to
/// `executable`. `calibrated` gives artefacts to a method that needs them.
rt::Status recordCases(MethodProvider &provider, MethodRequest request,
                       const std::function<rt::Status(rt::Execution &)> &calibrated,
                       proto::Executable &executable);

/// How one recorded case came out.
struct CheckedCase {
  std::string name;
  Comparison comparison;
};

/// Runs every recorded case of the .kvx at `path`. Bad input when it holds none. The executable's
/// kernels go to `kernels`, its method's name to `method`.
rt::StatusOr<std::vector<CheckedCase>> checkCases(const std::string &path, std::string &method,
                                                  std::vector<rt::KernelReport> &kernels);

/// Reads a file that writeResult wrote. Codes stay in the file: rows tell.
rt::StatusOr<ApplyResult> readResult(const std::string &path, const rt::Geometry &geometry);

/// The budget of a case as applyMethod takes it.
Budget budgetOfCase(int64_t tokens, const rt::Execution &execution);

} // namespace kvcache::tools
