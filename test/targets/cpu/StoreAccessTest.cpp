// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Accesses of StoreAccess.h that no other kernel test goes through: rows side by side, single
// elements, every element type.

#include "targets/cpu/StoreAccess.h"
#include "test/targets/cpu/EmittedCall.h"

#include <gtest/gtest.h>

using namespace mlir;
using namespace mlir::kvcache::cpu;
using namespace mlir::kvcache::cpu::test;
using namespace ::kvcache::test;

TEST(StoreAccess, loadsSixteenRowsOfANarrowColumn) {
  KernelModule kernels;
  std::vector<ColumnLayout> columns{columnOf("f16", 16), columnOf("i32", 1)};
  KernelBuilder k(*kernels.module, "positions",
                  {KernelArg::store("store"), KernelArg::buffer("out", ElementType::I32)});
  StoreAccess store(k, "store", columns);
  SegmentAccess segment = store.segment(1, SegmentKind::Exact, k.task());
  Value outBase = k.mul(k.task(), 400);
  store.forPages(segment, segment.first, segment.end, [&](Value lo, Value hi, Value page) {
    k.forLoop(lo, hi, k.index(lanes), [&](Value row) {
      k.storeVector(store.loadRows16(segment, row, page), k.arg("out"), k.add(outBase, row),
                    k.tailMask(row, hi));
    });
  });
  k.finish();
  for (Isa isa : runnableIsas()) {
    CompiledKernels code(*kernels.module, isa);
    PagedStore paged(columns, {1, 31, 32, 33, 300, 0});
    paged.fill(1);
    std::vector<int32_t> out(6 * 400, -7);
    ASSERT_EQ(code.run("positions", 6, {paged.arena().data(), paged.view().data(), out.data()}),
              KVCACHE_KERNEL_OK);
    for (int64_t h = 0; h < 6; ++h) {
      for (int64_t row = 0; row < 400; ++row) {
        int32_t want = row < paged.rows(h) ? static_cast<int32_t>(paged.exact(1, h, row, 0)) : -7;
        ASSERT_EQ(out[static_cast<size_t>(h * 400 + row)], want) << "head " << h << ", row " << row;
      }
    }
  }
}

TEST(StoreAccess, readsAndWritesSingleElementsOfEveryType) {
  KernelModule kernels;
  const std::vector<std::string> types{"f32", "f16", "bf16", "i32", "i16", "i8", "u8"};
  std::vector<ColumnLayout> columns;
  for (const std::string &type : types) {
    columns.push_back(columnOf(type, 3));
  }
  // Copies channel 1 of row 70 to channel 2 of row 3 in every column.
  KernelBuilder k(*kernels.module, "copy", {KernelArg::store("store")});
  StoreAccess store(k, "store", columns);
  for (int64_t c = 0; c < static_cast<int64_t>(columns.size()); ++c) {
    SegmentAccess segment = store.segment(c, SegmentKind::Exact, k.task());
    Value value =
        store.loadScalar(store.element(segment, k.index(70), k.index(1)), columns[c].exactElem);
    store.storeScalar(value, store.element(segment, k.index(3), k.index(2)), columns[c].exactElem);
  }
  k.finish();
  for (Isa isa : runnableIsas()) {
    CompiledKernels code(*kernels.module, isa);
    PagedStore paged(columns, {80, 71});
    paged.fill(1);
    for (int64_t c = 0; c < static_cast<int64_t>(columns.size()); ++c) {
      bool isUnsigned = types[static_cast<size_t>(c)] == "u8";
      paged.setExact(c, 1, 70, 1, isUnsigned ? 200 : -100);
    }
    PagedStore expected = paged;
    for (int64_t c = 0; c < static_cast<int64_t>(columns.size()); ++c) {
      for (int64_t h = 0; h < 2; ++h) {
        expected.setExact(c, h, 3, 2, expected.exact(c, h, 70, 1));
      }
    }
    ASSERT_EQ(code.run("copy", 2, {paged.arena().data(), paged.view().data()}), KVCACHE_KERNEL_OK);
    EXPECT_EQ(paged.arena(), expected.arena());
  }
}
