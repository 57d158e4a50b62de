// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What every command of a driver is, and what it leaves behind: text on the terminal, one JSON
// object, an exit code. A command computes rows once; table and JSON are made from the same rows.

#pragma once

#include "runtime/Execution.h"

#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace kvcache::tools {

using Json = nlohmann::ordered_json;

/// The JSON object of one invocation (docs/schema/<command>.schema.json), without what the driver
/// adds: schema, argv, version, host, ok, error.
struct CommandReport {
  uint64_t seed = 0;                     ///< of everything that was generated
  Json rows = Json::array();             ///< one object per result; NaN is written as null
  std::vector<rt::KernelReport> kernels; ///< of every execution that ran
};

/// Options that every command has.
struct CommonOptions {
  std::string json; ///< --json FILE; empty: none
  int threads = 0;  ///< --threads N; 0: as many as the process may use
  bool verbose = false;
  std::vector<std::string> argv; ///< the whole command line, for reports
};

class Command {
public:
  virtual ~Command() = default;
  /// The word after the driver's name.
  virtual const char *name() const = 0;
  /// One line for the list of commands.
  virtual const char *summary() const = 0;
  /// A command line that works, for --help.
  virtual const char *example() const = 0;
  /// Declares options and arguments; the common ones are there already.
  virtual void declare(CLI::App &app) = 0;
  /// Does the work. Results go to stdout, all else to stderr. `report` is written as JSON even when
  /// this fails.
  virtual rt::Status run(const CommonOptions &common, CommandReport &report) = 0;
};

/// Runs the command that argv names. Exit code: 0 ok, 1 a check failed, 2 bad input or a refusal of
/// the system, with exactly one line "error: ..." on stderr unless 0.
int runDriver(int argc, char **argv, const char *description,
              std::vector<std::unique_ptr<Command>> commands);

/// One line on stderr, such as "note: the prompt keeps every token".
void printNote(const char *kind, const std::string &text);

/// The JSON form of a kernel of `KernelReport`; bytes are null for a kernel without a figure: it has
/// not run, or its target does not count.
Json toJson(const rt::KernelReport &kernel);

/// Adds the kernels of an execution to a report. Check failed, naming the first, when
/// `requireFused` and one of them is not fused.
rt::Status addKernels(const rt::Execution &execution, bool requireFused, CommandReport &report);

/// "3 fused" or "2 fused, 1 reference (select.topk: reason)".
std::string kernelStatusText(const std::vector<rt::KernelReport> &kernels);

} // namespace kvcache::tools
