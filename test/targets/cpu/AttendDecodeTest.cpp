// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Decode attention (decode and merge kernels) against double precision: every key format with every
// value format, one and several query heads per KV head, lengths around a tile and a page, masks,
// both instruction sets.

#include "test/targets/cpu/AttendCase.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using mlir::kvcache::cpu::test::AttendCase;
using mlir::kvcache::cpu::test::AttendShape;
using mlir::kvcache::cpu::test::CompiledKernels;
using mlir::kvcache::cpu::test::KernelModule;
using mlir::kvcache::cpu::test::wantsSlowTests;

namespace {

/// Results of the kernels for one problem.
struct DecodeResult {
  std::vector<float> out, lse, logits;
};

/// Compiled decode and merge kernels of one spec; a problem of another length may reuse them.
struct DecodeKernels {
  explicit DecodeKernels(AttendCase &problem) : spec(problem.spec()) {
    EXPECT_EQ(whyNotAttend(spec), "");
    decode = *emitAttendDecode(*kernels.module, spec);
    merge = emitAttendMerge(*kernels.module, spec);
    code = std::make_unique<CompiledKernels>(*kernels.module, problem.shape().isa);
  }

  DecodeResult run(AttendCase &problem) {
    int64_t rows = problem.shape().queryRows, heads = problem.queryHeads(),
            dim = problem.shape().headDim;
    int64_t splits = (problem.capacity() - 5 + spec.splitRows - 1) / spec.splitRows;
    std::vector<float> partial(static_cast<size_t>(rows * heads * splits * spec.partialWidth()),
                               NAN);
    std::vector<float> maxima(static_cast<size_t>(rows * heads * splits * 2), NAN);
    DecodeResult result;
    result.out.assign(static_cast<size_t>(rows * heads * dim), NAN);
    result.lse.assign(static_cast<size_t>(rows * heads), NAN);
    result.logits.assign(static_cast<size_t>(rows * heads * problem.capacity()), 0);
    std::vector<int64_t> words{rows, splits, problem.capacity()};
    std::map<std::string, void *> buffers{
        {"partial", partial.data()}, {"maxima", maxima.data()},  {"logits", result.logits.data()},
        {"out", result.out.data()},  {"lse", result.lse.data()}, {"scalars", words.data()}};
    EXPECT_EQ(code->run(decode.name.c_str(), rows * problem.kvHeads() * splits,
                        problem.pointers(decode, buffers)),
              0);
    EXPECT_EQ(code->run(merge.name.c_str(), rows * heads, problem.pointers(merge, buffers)), 0);
    return result;
  }

  AttendSpec spec;
  KernelModule kernels;
  EmittedKernel decode, merge;
  std::unique_ptr<CompiledKernels> code;
};

void expectMatches(DecodeKernels &kernels, AttendCase &problem) {
  problem.computeReference();
  DecodeResult result = kernels.run(problem);
  // A fixed-point number is off by up to 2^-16 of the largest of its group. These logits are large,
  // so what that changes in them changes probabilities by more.
  double tolerance = problem.shape().integers ? 2e-4 : 1e-5;
  EXPECT_LT(mlir::kvcache::cpu::test::distance(result.out, problem.out),
            problem.shape().integers ? 4e-4 : tolerance);
  EXPECT_LT(mlir::kvcache::cpu::test::distance(result.lse, problem.lse), tolerance);
  EXPECT_LT(mlir::kvcache::cpu::test::distance(result.logits, problem.logits), tolerance);
}

void check(AttendShape shape, const std::vector<std::vector<int64_t>> &lengths) {
  bool needsVnni = shape.integers && shape.isa == Isa::V4;
  if (!mlir::kvcache::cpu::test::canRun(shape.isa) ||
      (needsVnni && !__builtin_cpu_supports("avx512vnni"))) {
    GTEST_SKIP() << "this machine does not run " << nameOf(shape.isa).str();
  }
  std::unique_ptr<DecodeKernels> kernels;
  for (const std::vector<int64_t> &rows : lengths) {
    shape.rows = rows;
    SCOPED_TRACE(shape.str());
    AttendCase problem(shape);
    if (!kernels) {
      kernels = std::make_unique<DecodeKernels>(problem);
    }
    expectMatches(*kernels, problem);
  }
}

const std::vector<std::vector<int64_t>> someLengths{
    {1, 1}, {63, 64}, {64, 3}, {65, 129}, {1000, 777}};

} // namespace

TEST(AttendDecode, DenseElements) {
  for (const char *elem : {"f32", "f16", "bf16"}) {
    AttendShape shape;
    shape.k = shape.v = elem;
    shape.group = 4;
    shape.headDim = 128;
    check(shape, someLengths);
  }
}

TEST(AttendDecode, GroupSizes) {
  for (int64_t group : {1, 2, 3, 5, 7, 8, 12}) {
    for (Isa isa : {Isa::V4, Isa::V3}) {
      AttendShape shape;
      shape.k = shape.v = "f16";
      shape.group = group;
      shape.isa = isa;
      check(shape, {{130, 65}});
    }
  }
}

TEST(AttendDecode, HeadDims) {
  for (int64_t dim : {8, 16, 40, 80, 256}) {
    AttendShape shape;
    shape.k = "f16";
    shape.v = "bf16";
    shape.group = 2;
    shape.headDim = dim;
    check(shape, {{1, 7}, {130, 65}});
  }
}

TEST(AttendDecode, MasksAndQueryRows) {
  for (int64_t window : {0, 37}) {
    for (bool causal : {true, false}) {
      AttendShape shape;
      shape.k = shape.v = "f16";
      shape.group = 2;
      shape.queryRows = 9;
      shape.causal = causal;
      shape.window = window;
      check(shape, {{9, 4}, {300, 290}});
    }
  }
}

TEST(AttendDecode, FullyMaskedRowGivesZero) {
  AttendShape shape;
  shape.rows = {70, 3};
  shape.queryRows = 2;
  AttendCase problem(shape);
  problem.qpos[0] = -1;
  DecodeKernels kernels(problem);
  expectMatches(kernels, problem);
  EXPECT_EQ(problem.out[0], 0.0);
  EXPECT_TRUE(std::isinf(problem.lse[0]));
}

TEST(AttendDecode, EveryKeyFormatWithEveryValueFormat) {
  const char *formats[] = {
      "f16",
      "bf16",
      "recent<affine<2, tile(channel:32), min_f16, scale_f16, lsb(channel)>, keep(0), block(1)>",
      "sinks<recent<affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, keep(7), "
      "block(1)>, 5>",
      "recent<affine<8, tile(channel:64), none, scale_f32, lsb(channel)>, keep(3), block(2)>",
      "recent<affine<3, tile(channel:24), min_f32, scale_bf16, lsb(channel)>, keep(0), block(1)>",
      "sinks<recent<affine<2, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(32), "
      "block(32)>, 32>",
      "recent<affine<4, tile(token:24), zp_u8, scale_f16, lsb(token)>, keep(5), block(48)>",
      "sinks<recent<rotated<affine<4, tile(channel:64), zp_f16, scale_f16, lsb(channel)>, "
      "hadamard>, keep(1), block(1)>, 3>",
      "sinks<recent<factor<24, f16>, keep(9), block(4)>, 2>",
  };
  // Every format is a key format beside three value formats; the slow run takes all pairs.
  const size_t count = std::size(formats);
  for (size_t k = 0; k < count; ++k) {
    for (size_t v = 0; v < count; ++v) {
      size_t distance = (v + count - k) % count;
      if (distance != 0 && distance != 1 && distance != 4 && !wantsSlowTests()) {
        continue;
      }
      AttendShape shape;
      shape.k = formats[k];
      shape.v = formats[v];
      shape.group = 4;
      check(shape, {{1, 63}, {65, 64}, {300, 277}});
    }
  }
}

TEST(AttendDecode, FormatsOverShapes) {
  const char *formats[] = {
      "recent<affine<2, tile(channel:32), min_f16, scale_f16, lsb(channel)>, keep(0), block(1)>",
      "recent<affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, keep(7), block(1)>",
      "recent<affine<8, tile(channel:16), zp_u8, scale_f16, lsb(channel)>, keep(7), block(1)>",
      "recent<affine<3, tile(channel:40), min_f16, scale_f16, lsb(channel)>, keep(0), block(1)>",
      "recent<affine<2, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(32), block(32)>",
      "recent<affine<4, tile(token:64), none, scale_f32, lsb(token)>, keep(0), block(64)>",
      "recent<affine<8, tile(token:4), min_f16, scale_f16, lsb(token)>, keep(0), block(4)>",
      "recent<affine<4, tile(token:8, channel:16), min_f16, scale_f16, lsb(channel)>, keep(3), "
      "block(16)>",
      "recent<rotated<affine<4, tile(channel:128), zp_f16, scale_f16, lsb(channel)>, hadamard>, "
      "keep(1), block(1)>",
      "recent<factor<64, bf16>, keep(9), block(4)>",
  };
  const std::pair<int64_t, int64_t> shapes[] = {{1, 64}, {1, 128}, {4, 128}, {3, 64}, {8, 128}};
  // A format meets two shapes with the wide instruction set and one with the narrow one, other
  // ones than its neighbours meet; the slow run takes every shape with both.
  for (size_t f = 0; f < std::size(formats); ++f) {
    for (size_t i = 0; i < std::size(shapes); ++i) {
      size_t turn = (f + i) % std::size(shapes);
      for (Isa isa : {Isa::V4, Isa::V3}) {
        if (!(isa == Isa::V4 ? turn < 2 : turn == 2) && !wantsSlowTests()) {
          continue;
        }
        AttendShape shape;
        shape.k = shape.v = formats[f];
        shape.group = shapes[i].first;
        shape.headDim = shapes[i].second;
        shape.isa = isa;
        check(shape, isa == Isa::V4 ? someLengths : std::vector<std::vector<int64_t>>{{130, 65}});
      }
    }
  }
}

// Rows of less, of just and of more than a vector of words; groups of one word to a row; other
// segments beside.
TEST(AttendDecode, IntegerProducts) {
  const std::pair<const char *, int64_t> formats[] = {
      {"affine<2, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 64},
      {"affine<2, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 128},
      {"affine<2, tile(channel:16), min_f16, scale_f16, lsb(channel)>", 256},
      {"sinks<recent<affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, keep(7), "
       "block(1)>, 5>",
       64},
      {"affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 128},
      {"affine<4, tile(channel:8), none, scale_f32, lsb(channel)>", 128},
      {"affine<4, tile(channel:128), zp_u8, scale_f16, lsb(channel)>", 128},
      {"affine<4, tile(channel:64), min_f16, scale_bf16, lsb(channel)>", 256},
      {"affine<8, tile(channel:32), zp_u8, scale_f16, lsb(channel)>", 64},
      {"recent<affine<8, tile(channel:16), min_f16, scale_f16, lsb(channel)>, keep(3), block(2)>",
       128},
      {"rotated<affine<4, tile(channel:64), zp_f16, scale_f16, lsb(channel)>, hadamard>", 64},
      {"sinks<recent<affine<2, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(32), "
       "block(32)>, 32>",
       64},
      {"recent<affine<4, tile(token:24), zp_u8, scale_f16, lsb(token)>, keep(5), block(48)>", 40},
      {"recent<affine<8, tile(token:4), min_f16, scale_f16, lsb(token)>, keep(0), block(4)>", 128},
  };
  // A format meets one group size with the wide instruction set and, every third, with the narrow
  // one; the slow run takes all.
  const int64_t groups[] = {1, 4, 12};
  for (size_t f = 0; f < std::size(formats); ++f) {
    auto [format, dim] = formats[f];
    for (size_t g = 0; g < std::size(groups); ++g) {
      for (Isa isa : {Isa::V4, Isa::V3}) {
        if (!(f % 3 == (isa == Isa::V4 ? g : g + 1) && (isa == Isa::V4 || f % 2 == 0)) &&
            !wantsSlowTests()) {
          continue;
        }
        int64_t group = groups[g];
        AttendShape shape;
        shape.k = shape.v = format;
        shape.group = group;
        shape.headDim = dim;
        shape.isa = isa;
        shape.integers = true;
        check(shape, isa == Isa::V4 ? someLengths : std::vector<std::vector<int64_t>>{{130, 65}});
      }
    }
  }
}

TEST(AttendDecode, CodesOfOddHeadDims) {
  const char *formats[] = {
      "recent<affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, keep(7), block(1)>",
      "recent<affine<3, tile(channel:24), min_f16, scale_f16, lsb(channel)>, keep(0), block(1)>",
      "recent<affine<2, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(32), block(32)>",
      "recent<factor<7, f16>, keep(9), block(4)>",
  };
  for (const char *format : formats) {
    for (int64_t dim : {8, 40, 80, 96, 256}) {
      AttendShape shape;
      shape.k = shape.v = format;
      shape.group = 2;
      shape.headDim = dim;
      check(shape, {{130, 65}});
    }
  }
}

TEST(AttendDecode, RopeView) {
  for (int64_t dim : {8, 40, 64, 128}) {
    AttendShape shape;
    shape.k = "f16";
    shape.group = 4;
    shape.headDim = dim;
    shape.ropeView = true;
    check(shape, {{1, 7}, {300, 65}});
  }
}

// Groups within a head, of all heads of a row, of some heads; blocks of rows; tiles over tokens;
// heads that end within a vector.
TEST(AttendDecode, RowsThatHeadsShare) {
  const char *formats[] = {
      "f16",
      "sinks<recent<affine<8, tile(channel:20), zp_u8, scale_f16, lsb(channel)>, keep(7), "
      "block(1)>, 5>",
      "recent<affine<4, tile(head:* of 4, channel:8 of 40), min_f16, scale_f16, lsb(channel)>, "
      "keep(0), block(1)>",
      "recent<affine<2, tile(head:* of 4, channel:* of 40), min_f32, scale_bf16, lsb(channel)>, "
      "keep(3), block(1)>",
      "recent<affine<3, tile(head:2 of 4, channel:* of 40), none, scale_f32, lsb(channel)>, "
      "keep(0), block(2)>",
      "recent<affine<4, tile(token:8, head:3 of 4, channel:16 of 40), min_f16, scale_f16, "
      "lsb(channel)>, keep(3), block(16)>",
      "recent<affine<2, tile(token:32), min_f16, scale_f16, lsb(token)>, keep(0), block(32)>",
      "sinks<recent<factor<24, f16>, keep(9), block(4)>, 2>",
  };
  const size_t count = std::size(formats);
  for (size_t k = 0; k < count; ++k) {
    for (size_t v = 0; v < count; ++v) {
      if (v != (k + 1) % count && v != (k + 4) % count && !wantsSlowTests()) {
        continue;
      }
      AttendShape shape;
      shape.k = formats[k];
      shape.v = formats[v];
      shape.group = k % 2 == 0 ? 1 : 4;
      shape.sharing = 4;
      shape.headDim = 40;
      shape.isa = v % 2 == 0 ? Isa::V4 : Isa::V3;
      check(shape, {{1}, {65}, {300}});
    }
  }
}

TEST(AttendDecode, RopeViewOfRowsThatHeadsShare) {
  AttendShape shape;
  shape.k = "f16";
  shape.group = 4;
  shape.sharing = 3;
  shape.headDim = 40;
  shape.ropeView = true;
  check(shape, {{1}, {300}});
}

TEST(AttendDecode, RefusesRowsThatDoNotComeApart) {
  auto why = [](const char *k, int64_t dim) {
    AttendShape shape;
    shape.k = k;
    shape.v = "f16";
    shape.sharing = 4;
    shape.headDim = dim;
    return whyNotAttend(AttendCase(shape).spec());
  };
  EXPECT_EQ(why("affine<2, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 10),
            "keys: expected parts of whole bytes of codes, got 40 values in parts of 10 with 2 "
            "bits each");
  EXPECT_EQ(
      why("affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>", 40),
      "keys: expected the groups of every part to be like those of the first, got 160 values in "
      "parts of 40 with groups of 32");
  EXPECT_EQ(
      why("rotated<affine<4, tile(channel:64), min_f16, scale_f16, lsb(channel)>, hadamard>", 64),
      "keys: expected rows that no rotation mixes across heads: each head reads its part of a row");
}
