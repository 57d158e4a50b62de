// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Blocking reads and writes.

#include "tools/lsp/Frames.h"

#include "llvm/ADT/StringExtras.h"

#include <unistd.h>

namespace kvcache::tools {

using mlir::StringRef;

bool FrameReader::fill(size_t count) {
  char buffer[1 << 16];
  while (held_.size() < count) {
    ssize_t got = read(file_, buffer, sizeof buffer);
    if (got <= 0) {
      return false;
    }
    held_.append(buffer, static_cast<size_t>(got));
  }
  return true;
}

std::optional<std::string> FrameReader::next() {
  size_t end;
  while ((end = held_.find("\r\n\r\n")) == std::string::npos) {
    if (!fill(held_.size() + 1)) {
      return std::nullopt;
    }
  }
  size_t length = 0;
  bool hasLength = false;
  llvm::SmallVector<StringRef> lines;
  StringRef(held_).take_front(end).split(lines, "\r\n");
  for (StringRef line : lines) {
    if (line.consume_front_insensitive("content-length:")) {
      hasLength = !line.trim().getAsInteger(10, length);
    }
  }
  size_t start = end + 4;
  if (!hasLength || !fill(start + length)) {
    return std::nullopt;
  }
  std::string json = held_.substr(start, length);
  held_.erase(0, start + length);
  return json;
}

bool writeFrame(int file, StringRef json) {
  std::string text = "Content-Length: " + std::to_string(json.size()) + "\r\n\r\n" + json.str();
  for (size_t done = 0; done < text.size();) {
    ssize_t wrote = write(file, text.data() + done, text.size() - done);
    if (wrote <= 0) {
      return false;
    }
    done += static_cast<size_t>(wrote);
  }
  return true;
}

} // namespace kvcache::tools
