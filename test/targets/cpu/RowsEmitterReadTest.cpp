// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel that reads a column: exact rows and plain codes to the last bit, rotated, projected
// and RoPE rows against double precision.

#include "targets/cpu/RowsEmitter.h"
#include "test/targets/cpu/EmittedCall.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace mlir::kvcache::cpu;
using namespace mlir::kvcache::cpu::test;
using namespace kvcache::test;

namespace {

const ElementType F16 = ElementType::F16, F32 = ElementType::F32, BF16 = ElementType::BF16;

struct Case {
  std::string storage;
  int64_t width;
  ElementType act;
  int64_t ropeDim; ///< 0: not turned
};

const std::vector<Case> cases = {
    {"f16", 128, F16, 0},
    {"bf16", 80, F16, 0},
    {"f32", 1, F16, 0},
    {"i32", 1, F16, 0},
    {"f16", 80, F16, 80},
    {"f32", 64, F16, 64},
    {"f16", 120, F16, 40}, // three heads in a row
    {"affine<2, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 128, F16, 0},
    {"affine<3, tile(channel:24), min_f16, scale_f16, lsb(channel)>", 64, F16, 0},
    {"affine<4, tile(channel:32), zp_i16, scale_f16, lsb(channel)>", 80, BF16, 0},
    {"affine<8, tile(channel:24), zp_u8, scale_f32, lsb(channel)>", 64, F32, 0},
    {"affine<3, tile(channel:5), none, scale_bf16, lsb(channel)>", 13, F32, 0},
    {"affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 64, F16, 64},
    {"sinks<recent<affine<2, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(0), block(32)>, "
     "32>",
     128, F16, 0},
    {"recent<affine<4, tile(token:16), zp_u8, scale_f16, lsb(token)>, keep(16), block(16)>", 20,
     F16, 0},
    {"recent<affine<8, tile(token:48), none, scale_f16, lsb(token)>, keep(0), block(48)>", 32, F32,
     0},
    {"recent<affine<4, tile(token:9, channel:24), zp_u8, scale_f16, lsb(channel)>, keep(0), "
     "block(9)>",
     64, F32, 0},
    {"rotated<affine<4, tile(channel:128), zp_i16, scale_f16, lsb(channel)>, hadamard>", 128, F16,
     0},
    {"rotated<affine<3, tile(channel:8), min_f16, scale_f16, lsb(channel)>, hadamard>", 8, F16, 0},
    {"sinks<factor<16, act>, 4>", 32, F16, 0},
    {"factor<10, f32>", 80, BF16, 0},
    {"factor<70, bf16>", 128, F32, 128},
};

class Reference {
public:
  Reference(PagedStore &store, const Case &test, const std::vector<float> &basis,
            const std::vector<float> &mean, const std::vector<float> &table)
      : store_(store), test_(test), basis_(basis), mean_(mean), table_(table) {}

  /// True when the kernel has to give the very bits of `row`.
  bool isExact(int64_t head, int64_t row) {
    bool coded = store_.kindOf(0, head, row) == SegmentKind::Coded;
    return test_.ropeDim == 0 &&
           (!coded || (!store_.column(0).rotated && store_.column(0).rank == 0));
  }
  std::vector<double> row(int64_t head, int64_t row) {
    std::vector<double> values = stored(head, row);
    auto dim = static_cast<size_t>(test_.ropeDim), half = dim / 2;
    const float *angles = table_.data() + row * test_.ropeDim;
    for (size_t first = 0; dim > 0 && first < values.size(); first += dim) {
      for (size_t i = first; i < first + half; ++i) {
        double a = values[i], b = values[i + half], cos = angles[i - first],
               sin = angles[i - first + half];
        values[i] = a * cos - b * sin;
        values[i + half] = b * cos + a * sin;
      }
    }
    return values;
  }

private:
  std::vector<double> stored(int64_t head, int64_t row) {
    const ColumnLayout &c = store_.column(0);
    bool coded = store_.kindOf(0, head, row) == SegmentKind::Coded;
    std::vector<double> values;
    for (int64_t i = 0; i < c.width; ++i) {
      values.push_back(!coded       ? store_.exact(0, head, row, i)
                       : c.rank > 0 ? multiplied(head, row, i)
                                    : store_.decoded(0, head, row, i));
    }
    return coded && c.rotated ? rotated(values) : values;
  }
  double multiplied(int64_t head, int64_t row, int64_t i) {
    int64_t rank = store_.column(0).rank, at = head * test_.width + i;
    double sum = mean_[static_cast<size_t>(at)];
    for (int64_t r = 0; r < rank; ++r) {
      sum += store_.dense(0, SegmentKind::Coded, head, row, r) *
             basis_[static_cast<size_t>(at * rank + r)];
    }
    return sum;
  }
  static std::vector<double> rotated(const std::vector<double> &values) {
    std::vector<double> result(values.size(), 0.0);
    for (size_t i = 0; i < values.size(); ++i) {
      for (size_t j = 0; j < values.size(); ++j) {
        result[i] += (__builtin_popcountll(i & j) % 2 ? -values[j] : values[j]) /
                     std::sqrt(static_cast<double>(values.size()));
      }
    }
    return result;
  }

  PagedStore &store_;
  const Case &test_;
  const std::vector<float> &basis_, &mean_, &table_;
};

/// Heads of 1, 31, 32, 33 and 300 rows, the last with coded rows when the column codes.
PagedStore storeOf(const std::vector<ColumnLayout> &columns) {
  std::vector<int64_t> rows{1, 31, 32, 33, 300}, none(5, 0), coded = none;
  if (columns[0].coded) {
    coded[1] = (31 - std::min<int64_t>(columns[0].sinks, 31)) / columns[0].granule() *
               columns[0].granule();
    coded[4] = 5 * std::max<int64_t>(columns[0].granule(), 27);
  }
  return PagedStore(columns, rows, {coded, none});
}

} // namespace

TEST(RowsEmitterRead, givesWhatAReaderSees) {
  KernelModule kernels;
  std::vector<EmittedKernel> emitted;
  std::vector<std::vector<ColumnLayout>> columns;
  for (size_t i = 0; i < cases.size(); ++i) {
    columns.push_back(
        {columnOf(cases[i].storage, cases[i].width, cases[i].act), columnOf("i32", 1)});
    ASSERT_EQ(whyNotRead(columns[i][0], cases[i].ropeDim), "") << cases[i].storage;
    emitted.push_back(
        emitRead(*kernels.module, "read" + std::to_string(i), columns[i], 0, cases[i].ropeDim));
  }
  for (Isa isa : runnableIsas()) {
    CompiledKernels code(*kernels.module, isa);
    for (size_t i = 0; i < cases.size(); ++i) {
      SCOPED_TRACE(cases[i].storage + " of " + std::to_string(cases[i].width) + ", " +
                   nameOf(isa).str());
      const ColumnLayout &c = columns[i][0];
      PagedStore store = storeOf(columns[i]);
      store.fill(13);
      const std::vector<uint8_t> before = store.arena();
      const int64_t capacity = 320;
      auto basis = randomFloats(store.heads() * c.width * std::max<int64_t>(c.rank, 1), 5);
      auto mean = randomFloats(store.heads() * c.width, 6), table = randomFloats(300 * c.width, 7);
      const float untouched = 12345.0f;
      std::vector<float> out(static_cast<size_t>(store.heads() * capacity * c.width), untouched);
      EmittedCall call{&store,
                       {{"basis", basis.data()},
                        {"mean", mean.data()},
                        {"ropeTable", table.data()},
                        {"out", out.data()}},
                       {{"capacity", capacity}, {"blocks", 3}}};
      ASSERT_EQ(call.run(code, emitted[i]), KVCACHE_KERNEL_OK);
      EXPECT_EQ(store.arena(), before);
      Reference reference(store, cases[i], basis, mean, table);
      for (int64_t h = 0; h < store.heads(); ++h) {
        for (int64_t row = 0; row < capacity; ++row) {
          const float *values = out.data() + (h * capacity + row) * c.width;
          if (row >= store.rows(h)) {
            ASSERT_EQ(values[0], untouched) << "row " << row << " behind head " << h;
            continue;
          }
          std::vector<double> expected = reference.row(h, row);
          for (int64_t channel = 0; channel < c.width; ++channel) {
            double want = expected[static_cast<size_t>(channel)];
            double got = c.exactElem == ElementType::I32
                             ? loadElement(reinterpret_cast<const uint8_t *>(values + channel),
                                           ElementType::I32)
                             : static_cast<double>(values[channel]);
            double tolerance = reference.isExact(h, row) ? 0.0 : 2e-5 * (1 + std::abs(want));
            ASSERT_NEAR(got, want, tolerance)
                << "head " << h << ", row " << row << ", channel " << channel;
          }
        }
      }
    }
  }
}

TEST(RowsEmitterRead, refusesWhatItCannotRead) {
  EXPECT_EQ(whyNotRead(columnOf("f16", 63), 63),
            "expected rows of an even number of floats per head under rope, got 63 in heads of 63");
  EXPECT_EQ(whyNotRead(columnOf("f16", 63), 2),
            "expected rows of an even number of floats per head under rope, got 63 in heads of 2");
  EXPECT_EQ(whyNotRead(
                columnOf("affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 8192), 0),
            "expected at most 4096 values per coded row, got 8192");
}
