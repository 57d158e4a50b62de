// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Parses the command line, runs one command, turns its status into an exit code and its report into
// JSON. The JSON file appears whole or not at all, on failure too.

#include "tools/commands/Command.h"

#include "runtime/io/AtomicFile.h"
#include "runtime/parallel/Parallel.h"
#include "tools/commands/HostInfo.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <map>

namespace kvcache::tools {

using rt::Status;
using rt::StatusCode;

static std::string oneLine(std::string text) {
  for (char &c : text) {
    c = c == '\n' || c == '\r' ? ' ' : c;
  }
  return text;
}

/// What is wrong with the words of `command`. A value of the wrong type is told with the type that
/// its option takes, which the parser leaves out.
static std::string wordingOf(const CLI::ParseError &error, const CLI::App *command) {
  std::string text = error.what(), start = "Could not convert: ", between = " = ";
  size_t end = text.find(between);
  if (command == nullptr || text.rfind(start, 0) != 0 || end == std::string::npos) {
    return text;
  }
  std::string name = text.substr(start.size(), end - start.size());
  const CLI::Option *option = command->get_option_no_throw(name);
  std::string type = option == nullptr ? "" : option->get_type_name();
  std::string expected = type.rfind("FLOAT", 0) == 0  ? "a number"
                         : type.rfind("UINT", 0) == 0 ? "an integer from 0 on"
                         : type.rfind("INT", 0) == 0  ? "an integer"
                                                      : "";
  return expected.empty()
             ? text
             : fmt::format("{} {}: expected {}", name, text.substr(end + between.size()), expected);
}

void printNote(const char *kind, const std::string &text) {
  std::fflush(stdout);
  fmt::print(stderr, "{}: {}\n", kind, oneLine(text));
}

Json toJson(const rt::KernelReport &kernel) {
  // A kernel that has not run, or that nobody accounts for, has no figure.
  bool counted = kernel.bytesRead > 0 || kernel.bytesWritten > 0;
  return {{"name", kernel.name},
          {"ops", kernel.ops},
          {"target", kernel.target},
          {"status", kernel.status},
          {"reason", kernel.reason.empty() ? Json(nullptr) : Json(kernel.reason)},
          {"bytes_read", counted ? Json(kernel.bytesRead) : Json(nullptr)},
          {"bytes_written", counted ? Json(kernel.bytesWritten) : Json(nullptr)}};
}

Status addKernels(const rt::Execution &execution, bool requireFused, CommandReport &report) {
  Status status;
  for (const rt::KernelReport &kernel : execution.kernels()) {
    if (requireFused && kernel.status != "fused" && status.isOk()) {
      status = Status::checkFailed("--require-fused: kernel '" + kernel.name + "' is " +
                                   kernel.status + ": " + kernel.reason);
    }
    report.kernels.push_back(kernel);
  }
  return status;
}

std::string kernelStatusText(const std::vector<rt::KernelReport> &kernels) {
  std::map<std::string, int> counts;
  std::string reasons;
  for (const rt::KernelReport &kernel : kernels) {
    ++counts[kernel.status];
    if (kernel.status != "fused" && reasons.empty()) {
      reasons = " (" + kernel.name + ": " + kernel.reason + ")";
    }
  }
  std::string text;
  for (const auto &[status, count] : counts) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, status);
  }
  return text.empty() ? "none" : text + reasons;
}

static int exitCodeOf(const Status &status) {
  if (status.isOk()) {
    return 0;
  }
  return status.code() == StatusCode::CheckFailed ? 1 : 2;
}

/// The argument of --json, found without the parser: a command line it refuses still leaves a
/// report.
static std::string findJsonPath(const std::vector<std::string> &argv) {
  for (size_t i = 1; i < argv.size(); ++i) {
    if (argv[i] == "--json" && i + 1 < argv.size()) {
      return argv[i + 1];
    }
    if (argv[i].rfind("--json=", 0) == 0) {
      return argv[i].substr(7);
    }
  }
  return "";
}

static Status writeReport(const std::string &path, const std::string &command,
                          const std::vector<std::string> &argv, const Status &status,
                          const CommandReport &report) {
  Json kernels = Json::array();
  for (const rt::KernelReport &kernel : report.kernels) {
    kernels.push_back(toJson(kernel));
  }
  Json json = {{"schema", "kvasir." + command + "/1"},
               {"argv", argv},
               {"version", KVASIR_VERSION},
               {"host", hostInfo()},
               {"seed", report.seed},
               {"ok", status.isOk()},
               {"error", status.isOk() ? Json(nullptr) : Json(oneLine(status.message()))},
               {"rows", report.rows},
               {"kernels", kernels}};
  return rt::writeFileAtomically(path,
                                 json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

/// Prints the one error line and writes the report; the exit code of both.
static int finish(const std::string &jsonPath, const std::string &command,
                  const std::vector<std::string> &argv, Status status,
                  const CommandReport &report) {
  std::fflush(stdout);
  if (!jsonPath.empty()) {
    Status written = writeReport(jsonPath, command, argv, status, report);
    status = status.isOk() ? written : status;
  }
  if (!status.isOk()) {
    printNote("error", status.message());
  }
  return exitCodeOf(status);
}

static Status runCommand(Command &command, const CommonOptions &common, CommandReport &report) {
  try {
    KVCACHE_RETURN_IF_ERROR(rt::setThreads(common.threads));
    return command.run(common, report);
  } catch (const std::bad_alloc &) {
    return Status::unavailable("out of memory");
  } catch (const std::exception &exception) {
    return Status::internal(std::string("internal error: ") + exception.what());
  }
}

int runDriver(int argc, char **argv, const char *description,
              std::vector<std::unique_ptr<Command>> commands) {
  std::vector<std::string> words(argv, argv + argc);
  CLI::App app(description);
  app.set_version_flag("--version", std::string(KVASIR_VERSION));
  app.require_subcommand(1);
  CommonOptions common;
  common.argv = words;
  for (const auto &command : commands) {
    CLI::App *sub = app.add_subcommand(command->name(), command->summary());
    sub->add_option("--json", common.json, "Write the result as one JSON object to this file");
    sub->add_option("--threads", common.threads,
                    "Threads to use; 0: as many as the process may use");
    sub->add_flag("-v,--verbose", common.verbose, "Say more on stderr");
    sub->footer(std::string("Example:\n  ") + command->example());
    command->declare(*sub);
  }
  CommandReport report;
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    if (error.get_exit_code() == 0) {
      return app.exit(error); // --help, --version
    }
    std::string command = argc > 1 ? argv[1] : "";
    bool known = false;
    std::string names;
    for (const auto &one : commands) {
      known = known || command == one->name();
      names += std::string(names.empty() ? "" : ", ") + one->name();
    }
    if (!known && !command.empty() && command[0] != '-') {
      return finish("", command, words,
                    Status::badInput("unknown command '" + command + "', expected one of " + names),
                    report);
    }
    return finish(known ? findJsonPath(words) : "", command, words,
                  Status::badInput(wordingOf(error, known ? app.get_subcommand(command) : nullptr)),
                  report);
  }
  for (const auto &command : commands) {
    if (app.got_subcommand(command->name())) {
      return finish(common.json, command->name(), words, runCommand(*command, common, report),
                    report);
    }
  }
  return 2;
}

} // namespace kvcache::tools
