// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Files that appear whole or not at all.

#pragma once

#include "runtime/Status.h"

#include <cstdio>
#include <string>

namespace kvcache::rt {

/// Writes to a temporary file in the folder of `path`; `commit` makes it
/// `path`. Destroyed without commit, it leaves nothing behind and `path` as it
/// was.
class AtomicFile {
public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile &) = delete;
  AtomicFile &operator=(const AtomicFile &) = delete;

  /// Appends; opens the temporary file at the first call. Unavailable, with the
  /// system's reason, on failure.
  Status append(const void *data, size_t bytes);
  /// Flushes to the disk and renames.
  Status commit();

private:
  Status open();
  Status failure(const char *action) const;

  std::string path_, temporary_;
  std::FILE *file_ = nullptr;
};

/// Writes `text` as the whole content of `path`.
Status writeFileAtomically(const std::string &path, const std::string &text);
/// The whole content of a regular file. Bad input when it cannot be opened or
/// is larger than `maxBytes`.
StatusOr<std::string> readWholeFile(const std::string &path,
                                    int64_t maxBytes = int64_t(1) << 30);

} // namespace kvcache::rt
