// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Work buffers of OpenBLAS, one stack of them per thread. Invariant: a buffer
// is in the hands of at most one call. The library itself allocates them
// (`blas_memory_alloc_nolock`: its own size plus a page), so their size is
// always right for the library that is loaded.

#include "runtime/parallel/BlasBuffers.h"

#include <cstdint>
#include <dlfcn.h>
#include <vector>

extern "C" {
void *blas_memory_alloc_nolock(int unused);
void blas_memory_free_nolock(void *buffer);
}

namespace {

/// The buffers of one thread; kept for the next call, given back when the
/// thread ends.
class BufferStack {
public:
  ~BufferStack() {
    for (const Buffer &buffer : buffers_) {
      blas_memory_free_nolock(buffer.raw);
    }
  }

  void *take() {
    for (Buffer &buffer : buffers_) {
      if (!buffer.busy) {
        buffer.busy = true;
        return buffer.aligned();
      }
    }
    buffers_.push_back({blas_memory_alloc_nolock(0), true});
    return buffers_.back().aligned();
  }

  /// False when this thread did not take `address`.
  void giveBack(const void *address) {
    for (Buffer &buffer : buffers_) {
      buffer.busy = buffer.busy && buffer.aligned() != address;
    }
  }

private:
  struct Buffer {
    void *raw;
    bool busy;
    /// The kernels expect page alignment; the library's extra page leaves room
    /// for it.
    void *aligned() const {
      return reinterpret_cast<void *>(
          (reinterpret_cast<uintptr_t>(raw) + 4095) & ~uintptr_t(4095));
    }
  };
  std::vector<Buffer> buffers_;
};

} // namespace

static BufferStack &threadBuffers() {
  thread_local BufferStack buffers;
  return buffers;
}

// Called by OpenBLAS in place of its own; the names and signatures are the
// library's.
extern "C" {
__attribute__((visibility("default"))) void *blas_memory_alloc(int) {
  return threadBuffers().take();
}
__attribute__((visibility("default"))) void blas_memory_free(void *buffer) {
  threadBuffers().giveBack(buffer);
}
}

namespace kvcache::rt {

bool useThreadLocalBlasBuffers() {
  // What a shared library finds under this name is what OpenBLAS calls.
  static const bool preempted = dlsym(RTLD_DEFAULT, "blas_memory_alloc") ==
                                reinterpret_cast<void *>(&blas_memory_alloc);
  return preempted;
}

} // namespace kvcache::rt
