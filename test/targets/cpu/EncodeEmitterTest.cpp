// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The encode kernel against the formulas of EncodeEmitter.h, one value at a time: codes, scales and
// zeros have to be equal to the last bit, and nothing but the due rows may change.

#include "targets/cpu/EncodeEmitter.h"
#include "runtime/reference/Families.h"
#include "test/targets/cpu/EmittedCall.h"

#include <cmath>
#include <gtest/gtest.h>
#include <map>

using namespace mlir::kvcache::cpu;
using namespace mlir::kvcache::cpu::test;
using namespace kvcache::test;
using kvcache::abi::TileAxis;
using kvcache::abi::ZeroKind;

namespace {

struct Case {
  std::string storage;
  int64_t width;
  ElementType act = ElementType::F16;
};

const ElementType F32 = ElementType::F32, BF16 = ElementType::BF16;

const std::vector<Case> cases = {
    {"affine<2, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 128},
    {"affine<3, tile(channel:24), min_f16, scale_f16, lsb(channel)>", 64},
    {"affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 80},
    {"affine<8, tile(channel:64), min_f32, scale_f32, lsb(channel)>", 64, F32},
    {"affine<3, tile(channel:16), min_bf16, scale_bf16, lsb(channel)>", 20, BF16},
    {"affine<2, tile(channel:5), min_f16, scale_f16, lsb(channel)>", 13, F32},
    {"affine<4, tile(channel:128), zp_i16, scale_f16, lsb(channel)>", 128},
    {"affine<8, tile(channel:24), zp_u8, scale_f16, clip(0.95), lsb(channel)>", 64},
    {"affine<3, tile(channel:80), zp_f16, scale_f16, lsb(channel)>", 80, F32},
    {"affine<2, tile(channel:32), none, scale_f16, lsb(channel)>", 32},
    {"affine<8, tile(channel:32), none, scale_f32, clip(0.9), lsb(channel)>", 64},
    {"rotated<affine<4, tile(channel:128), zp_i16, scale_f16, lsb(channel)>, hadamard>", 128},
    {"rotated<affine<2, tile(channel:8), min_f16, scale_f16, lsb(channel)>, hadamard>", 8, F32},
    {"recent<affine<2, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(0), block(32)>", 128},
    {"recent<affine<4, tile(token:16), min_f16, scale_f16, lsb(token)>, keep(0), block(16)>", 80,
     F32},
    {"recent<affine<8, tile(token:48), zp_i32, scale_f16, lsb(token)>, keep(0), block(48)>", 20,
     BF16},
    {"recent<affine<2, tile(token:128), none, scale_f16, lsb(token)>, keep(0), block(128)>", 64},
    {"recent<rotated<affine<4, tile(token:32), min_f16, scale_f16, lsb(token)>, hadamard>, "
     "keep(0), block(32)>",
     32},
    {"sinks<affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, 4>", 64},
    {"affine<4, tile(head:* of 4, channel:8 of 16), min_f16, scale_f16, lsb(channel)>", 64},
    {"recent<affine<4, tile(token:4, channel:8), min_f16, scale_f16, lsb(channel)>, keep(0), "
     "block(8)>",
     64},
    {"recent<affine<3, tile(token:*, channel:*), zp_i16, scale_f16, lsb(channel)>, keep(0), "
     "block(6)>",
     20, F32},
    {"recent<rotated<affine<2, tile(token:5, channel:24), none, scale_f32, lsb(channel)>, "
     "hadamard>, keep(0), block(5)>",
     64, BF16},
    {"factor<16, act>", 32},
    {"factor<10, f32>", 80, BF16},
    {"factor<150, f16>", 160, F32},
};

/// The orthonormal Hadamard transform in the operation order of RowTransforms.h.
std::vector<float> hadamardOf(std::vector<float> row) {
  for (size_t stride = 1; stride < row.size(); stride *= 2) {
    for (size_t i = 0; i < row.size(); ++i) {
      if ((i & stride) == 0) {
        float a = row[i], b = row[i + stride];
        row[i] = a + b;
        row[i + stride] = a - b;
      }
    }
  }
  auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(row.size())));
  for (float &value : row) {
    value *= scale;
  }
  return row;
}

struct Group {
  float scale = 0, zero = 0;
};

Group groupOf(const ColumnLayout &c, const std::vector<float> &values) {
  auto clip = static_cast<float>(c.clip), top = static_cast<float>((1 << c.bits) - 1);
  float high = *std::max_element(values.begin(), values.end()) * clip;
  float low = *std::min_element(values.begin(), values.end()) * clip;
  Group group;
  if (c.zero == ZeroKind::Min) {
    group.scale = rounded((high - low) / top, c.scaleType);
    group.zero = rounded(low, c.zeroType);
  } else if (c.zero == ZeroKind::Point) {
    high = std::max(high, 0.0f);
    low = std::min(low, 0.0f);
    if (high == 0 && low == 0) {
      high = 1;
      low = -1;
    }
    group.scale = rounded((high - low) / top, c.scaleType);
    group.zero = group.scale > 0 ? rounded(std::nearbyint(-low / group.scale), c.zeroType) : 0.0f;
    if (c.zeroType == ElementType::U8) {
      group.zero = std::min(group.zero, 255.0f);
    }
  } else {
    group.scale = rounded(std::max(std::abs(high), std::abs(low)) /
                              static_cast<float>((1 << (c.bits - 1)) - 1),
                          c.scaleType);
  }
  return group;
}

int64_t codeOf(const ColumnLayout &c, const Group &group, float x) {
  float half = static_cast<float>((1 << (c.bits - 1)) - 1), top = 2 * half + 1;
  if (c.zero == ZeroKind::None) {
    float number = group.scale > 0 ? std::nearbyint(x / group.scale) : 0.0f;
    return static_cast<int64_t>(std::min(std::max(number, -half), half) + half);
  }
  if (!(group.scale > 0)) {
    return 0;
  }
  float number = c.zero == ZeroKind::Min ? std::nearbyint((x - group.zero) / group.scale)
                                         : std::nearbyint(x / group.scale) + group.zero;
  return static_cast<int64_t>(std::min(std::max(number, 0.0f), top));
}

/// Codes rows [first, end) of a head of column 0.
class NaiveEncoder {
public:
  NaiveEncoder(PagedStore &store, int64_t head, const std::vector<float> &basis,
               const std::vector<float> &mean)
      : store_(store), c_(store.column(0)), head_(head), basis_(basis), mean_(mean) {}

  void encode(int64_t first, int64_t end) {
    std::vector<std::vector<float>> rows;
    for (int64_t row = first; row < end; ++row) {
      std::vector<float> values;
      for (int64_t i = 0; i < c_.width; ++i) {
        values.push_back(static_cast<float>(store_.dense(0, SegmentKind::Exact, head_, row, i)));
      }
      rows.push_back(c_.rotated ? hadamardOf(values) : values);
    }
    for (int64_t row = first; row < end; ++row) {
      if (c_.rank > 0) {
        project(row, rows[static_cast<size_t>(row - first)]);
      } else {
        clearCodes(row);
      }
    }
    if (c_.affine()) {
      quantize(first, rows);
    }
  }

private:
  void project(int64_t row, const std::vector<float> &values) {
    for (int64_t r = 0; r < c_.rank; ++r) {
      float sum = 0;
      for (int64_t i = 0; i < c_.width; ++i) {
        int64_t at = head_ * c_.width + i;
        sum = std::fma(values[static_cast<size_t>(i)] - mean_[static_cast<size_t>(at)],
                       basis_[static_cast<size_t>(at * c_.rank + r)], sum);
      }
      store_.setDense(0, SegmentKind::Coded, head_, row, r, sum);
    }
  }
  /// The bits behind the last code of a row are 0.
  void clearCodes(int64_t row) {
    if (c_.tileAxis == TileAxis::Channel) {
      std::memset(store_.unit(0, SegmentKind::Coded, PlaneRole::Codes, head_, row), 0,
                  static_cast<size_t>(c_.codeRowBytes()));
    }
  }
  void quantize(int64_t first, const std::vector<std::vector<float>> &rows) {
    auto count = static_cast<int64_t>(rows.size());
    bool overTokens = c_.tileAxis == TileAxis::Token;
    for (int64_t row = 0; row < count; row += c_.granule()) {
      std::map<int64_t, std::vector<int64_t>> groups;
      for (int64_t channel = 0; channel < c_.width; ++channel) {
        groups[overTokens ? channel : c_.groupOf(channel)].push_back(channel);
      }
      for (const auto &[group, channels] : groups) {
        quantizeGroup(first, rows, row, row + c_.granule(), channels);
      }
    }
  }
  void quantizeGroup(int64_t first, const std::vector<std::vector<float>> &rows, int64_t row0,
                     int64_t row1, const std::vector<int64_t> &channels) {
    std::vector<float> values;
    for (int64_t row = row0; row < row1; ++row) {
      for (int64_t i : channels) {
        values.push_back(rows[static_cast<size_t>(row)][static_cast<size_t>(i)]);
      }
    }
    Group group = groupOf(c_, values);
    store_.setGroup(0, PlaneRole::Scales, head_, first + row0, channels[0], group.scale);
    if (c_.zero != ZeroKind::None) {
      store_.setGroup(0, PlaneRole::Zeros, head_, first + row0, channels[0], group.zero);
    }
    for (int64_t row = row0; row < row1; ++row) {
      for (int64_t i : channels) {
        store_.setCode(0, head_, first + row, i,
                       codeOf(c_, group, rows[static_cast<size_t>(row)][static_cast<size_t>(i)]));
      }
    }
  }

  PagedStore &store_;
  const ColumnLayout &c_;
  int64_t head_;
  const std::vector<float> &basis_, &mean_;
};

/// Codes, scales and zeros of rows [first, end) against the reference target's.
void expectEqualToReference(PagedStore &store, int64_t head, int64_t first, int64_t end) {
  const ColumnLayout &c = store.column(0);
  std::vector<double> rows;
  for (int64_t row = first; row < end; ++row) {
    for (int64_t i = 0; i < c.width; ++i) {
      rows.push_back(store.dense(0, SegmentKind::Exact, head, row, i));
    }
  }
  auto block = kvcache::rt::reference::encodeRows(c, rows, end - first, nullptr);
  ASSERT_TRUE(block.isOk());
  bool overTokens = c.tileAxis == TileAxis::Token;
  int64_t groups = overTokens ? c.width : c.groupsPerRow();
  for (int64_t row = first; row < end; ++row) {
    for (int64_t i = 0; i < c.width; ++i) {
      SCOPED_TRACE("head " + std::to_string(head) + ", row " + std::to_string(row) + ", channel " +
                   std::to_string(i));
      auto group = static_cast<size_t>((row - first) / c.granule() * groups +
                                       (overTokens ? i : c.groupOf(i)));
      ASSERT_EQ(store.code(0, head, row, i),
                block->codes[static_cast<size_t>((row - first) * c.width + i)]);
      ASSERT_EQ(store.group(0, PlaneRole::Scales, head, row, i), block->scales[group]);
      if (c.zero != ZeroKind::None) {
        ASSERT_EQ(store.group(0, PlaneRole::Zeros, head, row, i), block->zeros[group]);
      }
    }
  }
}

/// Makes rows of constants, zeros, tiny and large values and of one sign among the random ones.
void makeHardRows(PagedStore &store) {
  for (int64_t h = 0; h < store.heads(); ++h) {
    for (int64_t row = store.first(0, SegmentKind::Exact, h); row < store.rows(h); ++row) {
      for (int64_t i = 0; i < store.column(0).width; ++i) {
        double x = store.exact(0, h, row, i);
        double changed = row % 7 == 1   ? 0.0
                         : row % 7 == 2 ? 1.5
                         : row % 7 == 3 ? x * 1e-7
                         : row % 7 == 4 ? std::abs(x)
                         : row % 7 == 5 ? x * 1e3
                                        : x;
        store.setExact(0, h, row, i, changed);
      }
    }
  }
}

struct Lengths {
  std::vector<int64_t> rows, coded, due;
};

/// Ragged heads around 32 rows; the due rows are the whole multiples of the granule, with coded
/// rows before them or not.
Lengths lengthsOf(const ColumnLayout &c) {
  Lengths lengths;
  for (int64_t rows : {1, 31, 32, 33, 300}) {
    int64_t granule = c.granule(), sinks = std::min(c.sinks, rows);
    int64_t coded = rows == 300 ? 2 * granule : 0;
    lengths.rows.push_back(rows);
    lengths.coded.push_back(coded);
    lengths.due.push_back((rows - sinks - coded) / granule * granule);
  }
  return lengths;
}

} // namespace

TEST(EncodeEmitter, equalsTheFormulasBitForBit) {
  KernelModule kernels;
  std::vector<EmittedKernel> emitted;
  std::vector<std::vector<ColumnLayout>> columns;
  for (size_t i = 0; i < cases.size(); ++i) {
    columns.push_back(
        {columnOf(cases[i].storage, cases[i].width, cases[i].act), columnOf("i32", 1)});
    ASSERT_EQ(whyNotEncode(columns[i][0]), "") << cases[i].storage;
    emitted.push_back(emitEncode(*kernels.module, "encode" + std::to_string(i), columns[i], 0));
  }
  for (Isa isa : runnableIsas()) {
    CompiledKernels code(*kernels.module, isa);
    for (size_t i = 0; i < cases.size(); ++i) {
      SCOPED_TRACE(cases[i].storage + " of " + std::to_string(cases[i].width) + ", " +
                   nameOf(isa).str());
      const ColumnLayout &c = columns[i][0];
      Lengths lengths = lengthsOf(c);
      PagedStore store(columns[i], lengths.rows, {lengths.coded, {0, 0, 0, 0, 0}},
                       {lengths.due, {0, 0, 0, 0, 0}});
      store.fill(11);
      makeHardRows(store);
      auto basis = randomFloats(store.heads() * c.width * std::max<int64_t>(c.rank, 1), 5);
      auto mean = randomFloats(store.heads() * c.width, 6);
      PagedStore expected = store;
      std::vector<int64_t> due;
      for (int64_t h = 0; h < store.heads(); ++h) {
        int64_t first = store.end(0, SegmentKind::Coded, h),
                end = first + lengths.due[static_cast<size_t>(h)];
        due.insert(due.end(), {first, end});
        NaiveEncoder(expected, h, basis, mean).encode(first, end);
      }
      EmittedCall call{&store,
                       {{"due", due.data()}, {"basis", basis.data()}, {"mean", mean.data()}},
                       {{"blocks", 3}}};
      ASSERT_EQ(call.run(code, emitted[i]), KVCACHE_KERNEL_OK);
      for (int64_t h = 0; h < store.heads() && c.affine() && !c.rotated; ++h) {
        expectEqualToReference(store, h, due[2 * h], due[2 * h + 1]);
      }
      ASSERT_EQ(std::mismatch(store.arena().begin(), store.arena().end(), expected.arena().begin())
                        .first -
                    store.arena().begin(),
                static_cast<std::ptrdiff_t>(store.arena().size()));
    }
  }
}

TEST(EncodeEmitter, anyNumberOfBlocksGivesTheSameBytes) {
  KernelModule kernels;
  std::vector<ColumnLayout> columns{columnOf(
      "recent<affine<2, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(0), block(32)>", 64)};
  EmittedKernel kernel = emitEncode(*kernels.module, "encode", columns, 0);
  CompiledKernels code(*kernels.module, runnableIsas().back());
  PagedStore store(columns, {320, 64}, {{0, 0}}, {{320, 64}});
  store.fill(3);
  std::vector<int64_t> due{0, 320, 0, 64};
  PagedStore first = store, other = store;
  for (auto [target, blocks] : {std::pair{&first, 1}, std::pair{&other, 17}}) {
    ASSERT_EQ((EmittedCall{target, {{"due", due.data()}}, {{"blocks", blocks}}}.run(code, kernel)),
              KVCACHE_KERNEL_OK);
  }
  EXPECT_EQ(first.arena(), other.arena());
  EXPECT_NE(first.arena(), store.arena());
}

TEST(EncodeEmitter, refusesWhatItCannotCode) {
  EXPECT_EQ(whyNotEncode(columnOf("f16", 64)), "expected a coded column, got dense rows");
  EXPECT_EQ(
      whyNotEncode(columnOf("affine<4, tile(channel:32), min_i16, scale_f16, lsb(channel)>", 64)),
      "expected a float minimum, got min_i16");
  EXPECT_EQ(whyNotEncode(columnOf(
                "affine<4, tile(channel:32), min_f16, scale_f16, clip(0.9), lsb(channel)>", 64)),
            "expected clip(c) only with zp_T or none, got min_f16");
  EXPECT_EQ(
      whyNotEncode(columnOf("affine<4, tile(channel:32), min_f16, scale_i16, lsb(channel)>", 64)),
      "expected a float scale, got scale_i16");
  EXPECT_EQ(
      whyNotEncode(columnOf("affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 8192)),
      "expected at most 4096 values per coded row, got 8192");
}
