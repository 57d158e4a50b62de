// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Raw codes out of pages that the test packs itself, bit by bit, as StorageLayout.h lays them out.

#include "runtime/exec/CodedExport.h"

#include <gtest/gtest.h>

#include <cstring>

namespace kvcache::rt {

namespace {

/// A store of one column that packs codes, scales and zeros which follow from row, channel and
/// group.
class Packed {
public:
  Packed(const std::string &term, int64_t width, int64_t heads, int64_t rows)
      : arena_(std::move(*Arena::create())) {
    std::string error;
    auto layout = abi::computeColumnLayout(*abi::parseStorageTerm(term, error), width,
                                           ElementType::F16, error);
    EXPECT_TRUE(layout) << error;
    layout_ = *layout;
    store_ = std::make_unique<Store>(
        *arena_,
        std::make_shared<StoreSchema>("kv", heads, std::vector<StoreColumn>{{"v", layout_}}));
    EXPECT_TRUE(store_->grow(rows).isOk());
    std::vector<Store::Due> due(heads);
    EXPECT_TRUE(store_->beginCode(0, due.data()).isOk());
    EXPECT_TRUE(store_->endCode(0).isOk());
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t row = due[h].first; row < due[h].end; ++row) {
        pack(h, row);
      }
    }
  }
  const Store &store() const { return *store_; }
  int64_t code(int64_t h, int64_t row, int64_t channel) const {
    return (row * 5 + channel * 3 + h) & ((1 << layout_.bits) - 1);
  }
  static uint16_t scale(int64_t h, int64_t unit, int64_t group) {
    return static_cast<uint16_t>(1000 * h + 10 * unit + group);
  }

private:
  char *unit(abi::PlaneRole role, int64_t h, int64_t row) {
    int32_t g = store_->schema().segment(0, abi::SegmentKind::Coded);
    const abi::SegmentLayout &segment = store_->schema().segments()[g].layout;
    const abi::PlaneLayout &plane = *segment.plane(role);
    return const_cast<char *>(store_->page(g, h, row)) + plane.offset +
           row % segment.rowsPerPage / plane.rowsPerUnit * plane.bytesPerUnit;
  }
  void pack(int64_t h, int64_t row) {
    int64_t granule = layout_.granule(), t = row % granule, perWord = 32 / layout_.bits;
    for (int64_t j = 0; j < layout_.width; ++j) {
      for (int64_t b = 0; b < layout_.bits; ++b) {
        int64_t bit = granule > 1
                          ? 32 * (t / perWord * layout_.width + j) + t % perWord * layout_.bits + b
                          : j * layout_.bits + b;
        unit(abi::PlaneRole::Codes, h, row)[bit / 8] |=
            static_cast<char>(((code(h, row, j) >> b) & 1) << (bit % 8));
      }
    }
    int64_t groups = granule > 1 ? layout_.width : layout_.groupsPerRow();
    for (int64_t group = 0; group < groups; ++group) {
      uint16_t value = scale(h, row / granule, group), zero = static_cast<uint16_t>(value + 1);
      std::memcpy(unit(abi::PlaneRole::Scales, h, row) + 2 * group, &value, 2);
      if (layout_.zero != abi::ZeroKind::None) {
        std::memcpy(unit(abi::PlaneRole::Zeros, h, row) + 2 * group, &zero, 2);
      }
    }
  }

  std::unique_ptr<Arena> arena_;
  abi::ColumnLayout layout_;
  std::unique_ptr<Store> store_;
};

} // namespace

static void expectCodes(const Packed &packed, const CodedRows &coded, const HeadSlice &slice) {
  ASSERT_EQ(coded.codes.size(), static_cast<size_t>(coded.rows * slice.channels));
  for (int64_t row = 0; row < coded.rows; ++row) {
    for (int64_t j = 0; j < slice.channels; ++j) {
      ASSERT_EQ(coded.codes[row * slice.channels + j],
                packed.code(slice.rowHead, coded.first + row, slice.firstChannel + j))
          << "row " << row << " channel " << j;
    }
  }
}

static uint16_t halfAt(const std::vector<uint8_t> &bytes, int64_t index) {
  return static_cast<uint16_t>(bytes[2 * index] | bytes[2 * index + 1] << 8);
}

TEST(CodedExport, TokenTiles) {
  Packed packed(
      "recent<affine<2, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(0), block(32)>", 12,
      2, 140);
  HeadSlice slice{1, 0, 12};
  CodedRows coded = exportCoded(packed.store(), 0, slice);
  EXPECT_EQ(coded.first, 0);
  ASSERT_EQ(coded.rows, 128);
  expectCodes(packed, coded, slice);
  EXPECT_EQ(coded.groupShape, (std::vector<int64_t>{4, 12}));
  EXPECT_EQ(halfAt(coded.scales, 3 * 12 + 7), Packed::scale(1, 3, 7));
  EXPECT_EQ(halfAt(coded.zeros, 3 * 12 + 7), Packed::scale(1, 3, 7) + 1);
  EXPECT_EQ(coded.packed.size(), 128u * 12 * 2 / 8);
  EXPECT_EQ(coded.layout, "lsb(token)");
}

TEST(CodedExport, ThreeBitsWithARemainderGroupBehindSinks) {
  Packed packed("sinks<recent<affine<3, tile(channel:24), none, scale_f16, lsb(channel)>, keep(3), "
                "block(1)>, 5>",
                40, 1, 90);
  HeadSlice slice{0, 0, 40};
  CodedRows coded = exportCoded(packed.store(), 0, slice);
  EXPECT_EQ(coded.first, 5);
  ASSERT_EQ(coded.rows, 82);
  expectCodes(packed, coded, slice);
  EXPECT_EQ(coded.groupShape, (std::vector<int64_t>{82, 2}));
  EXPECT_EQ(halfAt(coded.scales, 81 * 2 + 1), Packed::scale(0, 86, 1));
  EXPECT_TRUE(coded.zeros.empty());
  EXPECT_EQ(coded.packed.size(), 82u * 15);
}

TEST(CodedExport, AHeadOfATableThatAllHeadsShare) {
  for (const char *term :
       {"affine<4, tile(channel:8), min_f16, scale_f16, lsb(channel)>",
        "recent<affine<4, tile(token:8), min_f16, scale_f16, lsb(token)>, keep(0), block(8)>"}) {
    Packed packed(term, 32, 1, 70);
    HeadSlice slice{0, 16, 16};
    CodedRows coded = exportCoded(packed.store(), 0, slice);
    expectCodes(packed, coded, slice);
    bool overTokens = coded.layout == "lsb(token)";
    EXPECT_EQ(coded.rows, overTokens ? 64 : 70);
    EXPECT_EQ(coded.groupShape,
              overTokens ? (std::vector<int64_t>{8, 16}) : (std::vector<int64_t>{70, 2}));
    EXPECT_EQ(halfAt(coded.scales, coded.groupShape[1] * 2 + 1),
              Packed::scale(0, 2, overTokens ? 17 : 3));
    EXPECT_EQ(coded.packed.size(), static_cast<size_t>(coded.rows * 16 / 2));
  }
}

} // namespace kvcache::rt
