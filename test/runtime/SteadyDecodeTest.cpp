// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A steady decode step allocates nothing: this binary counts every call of operator new.

#include "ToyMethod.h"

#include "runtime/exec/Executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

static std::atomic<int64_t> allocations{0};

void *operator new(size_t bytes) {
  ++allocations;
  if (void *memory = std::malloc(bytes)) {
    return memory;
  }
  throw std::bad_alloc();
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }

namespace kvcache::rt {

TEST(SteadyDecode, AllocatesOnlyWhenTablesGrow) {
  auto execution = CompiledExecution::create(toy::makeExecutable());
  ASSERT_TRUE(execution.isOk()) << execution.status().message();
  auto sequence = (*execution)->createSequence({50, 0});
  ASSERT_TRUE(sequence.isOk());
  std::vector<Sequence *> batch = {sequence->get()};
  for (int64_t layer = 0; layer < toy::layers; ++layer) {
    toy::Rows rows(layer, 0, 100);
    ASSERT_TRUE((*execution)->prefill(layer, batch, {rows.view()}).isOk());
  }
  ASSERT_TRUE((*execution)->promptEnd(batch).isOk());
  toy::Rows row(0, 100, 1);
  std::vector<LayerRows> rows = {row.view()};
  int64_t quiet = 0;
  constexpr int64_t steps = 400;
  for (int64_t step = 0; step < steps; ++step) {
    row.positions[0] = static_cast<int32_t>(100 + step);
    int64_t before = allocations.load();
    bool ok = true;
    for (int64_t layer = 0; layer < toy::layers; ++layer) {
      ok &= (*execution)->decode(layer, batch, rows).isOk();
    }
    ok &= (*execution)->stepEnd(batch).isOk();
    quiet += allocations.load() == before;
    ASSERT_TRUE(ok);
  }
  // Positions and page tables double now and then, and a slab is opened: all else is used again.
  EXPECT_GE(quiet, steps - 20);
}

} // namespace kvcache::rt
