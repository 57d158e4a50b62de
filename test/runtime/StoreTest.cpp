// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The store against a model that keeps each row's number in plain vectors: after every random
// operation the view, the bytes and the content of every page must agree with it.

#include "runtime/cache/Store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace kvcache::rt {

static std::unique_ptr<Arena> makeArena(int64_t bytes = int64_t(64) << 30) {
  auto arena = Arena::create(bytes);
  EXPECT_TRUE(arena.isOk());
  return std::move(*arena);
}

static StoreColumn column(const std::string &name, const std::string &term, int64_t width) {
  std::string error;
  auto parsed = abi::parseStorageTerm(term, error);
  EXPECT_TRUE(parsed) << error;
  auto layout = abi::computeColumnLayout(*parsed, width, abi::ElementType::F16, error);
  EXPECT_TRUE(layout) << error;
  return {name, *layout};
}

static std::shared_ptr<const StoreSchema> schema(std::vector<StoreColumn> columns,
                                                 int64_t heads = 3) {
  return std::make_shared<StoreSchema>("kv", heads, std::move(columns));
}

namespace {

/// The naive model of a store, and the marks it writes into the pages of the real one. A row is
/// marked in the first unit (row or block) of the plane that holds it.
class Model {
public:
  explicit Model(Store &store) : store_(store), ids_(store.schema().rowHeads()) {
    coded_.assign(store.schema().columns().size(), std::vector<int64_t>(ids_.size(), 0));
  }
  Model(Store &store, const Model &from)
      : store_(store), ids_(from.ids_), coded_(from.coded_), next_(from.next_) {}

  void grow(int64_t count) {
    ASSERT_TRUE(store_.grow(count).isOk());
    for (size_t h = 0; h < ids_.size(); ++h) {
      for (int64_t i = 0; i < count; ++i) {
        ids_[h].push_back(next_++);
        for (size_t c = 0; c < coded_.size(); ++c) {
          mark(static_cast<int32_t>(c), h, static_cast<int64_t>(ids_[h].size()) - 1);
        }
      }
    }
  }
  void truncate(size_t head, int64_t count) {
    int64_t size = static_cast<int64_t>(ids_[head].size());
    bool splits = false;
    for (size_t c = 0; c < coded_.size(); ++c) {
      const abi::ColumnLayout &l = layout(c);
      int64_t left = std::max<int64_t>(0, count - l.sinks);
      splits |= left < coded_[c][head] && left % l.granule() != 0;
    }
    ASSERT_EQ(store_.truncate(head, count).isOk(), count <= size && !splits);
    if (count > size || splits) {
      return;
    }
    ids_[head].resize(count);
    for (size_t c = 0; c < coded_.size(); ++c) {
      coded_[c][head] = std::min(coded_[c][head], std::max<int64_t>(0, count - layout(c).sinks));
    }
  }
  /// Codes all coded columns, overlapping as a fused kernel does.
  void code() {
    std::vector<std::vector<Store::Due>> due(coded_.size(), std::vector<Store::Due>(ids_.size()));
    for (size_t c = 0; c < coded_.size(); ++c) {
      if (layout(c).coded) {
        ASSERT_TRUE(store_.beginCode(static_cast<int32_t>(c), due[c].data()).isOk());
        EXPECT_FALSE(store_.beginCode(static_cast<int32_t>(c), due[c].data()).isOk());
      }
    }
    for (size_t c = 0; c < coded_.size(); ++c) {
      if (!layout(c).coded) {
        continue;
      }
      ASSERT_TRUE(store_.endCode(static_cast<int32_t>(c)).isOk());
      for (size_t h = 0; h < ids_.size(); ++h) {
        int64_t rows = static_cast<int64_t>(ids_[h].size());
        int64_t wanted = std::max(coded_[c][h], layout(c).codedRowsAfterCommit(rows));
        ASSERT_EQ(due[c][h].end - due[c][h].first, wanted - coded_[c][h]);
        coded_[c][h] = wanted;
        for (int64_t row = due[c][h].first; row < due[c][h].end; ++row) {
          mark(static_cast<int32_t>(c), h, row);
        }
      }
    }
  }
  void check() const {
    const int64_t *view = store_.view();
    int64_t heads = static_cast<int64_t>(ids_.size()),
            segments = static_cast<int64_t>(store_.schema().segments().size());
    ASSERT_EQ(view[0], heads);
    ASSERT_EQ(view[1], segments);
    int64_t bytes = 0;
    for (int64_t g = 0; g < segments; ++g) {
      const StoreSchema::Segment &segment = store_.schema().segments()[g];
      for (int64_t h = 0; h < heads; ++h) {
        auto [first, end] = expectedRange(segment, h);
        const int64_t *record = view + 2 + heads + 3 * (g * heads + h);
        ASSERT_EQ(view[2 + h], static_cast<int64_t>(ids_[h].size()));
        ASSERT_EQ(record[0], first);
        ASSERT_EQ(record[1], end);
        for (int64_t row = first; row < end; ++row) {
          ASSERT_EQ(*at(segment.column, h, row), markOf(segment.column, h, row))
              << "segment " << g << " head " << h << " row " << row;
        }
        int64_t per = segment.layout.rowsPerPage;
        bytes += (end > first ? (end + per - 1) / per - first / per : 0) *
                 Arena::pageFootprint(segment.layout.pageBytes);
      }
    }
    ASSERT_EQ(store_.bytesMeasured(), bytes);
    double slack = static_cast<double>(bytes) - store_.bytesClaimed();
    ASSERT_GE(slack, -1e-6);
    ASSERT_LE(slack, static_cast<double>(heads * store_.bytesOnePage()) + 1e-6);
  }

private:
  const abi::ColumnLayout &layout(size_t c) const { return store_.schema().columns()[c].layout; }
  std::pair<int64_t, int64_t> expectedRange(const StoreSchema::Segment &segment, int64_t h) const {
    int64_t rows = static_cast<int64_t>(ids_[h].size());
    int64_t sinks = std::min(layout(segment.column).sinks, rows), coded = coded_[segment.column][h];
    switch (segment.layout.kind) {
    case abi::SegmentKind::Sinks:
      return {0, sinks};
    case abi::SegmentKind::Coded:
      return {sinks, sinks + coded};
    case abi::SegmentKind::Exact:
      break;
    }
    return {sinks + coded, rows};
  }
  /// Rows of a block share a mark: that of the block's first row.
  int64_t unitRow(int32_t c, int64_t h, int64_t row) const {
    int64_t sinks = layout(c).sinks;
    bool inCoded = row >= sinks && row < sinks + coded_[c][h];
    return inCoded ? row / layout(c).granule() * layout(c).granule() : row;
  }
  uint16_t markOf(int32_t c, int64_t h, int64_t row) const {
    return static_cast<uint16_t>(ids_[h][unitRow(c, h, row)] * 7 + c + 1);
  }
  uint16_t *at(int32_t c, int64_t h, int64_t row) const {
    int64_t sinks = std::min<int64_t>(layout(c).sinks, ids_[h].size());
    abi::SegmentKind kind = !layout(c).coded || row >= sinks + coded_[c][h]
                                ? abi::SegmentKind::Exact
                            : row < sinks ? abi::SegmentKind::Sinks
                                          : abi::SegmentKind::Coded;
    int32_t g = store_.schema().segment(c, kind);
    const abi::SegmentLayout &segment = store_.schema().segments()[g].layout;
    const abi::PlaneLayout &plane = segment.planes[0];
    int64_t inPage = row % segment.rowsPerPage;
    const char *byte =
        store_.page(g, h, row) + plane.offset + inPage / plane.rowsPerUnit * plane.bytesPerUnit;
    return reinterpret_cast<uint16_t *>(const_cast<char *>(byte));
  }
  void mark(int32_t c, int64_t h, int64_t row) { *at(c, h, row) = markOf(c, h, row); }

  Store &store_;
  std::vector<std::vector<int64_t>> ids_;
  std::vector<std::vector<int64_t>> coded_;
  int64_t next_ = 0;
};

} // namespace

static void randomOperations(const std::shared_ptr<const StoreSchema> &shape, unsigned seed) {
  auto arena = makeArena();
  {
    Store store(*arena, shape);
    Model model(store);
    std::mt19937 random(seed);
    for (int step = 0; step < 300; ++step) {
      unsigned what = random() % 10;
      size_t head = random() % shape->rowHeads();
      if (what < 5) {
        model.grow(random() % (what == 0 ? 150 : 8));
      } else if (what < 8) {
        model.code();
      } else {
        int64_t most = store.rows(static_cast<int64_t>(head)) + 2;
        model.truncate(head,
                       what == 8 ? random() % most : std::max<int64_t>(0, most - 2 - random() % 5));
      }
      model.check();
      if (step % 60 == 7) {
        auto copy = store.fork();
        ASSERT_TRUE(copy.isOk());
        Model copied(**copy, model);
        copied.check();
        copied.grow(40);
        copied.code();
        copied.check();
        model.check();
      }
      if (testing::Test::HasFatalFailure()) {
        FAIL() << "seed " << seed << " step " << step;
      }
    }
  }
  EXPECT_EQ(arena->bytesInUse(), 0);
}

TEST(Store, DenseColumns) {
  randomOperations(
      schema({column("k", "act", 16), column("v", "f32", 16), column("pos", "i32", 1)}), 1);
}

TEST(Store, TokenTilesAndRecentRows) {
  randomOperations(schema({column("k",
                                  "recent<affine<2, tile(token:32), min_f16, scale_f16, "
                                  "lsb(token)>, keep(0), block(32)>",
                                  32),
                           column("v",
                                  "recent<affine<2, tile(channel:32), min_f16, scale_f16, "
                                  "lsb(channel)>, keep(32), block(1)>",
                                  32),
                           column("pos", "i32", 1)}),
                   2);
}

TEST(Store, SinksAndOddTiles) {
  randomOperations(schema({column("k",
                                  "sinks<recent<affine<3, tile(channel:24), zp_i16, scale_f16, "
                                  "lsb(channel)>, keep(5), block(7)>, 4>",
                                  48),
                           column("v",
                                  "sinks<recent<affine<4, tile(token:40), none, scale_f32, "
                                  "lsb(token)>, keep(9), block(40)>, 40>",
                                  24)},
                          2),
                   3);
}

TEST(Store, FactorAndRotated) {
  randomOperations(
      schema(
          {column("k", "factor<8, act>", 16),
           column("v",
                  "rotated<affine<4, tile(channel:16), zp_i16, scale_f16, lsb(channel)>, hadamard>",
                  16)},
          1),
      4);
}

TEST(Store, ASequenceOfDecodeStepsTakesNoMorePagesThanItsRows) {
  auto arena = makeArena();
  Store store(*arena, schema({column("k", "act", 64)}, 2));
  for (int step = 0; step < 200; ++step) {
    ASSERT_TRUE(store.grow(1).isOk());
    for (int64_t h = 0; h < 2; ++h) {
      ASSERT_TRUE(store.truncate(h, std::min<int64_t>(store.rows(h), 64)).isOk());
    }
  }
  EXPECT_EQ(store.bytesMeasured(), 2 * (64 * 64 * 2 + 64));
}

TEST(Store, GrowthThatFailsChangesNothing) {
  auto arena = makeArena(64 << 10);
  Store store(*arena, schema({column("k", "act", 64)}, 2));
  ASSERT_TRUE(store.grow(64).isOk());
  int64_t before = store.bytesMeasured();
  Status status = store.grow(64 * 6);
  EXPECT_EQ(status.code(), StatusCode::Unavailable);
  EXPECT_EQ(store.bytesMeasured(), before);
  EXPECT_EQ(arena->bytesInUse(), before);
  EXPECT_EQ(store.view()[2], 64);
  EXPECT_TRUE(store.grow(64).isOk());
}

TEST(Store, CuttingABlockIsRefused) {
  auto arena = makeArena();
  Store store(*arena, schema({column("k",
                                     "recent<affine<2, tile(token:32), min_f16, scale_f16, "
                                     "lsb(token)>, keep(0), block(32)>",
                                     32)},
                             1));
  ASSERT_TRUE(store.grow(70).isOk());
  Store::Due due;
  ASSERT_TRUE(store.beginCode(0, &due).isOk());
  EXPECT_FALSE(store.grow(1).isOk());
  ASSERT_TRUE(store.endCode(0).isOk());
  EXPECT_EQ(store.codedRows(0, 0), 64);
  Status status = store.truncate(0, 40);
  EXPECT_NE(status.message().find("column 'k' is coded in blocks of 32 rows"), std::string::npos)
      << status.message();
  EXPECT_TRUE(store.truncate(0, 32).isOk());
  EXPECT_EQ(store.codedRows(0, 0), 32);
  EXPECT_FALSE(store.truncate(0, 33).isOk());
}

} // namespace kvcache::rt
