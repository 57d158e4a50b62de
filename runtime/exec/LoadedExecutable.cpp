// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Look-ups in a loaded executable.

#include "runtime/exec/LoadedExecutable.h"

#include "runtime/exec/ExecutableLoader.h"

#include <algorithm>
#include <set>

namespace kvcache::rt {

const char *programKindName(proto::Program::Kind kind) {
  switch (kind) {
  case proto::Program::PREFILL:
    return "prefill";
  case proto::Program::INGEST:
    return "ingest";
  case proto::Program::DECODE:
    return "decode";
  case proto::Program::PROMPT_END:
    return "prompt_end";
  case proto::Program::STEP_END:
    return "step_end";
  case proto::Program::ATTEND:
    return "attend";
  case proto::Program::READ:
    return "read";
  case proto::Program::CALIBRATE:
    return "calibrate";
  case proto::Program::PROMPT_SCORE:
    return "prompt_score";
  case proto::Program::PROMPT_MODEL:
    return "prompt_model";
  case proto::Program::PROBE:
    return "probe";
  case proto::Program::DRAFT_END:
    return "draft_end";
  case proto::Program::CALIBRATE_MODEL:
    return "calibrate_model";
  default:
    return "unknown";
  }
}

bool LoadedProgram::uses(proto::Buffer::Role role) const { return buffer(role) >= 0; }

int32_t LoadedProgram::buffer(proto::Buffer::Role role) const {
  for (size_t b = 0; b < buffers.size(); ++b) {
    if (buffers[b].role == role) {
      return static_cast<int32_t>(b);
    }
  }
  return -1;
}

int32_t LoadedProgram::buffer(const std::string &name) const {
  for (size_t b = 0; b < buffers.size(); ++b) {
    if (buffers[b].name == name) {
      return static_cast<int32_t>(b);
    }
  }
  return -1;
}

StatusOr<std::shared_ptr<const LoadedExecutable>>
LoadedExecutable::load(std::shared_ptr<const proto::Executable> message,
                       std::shared_ptr<const CodeObject> code) {
  std::shared_ptr<LoadedExecutable> loaded(new LoadedExecutable());
  loaded->message_ = std::move(message);
  loaded->code_ = std::move(code);
  KVCACHE_RETURN_IF_ERROR(ExecutableLoader(*loaded).run());
  return std::shared_ptr<const LoadedExecutable>(loaded);
}

bool LoadedExecutable::anyUses(proto::Program::Kind kind, proto::Buffer::Role role) const {
  for (const auto &program : programs_) {
    if (program->kind == kind && program->uses(role)) {
      return true;
    }
  }
  return false;
}

bool LoadedExecutable::usesIds() const {
  return std::any_of(programs_.begin(), programs_.end(), [](const auto &program) {
    return program->source.empty() && program->uses(proto::Buffer::IDS);
  });
}

std::vector<std::string> LoadedExecutable::requests() const {
  std::set<std::string> names;
  for (const auto &program : programs_) {
    for (const LoadedBuffer &b : program->buffers) {
      if (isRequest(b.role) &&
          program->source.empty()) { // those of a source come with its sequences
        names.insert(b.name);
      }
    }
  }
  return {names.begin(), names.end()};
}

std::pair<int32_t, int32_t> LoadedExecutable::findColumn(const std::string &name) const {
  for (size_t s = 0; s < stores_.size(); ++s) {
    int32_t column = stores_[s]->column(name);
    if (column >= 0) {
      return {static_cast<int32_t>(s), column};
    }
  }
  return {-1, -1};
}

} // namespace kvcache::rt
