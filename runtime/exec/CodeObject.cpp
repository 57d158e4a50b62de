// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loads code through an anonymous file in memory.

#include "runtime/exec/CodeObject.h"

#include "runtime/exec/Kvx.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

namespace kvcache::rt {

/// Keeps the eigensolver in every program that loads code, where the loaded object looks for it.
static int32_t (*volatile const providedEigensolver)(int64_t, const float *, float *,
                                                     float *) = kvcache_symmetric_eigen;

static bool writeAll(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t written = write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      return false;
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

StatusOr<std::shared_ptr<CodeObject>> CodeObject::load(std::string_view object) {
  if (object.substr(0, 4) != std::string_view("\177ELF", 4) || providedEigensolver == nullptr) {
    return Status::badInput("the code of the executable is not an ELF object");
  }
  std::shared_ptr<CodeObject> loaded(new CodeObject());
  loaded->file_ = memfd_create("kvasir-kernels", MFD_CLOEXEC);
  if (loaded->file_ < 0 || !writeAll(loaded->file_, object)) {
    return Status::unavailable(std::string("cannot place the code of the executable in memory: ") +
                               std::strerror(errno));
  }
  // The file stays open while the code is mapped: a second object under the same name would be
  // taken for the first.
  std::string path = "/proc/self/fd/" + std::to_string(loaded->file_);
  loaded->handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (loaded->handle_ == nullptr) {
    const char *reason = dlerror();
    return Status::badInput(std::string("the code of the executable does not load: ") +
                            (reason ? reason : "no reason given"));
  }
  return loaded;
}

StatusOr<std::shared_ptr<CodeObject>> CodeObject::loadBest(const proto::Executable &executable,
                                                           const HostCpu &host) {
  std::vector<const proto::NativeCode *> codes;
  for (const proto::NativeCode &code : executable.code()) {
    codes.push_back(&code);
  }
  std::stable_sort(codes.begin(), codes.end(),
                   [](auto *a, auto *b) { return isaLevel(a->isa()) > isaLevel(b->isa()); });
  std::string reasons;
  for (const proto::NativeCode *code : codes) {
    Status runnable =
        checkRunnable(host, code->isa(), {code->features().begin(), code->features().end()});
    if (!runnable.isOk()) {
      reasons += (reasons.empty() ? "" : "; ") + runnable.message();
      continue;
    }
    StatusOr<std::string> object = unpackObject(*code);
    KVCACHE_RETURN_IF_ERROR(object.status());
    StatusOr<std::shared_ptr<CodeObject>> loaded = load(*object);
    if (loaded.isOk()) {
      (*loaded)->isa_ = code->isa();
    }
    return loaded;
  }
  return Status::badInput(reasons.empty() ? "it holds no code" : reasons);
}

CodeObject::~CodeObject() {
  if (handle_ != nullptr) {
    dlclose(handle_);
  }
  if (file_ >= 0) {
    close(file_);
  }
}

kvcache_kernel_fn CodeObject::kernel(const std::string &symbol) const {
  return reinterpret_cast<kvcache_kernel_fn>(dlsym(handle_, symbol.c_str()));
}

} // namespace kvcache::rt
