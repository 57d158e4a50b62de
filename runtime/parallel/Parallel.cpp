// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The arena behind Parallel.h. Invariant: there is exactly one, and TBB keeps
// no more threads than it asks for.

#include "runtime/parallel/Parallel.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

#include <memory>
#include <string>

namespace kvcache::rt {

namespace {

struct Pool {
  explicit Pool(int count)
      : count(count), limit(tbb::global_control::max_allowed_parallelism,
                            static_cast<size_t>(count)),
        arena(count) {}

  int count;
  tbb::global_control limit;
  tbb::task_arena arena;
};

} // namespace

static std::unique_ptr<Pool> &pool() {
  static std::unique_ptr<Pool> instance =
      std::make_unique<Pool>(tbb::info::default_concurrency());
  return instance;
}

Status setThreads(int count) {
  if (count < 0 || count > 1024) {
    return Status::badInput("threads: expected 0 to 1024, found " +
                            std::to_string(count));
  }
  int wanted = count == 0 ? tbb::info::default_concurrency() : count;
  if (wanted != pool()->count) {
    pool().reset();
    pool() = std::make_unique<Pool>(wanted);
  }
  return Status::ok();
}

int threads() { return pool()->count; }

void parallelForRaw(int64_t count, void (*body)(void *context, int64_t index),
                    void *context) {
  Pool &current = *pool();
  if (count <= 1 || current.count == 1) {
    for (int64_t i = 0; i < count; ++i) {
      body(context, i);
    }
    return;
  }
  current.arena.execute([&] {
    tbb::parallel_for(
        int64_t(0), count, [&](int64_t i) { body(context, i); },
        tbb::simple_partitioner());
  });
}

} // namespace kvcache::rt
