// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel builder's idioms and the pipeline: numbers of compiled kernels against plain C++, on
// every instruction set this machine runs, and the instructions a few idioms must become.

#include "targets/cpu/KernelBuilder.h"
#include "test/targets/cpu/CompiledKernels.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <cmath>
#include <cstring>
#include <random>

using namespace mlir;
using namespace mlir::kvcache::cpu;
using mlir::kvcache::cpu::test::CompiledKernels;
using mlir::kvcache::cpu::test::KernelModule;
using Elem = ::kvcache::abi::ElementType;

class CpuPipelineTest : public testing::TestWithParam<Isa> {
protected:
  void SetUp() override {
    if (!mlir::kvcache::cpu::test::canRun(GetParam())) {
      GTEST_SKIP() << "this machine does not run " << nameOf(GetParam()).str();
    }
  }
};

/// out[head] = sum of x[head, :] in the fixed order; n = scalars[0].
static void emitRowSum(ModuleOp module) {
  KernelBuilder k(module, "row_sum",
                  {KernelArg::buffer("x", Elem::F32), KernelArg::buffer("out", Elem::F32),
                   KernelArg::scalars("s")});
  Value n = k.scalarIndex(k.arg("s"), 0);
  Value base = k.mul(k.task(), n);
  Value sum =
      k.forVectors(n, ValueRange{k.splatF32(0)}, [&](Value start, Value mask, ValueRange carried) {
        return SmallVector<Value>{
            k.add(carried[0], k.loadF32(k.arg("x"), k.add(base, start), mask))};
      })[0];
  k.store(k.reduceAdd(sum), k.arg("out"), k.task());
  k.finish();
}

static void emitExp(ModuleOp module) {
  KernelBuilder k(module, "exp",
                  {KernelArg::buffer("x", Elem::F32), KernelArg::buffer("all", Elem::F32),
                   KernelArg::buffer("negative", Elem::F32), KernelArg::scalars("s")});
  k.forVectors(k.scalarIndex(k.arg("s"), 0), [&](Value start, Value mask) {
    Value x = k.loadF32(k.arg("x"), start, mask);
    k.storeF32(k.exp(x), k.arg("all"), start, mask);
    k.storeF32(k.expNonPositive(x), k.arg("negative"), start, mask);
  });
  k.finish();
}

static void emitConvert(ModuleOp module, const char *name, Elem from, Elem to) {
  KernelBuilder k(
      module, name,
      {KernelArg::buffer("x", from), KernelArg::buffer("y", to), KernelArg::scalars("s")});
  k.forVectors(k.scalarIndex(k.arg("s"), 0), [&](Value start, Value mask) {
    k.storeF32(k.loadF32(k.arg("x"), start, mask), k.arg("y"), start, mask);
  });
  k.finish();
}

/// Reads f32 at any byte offset of a store's arena: out[i] = arena[view[0] + 4 i].
static void emitBytes(ModuleOp module) {
  KernelBuilder k(module, "bytes", {KernelArg::store("kv"), KernelArg::buffer("out", Elem::F32)});
  Value offset = k.toIndex(k.load(k.view("kv"), k.index(0)));
  k.storeF32(k.loadBytesAs(k.arena("kv"), offset, k.vec(k.f32Type())), k.arg("out"), k.index(0));
  k.finish();
}

static void emitRows(ModuleOp module) {
  KernelBuilder k(module, "rows",
                  {KernelArg::buffer("x", Elem::F32), KernelArg::buffer("out", Elem::F32),
                   KernelArg::buffer("each", Elem::F32)});
  SmallVector<Value> rows;
  for (int64_t row = 0; row < lanes; ++row) {
    rows.push_back(k.loadF32(k.arg("x"), k.index(row * lanes)));
    k.store(k.reduceAdd(rows.back()), k.arg("each"), k.index(row));
  }
  k.storeF32(k.reduceAddRows(rows), k.arg("out"), k.index(0));
  k.finish();
}

static std::vector<float> randomFloats(int64_t n, float scale) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(n);
  for (float &value : values) {
    value = normal(random);
  }
  return values;
}

TEST_P(CpuPipelineTest, RowSumKeepsItsOrder) {
  KernelModule kernels;
  emitRowSum(*kernels.module);
  CompiledKernels compiled(*kernels.module, GetParam());
  for (int64_t n : {1, 15, 16, 17, 1000}) {
    std::vector<float> x = randomFloats(3 * n, 1.0f), out(3);
    compiled.run("row_sum", 3, {x.data(), out.data(), &n});
    for (int64_t head = 0; head < 3; ++head) {
      float lane[16] = {};
      for (int64_t i = 0; i < n; ++i) {
        lane[i % 16] += x[head * n + i];
      }
      for (int half = 8; half >= 1; half /= 2) {
        for (int l = 0; l < half; ++l) {
          lane[l] += lane[l + half];
        }
      }
      EXPECT_EQ(out[head], lane[0]) << "n = " << n;
    }
  }
}

TEST_P(CpuPipelineTest, ExpIsCloseEverywhere) {
  KernelModule kernels;
  emitExp(*kernels.module);
  CompiledKernels compiled(*kernels.module, GetParam());
  std::vector<float> x;
  for (float value = -87.3f; value < 88.7f; value += 0.00317f) {
    x.push_back(value);
  }
  const float inf = std::numeric_limits<float>::infinity();
  x.insert(x.end(), {0.0f, -0.0f, -inf, inf, -1000.0f, 1000.0f, NAN, 88.72283f});
  int64_t n = static_cast<int64_t>(x.size());
  std::vector<float> all(n), negative(n);
  compiled.run("exp", 1, {x.data(), all.data(), negative.data(), &n});
  for (int64_t i = 0; i < n; ++i) {
    double expected = std::exp(static_cast<double>(x[i]));
    if (std::isnan(x[i])) {
      EXPECT_TRUE(std::isnan(all[i]) && std::isnan(negative[i]));
    } else if (std::isinf(expected) || expected > std::numeric_limits<float>::max()) {
      EXPECT_EQ(all[i], inf) << x[i];
    } else {
      EXPECT_NEAR(all[i], expected, 1.5e-7 * expected + 1e-38) << x[i];
    }
    if (x[i] <= 0) {
      EXPECT_NEAR(negative[i], expected, 1.5e-7 * expected + 1e-38) << x[i];
    }
  }
}

TEST_P(CpuPipelineTest, HalfPrecisionRoundsToEven) {
  KernelModule kernels;
  emitConvert(*kernels.module, "f32_to_f16", Elem::F32, Elem::F16);
  emitConvert(*kernels.module, "f16_to_f32", Elem::F16, Elem::F32);
  emitConvert(*kernels.module, "f32_to_bf16", Elem::F32, Elem::BF16);
  emitConvert(*kernels.module, "bf16_to_f32", Elem::BF16, Elem::F32);
  CompiledKernels compiled(*kernels.module, GetParam());
  std::vector<float> x = randomFloats(37, 3.0f);
  x[3] = 1.0f + 1.0f / 2048; // half way between two f16: to even
  x[4] = INFINITY;
  x[5] = 65519.0f;
  int64_t n = static_cast<int64_t>(x.size());
  std::vector<uint16_t> half(n), brain(n);
  std::vector<float> fromHalf(n), fromBrain(n);
  compiled.run("f32_to_f16", 1, {x.data(), half.data(), &n});
  compiled.run("f16_to_f32", 1, {half.data(), fromHalf.data(), &n});
  compiled.run("f32_to_bf16", 1, {x.data(), brain.data(), &n});
  compiled.run("bf16_to_f32", 1, {brain.data(), fromBrain.data(), &n});
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_EQ(fromHalf[i], static_cast<float>(static_cast<_Float16>(x[i]))) << x[i];
    uint32_t bits, expected;
    std::memcpy(&bits, &x[i], 4);
    expected = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
    std::memcpy(&bits, &fromBrain[i], 4);
    EXPECT_EQ(bits, expected) << x[i];
  }
}

TEST_P(CpuPipelineTest, BytesAtAnyAddress) {
  KernelModule kernels;
  emitBytes(*kernels.module);
  CompiledKernels compiled(*kernels.module, GetParam(), /*wantAssembly=*/true);
  std::vector<float> x = randomFloats(16, 1.0f), out(16);
  for (int64_t offset : {0, 1, 6}) {
    std::vector<char> arena(offset + 64);
    std::memcpy(arena.data() + offset, x.data(), 64);
    compiled.run("bytes", 1, {arena.data(), &offset, out.data()});
    EXPECT_EQ(out, x);
  }
  size_t loads = 0;
  for (size_t at = compiled.code.assembly.find("vmovups"); at != std::string::npos;
       at = compiled.code.assembly.find("vmovups", at + 1)) {
    ++loads;
  }
  EXPECT_EQ(loads, GetParam() == Isa::V4 ? 2u : 4u) << compiled.code.assembly;
}

TEST_P(CpuPipelineTest, SixteenSumsAtOnceKeepTheOrder) {
  KernelModule kernels;
  emitRows(*kernels.module);
  CompiledKernels compiled(*kernels.module, GetParam());
  std::vector<float> x = randomFloats(256, 1.0f), out(16), each(16);
  compiled.run("rows", 1, {x.data(), out.data(), each.data()});
  EXPECT_EQ(out, each);
}

TEST_P(CpuPipelineTest, WidensInOneInstruction) {
  KernelModule kernels;
  emitConvert(*kernels.module, "f16_to_f32", Elem::F16, Elem::F32);
  CompiledKernels compiled(*kernels.module, GetParam(), /*wantAssembly=*/true);
  EXPECT_NE(compiled.code.assembly.find(GetParam() == Isa::V4 ? "vcvtph2ps\t(%" : "vcvtph2ps"),
            std::string::npos)
      << compiled.code.assembly;
  EXPECT_TRUE(compiled.code.undefined.empty());
}

TEST(CpuPipeline, RefusesUnknownSymbols) {
  KernelModule kernels;
  KernelBuilder k(*kernels.module, "calls", {});
  auto type = k.builder().getFunctionType({}, {});
  {
    OpBuilder::InsertionGuard guard(k.builder());
    k.builder().setInsertionPointToEnd(kernels.module->getBody());
    func::FuncOp::create(k.builder(), k.loc(), "puts", type).setPrivate();
  }
  func::CallOp::create(k.builder(), k.loc(), "puts", TypeRange{}, ValueRange{});
  k.finish();
  std::string message;
  ScopedDiagnosticHandler handler(&kernels.context, [&](Diagnostic &diagnostic) {
    message += diagnostic.str();
    return success();
  });
  EXPECT_TRUE(failed(compileKernels(*kernels.module, {})));
  EXPECT_NE(message.find("'puts'"), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(Isas, CpuPipelineTest, testing::Values(Isa::V3, Isa::V4),
                         [](const auto &info) { return info.param == Isa::V3 ? "v3" : "v4"; });
