// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Statistics per stored row, from keys and from logits, against double precision: all rows or the
// last ones, per KV head or per query head, masks, rows that see nothing.

#include "targets/cpu/AttendReduce.h"
#include "test/targets/cpu/AttendCase.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using mlir::kvcache::cpu::test::AttendCase;
using mlir::kvcache::cpu::test::AttendShape;
using mlir::kvcache::cpu::test::CompiledKernels;
using mlir::kvcache::cpu::test::KernelModule;

namespace {

/// The sums over query rows [first, R).
std::vector<double> expectedSums(AttendCase &problem, bool perQueryHead, int64_t first) {
  int64_t heads = problem.queryHeads(), group = problem.shape().group,
          capacity = problem.capacity();
  std::vector<double> sums(
      static_cast<size_t>((perQueryHead ? heads : problem.kvHeads()) * capacity), 0);
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t t = 0; t < problem.store().rows(problem.storeHead(h / group)); ++t) {
      double &sum = sums[static_cast<size_t>((perQueryHead ? h : h / group) * capacity + t)];
      for (int64_t r = first; r < problem.shape().queryRows; ++r) {
        double lse = problem.lse[static_cast<size_t>(r * heads + h)];
        sum += std::isinf(lse)
                   ? 0
                   : std::exp(problem.logits[static_cast<size_t>((r * heads + h) * capacity + t)] -
                              lse);
      }
    }
  }
  return sums;
}

void check(AttendShape shape, bool perQueryHead, int64_t first, int32_t firstPosition = 0) {
  if (!mlir::kvcache::cpu::test::canRun(shape.isa)) {
    GTEST_SKIP() << "this machine does not run " << nameOf(shape.isa).str();
  }
  SCOPED_TRACE(shape.str());
  AttendCase problem(shape);
  problem.qpos[0] += firstPosition;
  problem.computeReference();
  AttendReduceSpec spec;
  spec.attend = problem.spec();
  spec.keepsGroup = perQueryHead;
  KernelModule kernels;
  FailureOr<EmittedKernel> fromKeys = emitAttendReduce(*kernels.module, spec);
  spec.fromLogits = true;
  spec.attend.name += "_logits";
  FailureOr<EmittedKernel> fromLogits = emitAttendReduce(*kernels.module, spec);
  ASSERT_TRUE(succeeded(fromKeys) && succeeded(fromLogits));
  CompiledKernels code(*kernels.module, shape.isa);
  std::vector<float> lse(problem.lse.begin(), problem.lse.end()),
      logits(problem.logits.begin(), problem.logits.end());
  std::vector<double> expected = expectedSums(problem, perQueryHead, first);
  constexpr int64_t blocks = 2;
  std::vector<int64_t> words{first, shape.queryRows, problem.capacity(), blocks};
  for (const EmittedKernel &kernel : {*fromKeys, *fromLogits}) {
    std::vector<float> sums(expected.size(), 0.0F);
    EXPECT_EQ(code.run(kernel.name.c_str(), problem.kvHeads() * blocks,
                       problem.pointers(kernel, {{"lse", lse.data()},
                                                 {"logits", logits.data()},
                                                 {"reduced", sums.data()},
                                                 {"scalars", words.data()}})),
              0);
    EXPECT_LT(mlir::kvcache::cpu::test::distance(sums, expected), 1e-5) << kernel.name;
  }
}

} // namespace

TEST(AttendReduce, RowsHeadsAndModes) {
  for (int64_t group : {1, 4}) {
    for (bool perQueryHead : {false, true}) {
      for (int64_t first : {0, 33}) {
        AttendShape shape;
        shape.k = "f16";
        shape.group = group;
        shape.rows = {150, 70};
        shape.queryRows = 50;
        check(shape, perQueryHead, first);
      }
    }
  }
}

TEST(AttendReduce, ElementsHeadDimsAndInstructionSets) {
  for (const char *elem : {"f32", "bf16"}) {
    for (int64_t dim : {8, 40, 128, 256}) {
      for (Isa isa : {Isa::V4, Isa::V3}) {
        AttendShape shape;
        shape.k = elem;
        shape.group = 2;
        shape.headDim = dim;
        shape.rows = {65};
        shape.queryRows = 65;
        shape.isa = isa;
        check(shape, false, 0);
      }
    }
  }
}

TEST(AttendReduce, MasksAndExactSegmentsOfCodedKeys) {
  for (int64_t window : {0, 37}) {
    for (bool causal : {true, false}) {
      AttendShape shape;
      shape.k = "sinks<recent<affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, "
                "keep(4096), block(1)>, 5>";
      shape.group = 2;
      shape.rows = {200, 1};
      shape.queryRows = 30;
      shape.causal = causal;
      shape.window = window;
      check(shape, false, 0);
    }
  }
}

TEST(AttendReduce, RowThatSeesNothingAddsNothing) {
  AttendShape shape;
  shape.rows = {70};
  shape.queryRows = 3;
  check(shape, false, 0, -1000);
}

TEST(AttendReduce, RowsThatHeadsShare) {
  for (const char *elem :
       {"f16", "sinks<recent<affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, "
               "keep(4096), block(1)>, 5>"}) {
    for (int64_t group : {1, 4}) {
      AttendShape shape;
      shape.k = shape.v = elem;
      shape.group = group;
      shape.sharing = 3;
      shape.headDim = 40;
      shape.rows = {150};
      shape.queryRows = 50;
      check(shape, group == 4, 33);
    }
  }
}
