// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernels that move rows against loops over single values. Each test compares whole arenas, so
// that a byte written beside the rows it should go to is noticed.

#include "targets/cpu/RowsEmitter.h"
#include "test/targets/cpu/EmittedCall.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace mlir::kvcache::cpu;
using namespace mlir::kvcache::cpu::test;
using namespace kvcache::test;

namespace {

const ElementType F32 = ElementType::F32, BF16 = ElementType::BF16;
const std::vector<int64_t> raggedRows{1, 31, 32, 33, 300};

/// k f16 [80], v coded with sinks (exact f16 [64]), pos i32, acc f32, extra bf16 [13].
std::vector<ColumnLayout> tableColumns() {
  return {columnOf("f16", 80),
          columnOf("sinks<recent<affine<2, tile(channel:32), min_f16, scale_f16, lsb(channel)>, "
                   "keep(0), block(32)>, 4>",
                   64),
          columnOf("i32", 1), columnOf("f32", 1), columnOf("bf16", 13)};
}

bool isInteger(ElementType elem) { return elem == ElementType::I32; }

void expectEqualArenas(PagedStore &actual, PagedStore &expected) {
  auto [a, e] =
      std::mismatch(actual.arena().begin(), actual.arena().end(), expected.arena().begin());
  EXPECT_TRUE(a == actual.arena().end())
      << "first difference at byte " << a - actual.arena().begin();
}

/// A kernel compiled for every instruction set of this machine; `check` runs it on each.
void forEachIsa(KernelModule &kernels, llvm::function_ref<void(const CompiledKernels &)> check) {
  for (Isa isa : runnableIsas()) {
    SCOPED_TRACE(nameOf(isa).str());
    CompiledKernels code(*kernels.module, isa);
    check(code);
  }
}

} // namespace

TEST(RowsEmitter, appendWritesTheLastRows) {
  KernelModule kernels;
  std::vector<ColumnLayout> columns = tableColumns();
  std::vector<AppendSource> sources{{0, AppendSource::Kind::Rows, "k"},
                                    {1, AppendSource::Kind::Rows, "v"},
                                    {2, AppendSource::Kind::Positions, "pos"},
                                    {3, AppendSource::Kind::Constant, "", 0.25}};
  EmittedKernel kernel = emitAppend(*kernels.module, "append", columns, sources);
  forEachIsa(kernels, [&](const CompiledKernels &code) {
    for (int64_t count : {1, 3, 31, 100}) {
      std::vector<int64_t> rows;
      for (int64_t before : raggedRows) {
        rows.push_back(before - 1 + count); // the first head had none
      }
      PagedStore store(columns, rows);
      store.fill(7);
      PagedStore expected = store;
      auto heads = store.heads();
      auto k = randomFloats(count * heads * 80, 1), v = randomFloats(count * heads * 64, 2);
      std::vector<int32_t> positions;
      for (int64_t i = 0; i < count; ++i) {
        positions.push_back(static_cast<int32_t>(5 * i + 1000));
      }
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < count; ++i) {
          int64_t row = rows[static_cast<size_t>(h)] - count + i;
          for (int64_t channel = 0; channel < 80; ++channel) {
            expected.setExact(0, h, row, channel,
                              k[static_cast<size_t>((i * heads + h) * 80 + channel)]);
          }
          for (int64_t channel = 0; channel < 64; ++channel) {
            expected.setExact(1, h, row, channel,
                              v[static_cast<size_t>((i * heads + h) * 64 + channel)]);
          }
          expected.setExact(2, h, row, 0, positions[static_cast<size_t>(i)]);
          expected.setExact(3, h, row, 0, 0.25);
        }
      }
      EmittedCall call{&store,
                       {{"k", k.data()}, {"v", v.data()}, {"pos", positions.data()}},
                       {{"rows", count}, {"blocks", 2}}};
      ASSERT_EQ(call.run(code, kernel), KVCACHE_KERNEL_OK);
      expectEqualArenas(store, expected);
    }
  });
}

TEST(RowsEmitter, compactMovesKeptRowsToTheFront) {
  KernelModule kernels;
  std::vector<ColumnLayout> columns = tableColumns();
  EmittedKernel perHead = emitCompact(*kernels.module, "ragged", columns, {true, true});
  EmittedKernel oneList = emitCompact(*kernels.module, "shared", columns, {false, false});
  forEachIsa(kernels, [&](const CompiledKernels &code) {
    for (bool ragged : {true, false}) {
      PagedStore store(columns, ragged ? raggedRows : std::vector<int64_t>{300, 300});
      store.fill(9);
      PagedStore expected = store;
      std::mt19937 random(4);
      const int64_t capacity = 300;
      std::vector<int32_t> indices(static_cast<size_t>(store.heads() * capacity), -1), lengths;
      for (int64_t h = 0; h < (ragged ? store.heads() : 1); ++h) {
        int32_t length = 0;
        for (int64_t row = 0; row < store.rows(h); ++row) {
          if (row < 2 || random() % 3 == 0) {
            indices[static_cast<size_t>(h * capacity + length++)] = static_cast<int32_t>(row);
          }
        }
        lengths.push_back(length);
      }
      for (int64_t h = 0; h < store.heads(); ++h) {
        for (int64_t i = 0; i < lengths[static_cast<size_t>(ragged ? h : 0)]; ++i) {
          int64_t source = indices[static_cast<size_t>((ragged ? h * capacity : 0) + i)];
          for (int64_t c = 0; c < 5; ++c) {
            for (int64_t channel = 0; channel < columns[static_cast<size_t>(c)].width; ++channel) {
              expected.setExact(c, h, i, channel, expected.exact(c, h, source, channel));
            }
          }
        }
      }
      EmittedCall call{&store,
                       {{"indices", indices.data()}, {"lengths", lengths.data()}},
                       {{"capacity", capacity}, {"length", lengths[0]}}};
      ASSERT_EQ(call.run(code, ragged ? perHead : oneList), KVCACHE_KERNEL_OK);
      expectEqualArenas(store, expected);
    }
  });
}

TEST(RowsEmitter, setColumnWritesExactRows) {
  KernelModule kernels;
  std::vector<ColumnLayout> columns = tableColumns();
  std::vector<EmittedKernel> emitted;
  for (int64_t c = 0; c < 5; ++c) {
    emitted.push_back(emitSetColumn(*kernels.module, "set" + std::to_string(c), columns, c));
  }
  std::vector<int64_t> none(raggedRows.size(), 0);
  forEachIsa(kernels, [&](const CompiledKernels &code) {
    PagedStore store(columns, raggedRows, {none, {0, 0, 0, 0, 64}, none, none, none});
    store.fill(2);
    PagedStore expected = store;
    const int64_t capacity = 310;
    for (int64_t c = 0; c < 5; ++c) {
      int64_t width = columns[static_cast<size_t>(c)].width;
      auto floats = randomFloats(store.heads() * capacity * width, 20 + static_cast<uint32_t>(c));
      std::vector<int32_t> integers(floats.size());
      std::transform(floats.begin(), floats.end(), integers.begin(),
                     [](float x) { return static_cast<int32_t>(x * 1000); });
      bool integer = isInteger(columns[static_cast<size_t>(c)].exactElem);
      for (int64_t h = 0; h < store.heads(); ++h) {
        for (int64_t row = 0; row < store.rows(h); ++row) {
          for (int64_t channel = 0;
               channel < width && store.kindOf(c, h, row) != SegmentKind::Coded; ++channel) {
            auto at = static_cast<size_t>((h * capacity + row) * width + channel);
            expected.setExact(c, h, row, channel,
                              integer ? static_cast<double>(integers[at])
                                      : static_cast<double>(floats[at]));
          }
        }
      }
      void *values = integer ? static_cast<void *>(integers.data()) : floats.data();
      EmittedCall call{&store, {{"values", values}}, {{"capacity", capacity}, {"blocks", 2}}};
      ASSERT_EQ(call.run(code, emitted[static_cast<size_t>(c)]), KVCACHE_KERNEL_OK);
    }
    expectEqualArenas(store, expected);
  });
}
