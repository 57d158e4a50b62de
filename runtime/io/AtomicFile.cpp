// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Temporary file, flush, rename. Invariant: `path` never names a half-written
// file.

#include "runtime/io/AtomicFile.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace kvcache::rt {

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {}

AtomicFile::~AtomicFile() {
  if (file_) {
    std::fclose(file_);
  }
  if (!temporary_.empty()) {
    ::unlink(temporary_.c_str());
  }
}

Status AtomicFile::failure(const char *action) const {
  return Status::unavailable("cannot " + std::string(action) + " '" + path_ +
                             "': " + std::strerror(errno));
}

Status AtomicFile::open() {
  // A rename would put a file in the place of a device, a pipe or a socket.
  struct stat existing;
  if (::stat(path_.c_str(), &existing) == 0 && !S_ISREG(existing.st_mode)) {
    return Status::badInput("cannot write '" + path_ + "': expected a regular file or a new name");
  }
  std::string pattern = path_ + ".tmp.XXXXXX";
  std::vector<char> name(pattern.begin(), pattern.end());
  name.push_back('\0');
  int descriptor = ::mkstemp(name.data());
  if (descriptor < 0) {
    return failure("create");
  }
  temporary_ = name.data();
  // mkstemp makes the file private; give it the mode an ordinary new file would
  // have.
  mode_t mask = ::umask(0);
  ::umask(mask);
  if (::fchmod(descriptor, 0666 & ~mask) != 0) {
    Status status = failure("create");
    ::close(descriptor);
    return status;
  }
  file_ = ::fdopen(descriptor, "wb");
  if (!file_) {
    Status status = failure("create");
    ::close(descriptor);
    return status;
  }
  return Status::ok();
}

Status AtomicFile::append(const void *data, size_t bytes) {
  if (!file_) {
    KVCACHE_RETURN_IF_ERROR(open());
  }
  if (bytes != 0 && std::fwrite(data, 1, bytes, file_) != bytes) {
    return failure("write");
  }
  return Status::ok();
}

Status AtomicFile::commit() {
  if (!file_) {
    KVCACHE_RETURN_IF_ERROR(open());
  }
  if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) {
    return failure("write");
  }
  int closed = std::fclose(file_);
  file_ = nullptr;
  if (closed != 0) {
    return failure("write");
  }
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return failure("replace");
  }
  temporary_.clear();
  return Status::ok();
}

Status writeFileAtomically(const std::string &path, const std::string &text) {
  AtomicFile file(path);
  KVCACHE_RETURN_IF_ERROR(file.append(text.data(), text.size()));
  return file.commit();
}

StatusOr<std::string> readWholeFile(const std::string &path, int64_t maxBytes) {
  std::FILE *file = std::fopen(path.c_str(), "rb");
  if (!file) {
    return Status::badInput("cannot read '" + path +
                            "': " + std::strerror(errno));
  }
  std::string text;
  char buffer[1 << 16];
  size_t got = 0;
  while ((got = std::fread(buffer, 1, sizeof(buffer), file)) > 0) {
    text.append(buffer, got);
    if (static_cast<int64_t>(text.size()) > maxBytes) {
      std::fclose(file);
      return Status::badInput("cannot read '" + path + "': expected at most " +
                              std::to_string(maxBytes) + " bytes");
    }
  }
  bool failed = std::ferror(file) != 0;
  std::string reason = failed ? std::strerror(errno) : "";
  std::fclose(file);
  if (failed) {
    return Status::badInput("cannot read '" + path + "': " + reason);
  }
  return text;
}

} // namespace kvcache::rt
