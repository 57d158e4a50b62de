// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Messages of the Language Server Protocol on file descriptors: a header with the length, a blank
// line, JSON.

#pragma once

#include "mlir/Support/LLVM.h"

#include "llvm/Support/JSON.h"

#include <optional>
#include <string>

namespace kvcache::tools {

/// Reads messages from a file descriptor, which it does not close.
class FrameReader {
public:
  explicit FrameReader(int file) : file_(file) {}

  /// The JSON of the next message as text; nothing at the end, or when a header is malformed.
  std::optional<std::string> next();

private:
  /// Makes sure that `count` bytes are held; false when the stream ends before.
  bool fill(size_t count);

  int file_;
  std::string held_;
};

/// False when the other side is gone.
bool writeFrame(int file, mlir::StringRef json);

} // namespace kvcache::tools
