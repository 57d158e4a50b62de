// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where things are on this machine.

#include "tools/commands/ModelInput.h"

#include "runtime/io/AtomicFile.h"
#include "runtime/model/PromptRecording.h"
#include "runtime/model/Tokens.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

std::string bundledModel() {
  namespace fs = std::filesystem;
  if (const char *chosen = std::getenv("KVASIR_MODEL"); chosen != nullptr && *chosen != '\0') {
    return chosen;
  }
  std::error_code error;
  fs::path built = fs::path(KVASIR_SOURCE_DIR) / "models" / "kvref-s";
  if (fs::exists(built / "config.json", error)) {
    return built.string();
  }
  fs::path binary = fs::read_symlink("/proc/self/exe", error);
  return (binary.parent_path().parent_path() / "share" / "kvasir" / "models" / "kvref-s").string();
}

StatusOr<std::vector<int32_t>> readPrompt(const std::string &path, const rt::ModelConfig &config,
                                          const std::string &modelDirectory) {
  StatusOr<std::string> text = rt::readWholeFile(path);
  KVCACHE_RETURN_IF_ERROR(text.status());
  if (text->empty()) {
    return Status::badInput(path + ": expected a prompt of at least one byte, got an empty file");
  }
  return rt::tokensOfText(config, modelDirectory, *text);
}

StatusOr<std::unique_ptr<rt::Execution>> denseLike(const rt::Execution &execution,
                                                   MethodProvider &provider) {
  MethodRequest request;
  request.method = "dense";
  request.target = execution.target();
  request.geometry = execution.geometry();
  StatusOr<std::unique_ptr<rt::Execution>> dense = provider.load(request);
  if (!dense.isOk()) {
    return Status::badInput("method '" + execution.methodName() +
                            "' is not calibrated, and this driver cannot: `kvasir compile --calib "
                            "FILE` stores the artefacts");
  }
  return dense;
}

Status calibrateFromTokens(rt::Execution &execution, rt::Decoder &decoder, MethodProvider &provider,
                           const std::vector<int32_t> &tokens) {
  StatusOr<std::unique_ptr<rt::Execution>> dense = denseLike(execution, provider);
  KVCACHE_RETURN_IF_ERROR(dense.status());
  StatusOr<std::unique_ptr<rt::Sequence>> sequence = (*dense)->createSequence({});
  KVCACHE_RETURN_IF_ERROR(sequence.status());
  rt::SequenceRun run;
  run.sequence = sequence->get();
  run.prompt = tokens;
  rt::RecordOptions options;
  options.preRopeKeys = execution.needsPreRopeKeys();
  StatusOr<std::vector<rt::PromptRecording>> recordings =
      rt::recordPrompts(decoder, **dense, {&run}, options);
  KVCACHE_RETURN_IF_ERROR(recordings.status());
  KVCACHE_RETURN_IF_ERROR(rt::calibrate((*recordings)[0], execution));
  return execution.finishCalibration();
}

int64_t residentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0, resident = 0;
  return statm >> size >> resident ? resident * sysconf(_SC_PAGESIZE) : 0;
}

} // namespace kvcache::tools
