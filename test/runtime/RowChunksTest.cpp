// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows of a prompt fed a few at a time.

#include "runtime/RowChunks.h"

#include <gtest/gtest.h>

namespace kvcache::rt {
namespace {

Geometry geometry() {
  Geometry g;
  g.layers = 1;
  g.queryHeads = 4;
  g.kvHeads = 2;
  g.headDim = 3;
  return g;
}

std::vector<std::vector<int64_t>> sizes(const std::vector<int64_t> &rows, int64_t chunk) {
  std::vector<LayerRows> items(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    items[i].rows = rows[i];
  }
  std::vector<std::vector<int64_t>> parts;
  Status status = feedInChunks(items, geometry(), chunk, [&](const std::vector<LayerRows> &part) {
    parts.emplace_back();
    for (const LayerRows &item : part) {
      parts.back().push_back(item.rows);
    }
    return Status::ok();
  });
  EXPECT_TRUE(status.isOk());
  return parts;
}

using Sizes = std::vector<std::vector<int64_t>>;

TEST(RowChunks, OnlyTheFirstIsShorter) {
  EXPECT_EQ(sizes({7}, 3), (Sizes{{1}, {3}, {3}}));
  EXPECT_EQ(sizes({6}, 3), (Sizes{{3}, {3}}));
  EXPECT_EQ(sizes({2}, 3), (Sizes{{2}}));
}

TEST(RowChunks, ItemsOfABatchHaveTheirOwn) {
  EXPECT_EQ(sizes({5, 2, 0}, 2), (Sizes{{1, 2, 0}, {2, 0, 0}, {2, 0, 0}}));
  EXPECT_EQ(sizes({0}, 4), (Sizes{{0}}));
}

TEST(RowChunks, PointersMoveByRows) {
  std::vector<float> q(5 * 12), k(5 * 6);
  std::vector<int32_t> positions(5);
  LayerRows rows;
  rows.rows = 5;
  rows.q = q.data();
  rows.k = k.data();
  rows.positions = positions.data();
  LayerRows part = partOf(rows, geometry(), 2, 3);
  EXPECT_EQ(part.rows, 3);
  EXPECT_EQ(part.q, q.data() + 24);
  EXPECT_EQ(part.k, k.data() + 12);
  EXPECT_EQ(part.positions, positions.data() + 2);
  EXPECT_EQ(part.v, nullptr);
  EXPECT_EQ(part.ids, nullptr);
}

TEST(RowChunks, AnErrorEndsIt) {
  std::vector<LayerRows> items(1);
  items[0].rows = 4;
  int calls = 0;
  Status status = feedInChunks(items, geometry(), 2, [&](const std::vector<LayerRows> &) {
    ++calls;
    return Status::badInput("no");
  });
  EXPECT_FALSE(status.isOk());
  EXPECT_EQ(calls, 1);
}

} // namespace
} // namespace kvcache::rt
