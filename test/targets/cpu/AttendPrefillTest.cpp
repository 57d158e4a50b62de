// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Prefill attention against double precision: element types, exact segments of coded columns, group
// and head sizes, blocks with a remainder, masks, any number of blocks.

#include "test/targets/cpu/AttendCase.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using mlir::kvcache::cpu::test::AttendCase;
using mlir::kvcache::cpu::test::AttendShape;
using mlir::kvcache::cpu::test::CompiledKernels;
using mlir::kvcache::cpu::test::KernelModule;

namespace {

struct PrefillResult {
  std::vector<float> out, lse;
};

PrefillResult runPrefill(AttendCase &problem, bool wantsOut, int64_t blocks) {
  AttendSpec spec = problem.spec();
  spec.wantsOut = wantsOut;
  KernelModule kernels;
  EmittedKernel kernel = *emitAttendPrefill(*kernels.module, spec);
  CompiledKernels code(*kernels.module, problem.shape().isa);
  int64_t rows = problem.shape().queryRows, heads = problem.queryHeads();
  PrefillResult result;
  result.out.assign(static_cast<size_t>(rows * heads * spec.headDim), NAN);
  result.lse.assign(static_cast<size_t>(rows * heads), NAN);
  std::vector<int64_t> words{rows, blocks};
  std::vector<void *> args = problem.pointers(
      kernel, {{"out", result.out.data()}, {"lse", result.lse.data()}, {"scalars", words.data()}});
  EXPECT_EQ(code.run(kernel.name.c_str(), problem.kvHeads() * blocks, args), 0);
  return result;
}

void check(AttendShape shape, int64_t blocks = 2) {
  if (!mlir::kvcache::cpu::test::canRun(shape.isa)) {
    GTEST_SKIP() << "this machine does not run " << nameOf(shape.isa).str();
  }
  SCOPED_TRACE(shape.str());
  AttendCase problem(shape);
  problem.computeReference();
  PrefillResult result = runPrefill(problem, true, blocks);
  EXPECT_LT(mlir::kvcache::cpu::test::distance(result.out, problem.out), 1e-5);
  EXPECT_LT(mlir::kvcache::cpu::test::distance(result.lse, problem.lse), 1e-5);
}

} // namespace

TEST(AttendPrefill, ElementsAndGroups) {
  for (const char *elem : {"f32", "f16", "bf16"}) {
    for (int64_t group : {1, 2, 3, 4, 8, 12}) {
      AttendShape shape;
      shape.k = shape.v = elem;
      shape.group = group;
      shape.rows = {131, 100};
      shape.queryRows = 70;
      check(shape);
    }
  }
}

TEST(AttendPrefill, HeadDimsAndInstructionSets) {
  for (int64_t dim : {8, 40, 80, 128, 256}) {
    for (Isa isa : {Isa::V4, Isa::V3}) {
      AttendShape shape;
      shape.k = shape.v = "f16";
      shape.group = 2;
      shape.headDim = dim;
      shape.rows = {65};
      shape.queryRows = 65;
      shape.isa = isa;
      check(shape);
    }
  }
}

TEST(AttendPrefill, Masks) {
  for (int64_t window : {0, 37}) {
    for (bool causal : {true, false}) {
      AttendShape shape;
      shape.k = shape.v = "f16";
      shape.group = 4;
      shape.rows = {300, 290};
      shape.queryRows = 50;
      shape.causal = causal;
      shape.window = window;
      check(shape);
    }
  }
}

TEST(AttendPrefill, ExactSegmentsOfCodedColumns) {
  AttendShape shape;
  shape.k = "sinks<recent<affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, "
            "keep(4096), block(1)>, 5>";
  shape.v =
      "recent<affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, keep(4096), block(1)>";
  shape.group = 2;
  shape.rows = {129, 3};
  shape.queryRows = 20;
  check(shape);
}

TEST(AttendPrefill, BlocksAndPassChangeNothing) {
  AttendShape shape;
  shape.k = shape.v = "f16";
  shape.group = 4;
  shape.rows = {200};
  shape.queryRows = 77;
  AttendCase problem(shape);
  PrefillResult one = runPrefill(problem, true, 1), many = runPrefill(problem, true, 5),
                passOnly = runPrefill(problem, false, 2);
  EXPECT_EQ(one.out, many.out);
  EXPECT_EQ(one.lse, many.lse);
  EXPECT_EQ(one.lse, passOnly.lse);
}

TEST(AttendPrefill, FullyMaskedRowGivesZero) {
  AttendShape shape;
  shape.rows = {70};
  shape.queryRows = 3;
  AttendCase problem(shape);
  problem.qpos[1] = -1;
  problem.computeReference();
  PrefillResult result = runPrefill(problem, true, 1);
  EXPECT_LT(mlir::kvcache::cpu::test::distance(result.out, problem.out), 1e-5);
  EXPECT_EQ(result.out[64], 0.0f);
  EXPECT_EQ(result.lse[1], -INFINITY);
}

TEST(AttendPrefill, RowsThatHeadsShare) {
  for (int64_t group : {1, 4}) {
    for (int64_t dim : {40, 64}) {
      AttendShape shape;
      shape.k = "f16";
      shape.v = "sinks<recent<affine<4, tile(channel:8), min_f16, scale_f16, lsb(channel)>, "
                "keep(4096), block(1)>, 5>";
      shape.group = group;
      shape.sharing = 3;
      shape.headDim = dim;
      shape.rows = {131};
      shape.queryRows = 70;
      check(shape);
    }
  }
}
