// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The one thread pool of the process: every parallel loop of the runtime,
// kernels included, runs in this oneTBB arena. A loop body writes only what
// belongs to its index, and no result may depend on the order in which indices
// run: then nothing depends on the number of threads.

#pragma once

#include "runtime/Status.h"

#include <cstdint>
#include <memory>
#include <type_traits>

namespace kvcache::rt {

/// Sets how many threads run loops; 0 = as many as the process may use. Bad
/// input outside 0..1024. Not to be called while a loop runs.
Status setThreads(int count);
/// How many threads run loops.
int threads();

/// Calls `body(context, i)` once for each i in [0, count) and returns when all
/// are done. May be nested.
void parallelForRaw(int64_t count, void (*body)(void *context, int64_t index),
                    void *context);

/// Calls `fn(i)` once for each i in [0, count), on any thread, in any order.
template <typename Fn>
void parallelFor(int64_t count, Fn &&fn) {
  using Body = std::remove_reference_t<Fn>;
  parallelForRaw(
      count,
      [](void *context, int64_t index) {
        (*static_cast<Body *>(context))(index);
      },
      const_cast<void *>(static_cast<const void *>(std::addressof(fn))));
}

} // namespace kvcache::rt
