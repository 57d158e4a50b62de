// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Chunks of scratch memory.

#include "runtime/exec/Scratch.h"

#include <algorithm>

namespace kvcache::rt {

static constexpr int64_t scratchAlignment = 64;
static constexpr int64_t leastChunk = 64 << 10;

char *Scratch::take(int64_t bytes) {
  bytes = std::max<int64_t>(scratchAlignment,
                            (bytes + scratchAlignment - 1) / scratchAlignment * scratchAlignment);
  if (used_ + bytes > size_) {
    int64_t size = std::max({bytes, leastChunk, total_});
    char *chunk =
        static_cast<char *>(std::aligned_alloc(scratchAlignment, static_cast<size_t>(size)));
    if (chunk == nullptr) {
      return nullptr;
    }
    if (chunk_) {
      full_.push_back(std::move(chunk_));
    }
    chunk_.reset(chunk);
    size_ = size;
    total_ += size;
    used_ = 0;
  }
  used_ += bytes;
  return chunk_.get() + used_ - bytes;
}

void Scratch::reset() {
  used_ = 0;
  if (full_.empty()) {
    return;
  }
  full_.clear();
  chunk_.reset(
      static_cast<char *>(std::aligned_alloc(scratchAlignment, static_cast<size_t>(total_))));
  size_ = total_ = chunk_ ? total_ : 0;
}

} // namespace kvcache::rt
