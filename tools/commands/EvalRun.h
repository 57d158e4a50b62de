// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What `eval` and `demo` share: methods are loaded and calibrated, a grid is evaluated, and what
// came out is put into the struct that every form of the report is made from.

#pragma once

#include "runtime/eval/Evaluator.h"
#include "tools/commands/Command.h"
#include "tools/commands/MethodProvider.h"
#include "tools/report/ReportData.h"

#include <string>
#include <vector>

namespace kvcache::tools {

/// A method with its parameters, as the user or a settings file chose them.
struct MethodChoice {
  std::string method; ///< shipped name, `A+B` or a file
  std::map<std::string, std::string> parameters;
};

struct EvalRequest {
  std::string model; ///< folder of a byte-level model with words.txt and heldout-*.txt
  std::vector<MethodChoice> methods; ///< dense is added in front when it is not there
  std::string target = "cpu";
  bool requireFused = false;
  rt::EvalGrid grid;                  ///< without budgets
  std::vector<std::string> budgets;   ///< "0.25", "512", "64MiB"
  std::string journal;                ///< file; empty: none
  std::vector<std::string> artefacts; ///< files; each for the method that it was made for
};

/// Runs the grid and fills what is known of `data` and `report` (rows are the caller's). SIGINT
/// stops before the next part: `data.interrupted`. Check failed when a kernel is not fused and
/// `requireFused` asks for it.
rt::Status runEvaluation(MethodProvider &provider, const EvalRequest &request,
                         CommandReport &report, ReportData &data);

/// Settings by method from `path`, a JSON object {"methods": {NAME: {PARAMETER: VALUE}}}; `text` is
/// set to its content. Bad input names file and key.
rt::StatusOr<std::map<std::string, std::map<std::string, std::string>>>
readSettings(const std::string &path, std::string &text);

/// Ok, or why a run that was interrupted, or whose bytes are not as claimed, counts as failed.
rt::Status statusOf(const ReportData &data, const std::string &journal);

} // namespace kvcache::tools
