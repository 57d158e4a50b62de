// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Selections of the nest emitter (topk, select.where, select.complement, select.alloc, quantile)
// and scalar kernels against sorting, on ragged heads, with ties and values that are not numbers.

#include "test/targets/cpu/NestCase.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace mlir::kvcache::cpu;
using namespace mlir::kvcache::cpu::test;

static const std::string scores = "!kvcache.tensor<head:2, token:?, f32>",
                         keep = "!kvcache.index<head:2, token.keep:? of token>";

static NestAxis keepAxis(std::string lengths = "keepLengths") {
  return raggedAxis("K", std::move(lengths));
}

/// Positions of the n largest of s[0 .. rows), ties to the lowest, ascending.
static std::vector<int32_t> best(const float *s, int64_t rows, int64_t n) {
  std::vector<int32_t> order(rows);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return s[a] > s[b]; });
  order.resize(std::max<int64_t>(std::min(n, rows), 0));
  std::sort(order.begin(), order.end());
  return order;
}

/// Scores with many ties, both zeros and infinities.
static std::vector<float> tiedScores(int64_t n) {
  std::vector<float> s = randomFloats(n);
  for (float &value : s) {
    value = std::round(value * 4) / 4;
  }
  for (int64_t i = 5; i < n; i += 11) {
    s[i] = i % 2 ? -0.0f : 0.0f;
  }
  for (int64_t i = 3; i < n; i += 29) {
    s[i] = i % 2 ? INFINITY : -INFINITY;
  }
  return s;
}

TEST(NestSelect, TopkOfOneCount) {
  NestCase nest({scores, "index"}, {keep},
                "%0 = kvcache.topk %a0 count %a1 along token : (" + scores + ", index) -> " + keep +
                    "\nkvcache.kernel.yield %0 : " + keep,
                {{"token", raggedAxis()}}, {}, {{"token.keep", keepAxis()}});
  ASSERT_TRUE(nest.compile());
  EXPECT_EQ(nest.result.kernel.grid, std::vector<std::string>{"2"});
  for (int64_t T : {1, 15, 17, 1000}) {
    for (int64_t n : {int64_t(0), int64_t(1), T / 2, T, T + 5}) {
      int64_t K = std::max<int64_t>(std::min(n, T), 1);
      std::vector<float> s = tiedScores(2 * T);
      std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>((T + 2) / 3)},
          keepLengths(2, -1), out(2 * K, -7);
      nest.run({{"in0", s.data()},
                {"lengths", lengths.data()},
                {"keepLengths", keepLengths.data()},
                {"out0", out.data()}},
               {{"T", T}, {"K", K}, {"in1", n}}, [&] {
                 for (int64_t h = 0; h < 2; ++h) {
                   std::vector<int32_t> expected = best(s.data() + h * T, lengths[h], n);
                   ASSERT_EQ(keepLengths[h], static_cast<int32_t>(expected.size()));
                   ASSERT_EQ(std::vector<int32_t>(out.begin() + h * K,
                                                  out.begin() + h * K + keepLengths[h]),
                             expected)
                       << "T " << T << " n " << n << " head " << h;
                   if (keepLengths[h] < K) {
                     ASSERT_EQ(out[h * K + keepLengths[h]], -7) << "wrote behind the row";
                   }
                 }
               });
    }
  }
}

TEST(NestSelect, TopkOfACountPerHeadOnComputedScores) {
  std::string counts = "!kvcache.tensor<head:2, i32>";
  NestCase nest({scores, counts}, {scores, keep},
                "%0 = kvcache.map \"-x\" (x = %a0) : (" + scores + ") -> " + scores +
                    "\n%1 = kvcache.topk %0 count %a1 along token : (" + scores + ", " + counts +
                    ") -> " + keep + "\nkvcache.kernel.yield %0, %1 : " + scores + ", " + keep,
                {{"token", raggedAxis()}}, {}, {{"token.keep", keepAxis()}});
  ASSERT_TRUE(nest.compile());
  int64_t T = 333, K = 200;
  std::vector<float> s = tiedScores(2 * T), negated(2 * T);
  std::vector<int32_t> lengths{333, 150}, count{100, 200}, keepLengths(2), out(2 * K);
  nest.run({{"in0", s.data()},
            {"in1", count.data()},
            {"lengths", lengths.data()},
            {"keepLengths", keepLengths.data()},
            {"out0", negated.data()},
            {"out1", out.data()}},
           {{"T", T}, {"K", K}}, [&] {
             for (int64_t h = 0; h < 2; ++h) {
               std::vector<int32_t> expected = best(negated.data() + h * T, lengths[h], count[h]);
               EXPECT_EQ(negated[h * T], -s[h * T]);
               EXPECT_EQ(
                   std::vector<int32_t>(out.begin() + h * K, out.begin() + h * K + keepLengths[h]),
                   expected);
             }
           });
}

TEST(NestSelect, NanIsAStatus) {
  NestCase nest({scores, "index"}, {keep},
                "%0 = kvcache.topk %a0 count %a1 along token : (" + scores + ", index) -> " + keep +
                    "\nkvcache.kernel.yield %0 : " + keep,
                {{"token", raggedAxis()}}, {}, {{"token.keep", keepAxis()}});
  ASSERT_TRUE(nest.compile());
  int64_t T = 40, K = 4;
  std::vector<int32_t> lengths{40, 20}, keepLengths(2), out(2 * K);
  std::vector<float> s(2 * T, 1.0f);
  s[T + 25] = NAN; // behind the rows of its head
  std::map<std::string, void *> buffers{{"in0", s.data()},
                                        {"lengths", lengths.data()},
                                        {"keepLengths", keepLengths.data()},
                                        {"out0", out.data()}};
  nest.run(buffers, {{"T", T}, {"K", K}, {"in1", 4}}, [] {});
  s[T + 19] = NAN;
  nest.run(buffers, {{"T", T}, {"K", K}, {"in1", 4}}, [] {}, KVCACHE_KERNEL_NAN_SCORE);
}

TEST(NestSelect, WhereAndComplement) {
  std::string drop = "!kvcache.index<head:2, token.ev:? of token>";
  NestCase nest({scores, "f32"}, {keep, drop},
                "%0 = kvcache.select.where \"s >= t\" (s = %a0, t = %a1) along token : (" + scores +
                    ", f32) -> " + keep + "\n%1 = kvcache.select.complement %0 of %a0 : (" + keep +
                    ", " + scores + ") -> " + drop + "\nkvcache.kernel.yield %0, %1 : " + keep +
                    ", " + drop,
                {{"token", raggedAxis()}}, {},
                {{"token.keep", keepAxis()}, {"token.ev", keepAxis("dropLengths")}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : {1, 15, 17, 1000}) {
    std::vector<float> s = randomFloats(2 * T);
    float threshold = 0.25f;
    int64_t word = 0;
    std::memcpy(&word, &threshold, 4);
    std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>(T / 2)}, kept(2),
        dropped(2), out(2 * T), rest(2 * T);
    nest.run({{"in0", s.data()},
              {"lengths", lengths.data()},
              {"keepLengths", kept.data()},
              {"dropLengths", dropped.data()},
              {"out0", out.data()},
              {"out1", rest.data()}},
             {{"T", T}, {"K", T}, {"in1", word}}, [&] {
               for (int64_t h = 0; h < 2; ++h) {
                 std::vector<int32_t> expected[2];
                 for (int32_t t = 0; t < lengths[h]; ++t) {
                   expected[s[h * T + t] >= threshold ? 0 : 1].push_back(t);
                 }
                 ASSERT_EQ(std::vector<int32_t>(out.begin() + h * T, out.begin() + h * T + kept[h]),
                           expected[0]);
                 ASSERT_EQ(
                     std::vector<int32_t>(rest.begin() + h * T, rest.begin() + h * T + dropped[h]),
                     expected[1]);
               }
             });
  }
}

TEST(NestSelect, AllocOverAllHeads) {
  std::string counts = "!kvcache.tensor<head:2, i32>";
  NestCase nest({scores, "index"}, {counts},
                "%0 = kvcache.select.alloc global_topk %a0 total %a1 : (" + scores +
                    ", index) -> " + counts + "\nkvcache.kernel.yield %0 : " + counts,
                {{"token", raggedAxis()}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : {1, 17, 1000}) {
    for (int64_t total : {int64_t(0), int64_t(1), T, 3 * T}) {
      std::vector<float> s = tiedScores(2 * T);
      std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>((T + 1) / 2)},
          out(2);
      std::vector<float> flat(s.begin(), s.begin() + lengths[0]);
      flat.insert(flat.end(), s.begin() + T, s.begin() + T + lengths[1]);
      int32_t expected[2] = {0, 0};
      for (int32_t i : best(flat.data(), static_cast<int64_t>(flat.size()), total)) {
        ++expected[i >= lengths[0]];
      }
      nest.run({{"in0", s.data()}, {"lengths", lengths.data()}, {"out0", out.data()}},
               {{"T", T}, {"in1", total}}, [&] {
                 EXPECT_EQ(out[0], expected[0]) << "T " << T << " total " << total;
                 EXPECT_EQ(out[1], expected[1]);
               });
    }
  }
}

TEST(NestSelect, AllocOverPrefixesOfLayers) {
  std::string stacked = "!kvcache.tensor<layer:3, head:2, token:?, f32>",
              each = "!kvcache.tensor<layer.seen:4, i32>",
              counts = "!kvcache.tensor<layer:3, head:2, layer.seen:4, i32>";
  NestAxis token;
  token.capacity = NestExtent::inWord("T");
  NestCase nest({stacked, each, each}, {counts},
                "%0 = kvcache.select.alloc global_topk %a0 total %a1 upto %a2 along layer : (" +
                    stacked + ", " + each + ", " + each + ") -> " + counts +
                    "\nkvcache.kernel.yield %0 : " + counts,
                {{"token", token}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : {1, 17, 200}) {
    std::vector<float> s = tiedScores(6 * T);
    int32_t n = static_cast<int32_t>(T);
    std::vector<int32_t> totals{n, 2 * n + 1, 99 * n, -3}, upto{1, 3, 2, 9}, out(24, -7);
    nest.run(
        {{"in0", s.data()}, {"in1", totals.data()}, {"in2", upto.data()}, {"out0", out.data()}},
        {{"T", T}}, [&] {
          for (int64_t split = 0; split < 4; ++split) {
            std::vector<int32_t> expected(6, 0);
            int64_t rows = 2 * T * std::min(upto[split], 3);
            for (int32_t i : best(s.data(), rows, totals[split])) {
              ++expected[i / T];
            }
            for (int64_t point = 0; point < 6; ++point) {
              EXPECT_EQ(out[point * 4 + split], expected[point])
                  << "T " << T << " split " << split << " point " << point;
            }
          }
        });
  }
}

TEST(NestSelect, AllocUpToOneNumberOfHeads) {
  std::string counts = "!kvcache.tensor<head:2, i32>";
  NestCase nest({scores, "index", "index"}, {counts},
                "%0 = kvcache.select.alloc global_topk %a0 total %a1 upto %a2 along head : (" +
                    scores + ", index, index) -> " + counts +
                    "\nkvcache.kernel.yield %0 : " + counts,
                {{"token", raggedAxis()}});
  ASSERT_TRUE(nest.compile());
  std::vector<float> s = tiedScores(40);
  std::vector<int32_t> lengths{20, 9}, out(2, -7);
  for (int64_t upto : {0, 1}) {
    nest.run({{"in0", s.data()}, {"lengths", lengths.data()}, {"out0", out.data()}},
             {{"T", 20}, {"in1", 13}, {"in2", upto}}, [&] {
               EXPECT_EQ(out[0], upto ? 13 : 0);
               EXPECT_EQ(out[1], 0);
             });
  }
}

TEST(NestSelect, Quantile) {
  std::string H = "!kvcache.tensor<head:2, f32>";
  NestCase nest({scores, "f32"}, {H},
                "%0 = kvcache.reduce quantile %a0 over [token] at %a1 : (" + scores + ", f32) -> " +
                    H + "\nkvcache.kernel.yield %0 : " + H,
                {{"token", raggedAxis()}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : {1, 2, 17, 1000}) {
    for (float q : {0.0f, 0.25f, 0.9f, 1.0f}) {
      std::vector<float> s = randomFloats(2 * T), out(2);
      for (int64_t i = 0; i < 2 * T; i += 3) {
        s[i] = 0.5f;
      }
      int64_t word = 0;
      std::memcpy(&word, &q, 4);
      std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>(T / 2)};
      nest.run({{"in0", s.data()}, {"lengths", lengths.data()}, {"out0", out.data()}},
               {{"T", T}, {"in1", word}}, [&] {
                 for (int64_t h = 0; h < 2; ++h) {
                   std::vector<float> sorted(s.begin() + h * T, s.begin() + h * T + lengths[h]);
                   std::sort(sorted.begin(), sorted.end());
                   double position = q * (static_cast<double>(sorted.size()) - 1),
                          expected = INFINITY;
                   if (!sorted.empty()) {
                     auto low = static_cast<size_t>(position);
                     double next = low + 1 < sorted.size() ? sorted[low + 1] : sorted[low];
                     expected =
                         sorted[low] + (position - static_cast<double>(low)) * (next - sorted[low]);
                   }
                   ASSERT_TRUE(std::abs(out[h] - expected) < 1e-5 || out[h] == expected)
                       << "T " << T << " q " << q;
                 }
               });
    }
  }
}

TEST(NestSelect, ForcedKeysAndTopkInOneKernel) {
  // Rows of a head are counted once, before the loop over its keys.
  std::string h = "!kvcache.tensor<head:2, f32>", at = "!kvcache.tensor<token:?, i32>";
  NestCase nest(
      {scores, "index"}, {keep},
      R"mlir(%one = kvcache.map %a0 : (!s) -> !s { ^bb0(%x: f32): %c = arith.constant 1.0 : f32 kvcache.yield %c : f32 }
                   %rows = kvcache.reduce sum %one over [token] : (!s) -> !h
                   %i = kvcache.iota token of %a0 : (!s) -> !at
                   %keys = kvcache.map "select(i < 2 | i >= n - 3, inf, s)" (i = %i, n = %rows, s = %a0) : (!at, !h, !s) -> !s
                   %0 = kvcache.topk %keys count %a1 along token : (!s, index) -> !keep
                   kvcache.kernel.yield %0 : !keep)mlir",
      {{"token", raggedAxis()}}, {}, {{"token.keep", keepAxis()}},
      "!s = " + scores + "\n!h = " + h + "\n!at = " + at + "\n!keep = " + keep + "\n");
  ASSERT_TRUE(nest.compile());
  int64_t T = 1000, K = 100;
  std::vector<float> s = randomFloats(2 * T);
  std::vector<int32_t> lengths{1000, 444}, keepLengths(2), out(2 * K);
  std::vector<float> forced = s;
  for (int64_t head = 0; head < 2; ++head) {
    for (int64_t t : {0, 1, lengths[head] - 3, lengths[head] - 2, lengths[head] - 1}) {
      forced[head * T + t] = INFINITY;
    }
  }
  nest.run({{"in0", s.data()},
            {"lengths", lengths.data()},
            {"keepLengths", keepLengths.data()},
            {"out0", out.data()}},
           {{"T", T}, {"K", K}, {"in1", K}}, [&] {
             for (int64_t head = 0; head < 2; ++head) {
               EXPECT_EQ(std::vector<int32_t>(out.begin() + head * K, out.begin() + (head + 1) * K),
                         best(forced.data() + head * T, lengths[head], K));
             }
           });
}

TEST(NestSelect, OneListForAllHeads) {
  std::string S = "!kvcache.tensor<token:?, f32>", I = "!kvcache.index<token.keep:? of token>";
  NestAxis one;
  one.capacity = NestExtent::inWord("K");
  one.lengths = "keepLengths";
  NestCase nest({scores, "index"}, {I},
                "%0 = kvcache.reduce mean %a0 over [head] : (" + scores + ") -> " + S +
                    "\n%1 = kvcache.topk %0 count %a1 along token : (" + S + ", index) -> " + I +
                    "\nkvcache.kernel.yield %1 : " + I,
                {{"token", raggedAxis()}}, {}, {{"token.keep", one}});
  ASSERT_TRUE(nest.compile());
  int64_t T = 777, K = 50;
  std::vector<float> s = randomFloats(2 * T), mean(T);
  std::vector<int32_t> lengths{700, 700}, keepLengths(1), out(K);
  for (int64_t t = 0; t < T; ++t) {
    mean[t] = (s[t] + s[T + t]) / 2;
  }
  nest.run({{"in0", s.data()},
            {"lengths", lengths.data()},
            {"keepLengths", keepLengths.data()},
            {"out0", out.data()}},
           {{"T", T}, {"K", K}, {"in1", K}}, [&] { EXPECT_EQ(out, best(mean.data(), 700, K)); });
}

TEST(NestSelect, ScalarsReadAndWriteWords) {
  NestCase nest({"index", "f32"}, {"index", "f32", "i1"},
                R"(%two = arith.constant 2 : index
                   %0 = arith.divui %a0, %two : index
                   %n = arith.index_cast %0 : index to i64
                   %f = arith.sitofp %n : i64 to f32
                   %1 = arith.mulf %f, %a1 : f32
                   %2 = arith.cmpi ult, %0, %two : index
                   kvcache.kernel.yield %0, %1, %2 : index, f32, i1)");
  for (Isa isa : runnableIsas()) {
    mlir::OwningOpRef<mlir::ModuleOp> module =
        mlir::ModuleOp::create(mlir::UnknownLoc::get(nest.context()));
    auto emitted = emitScalars(*module, nest.spec());
    ASSERT_TRUE(mlir::succeeded(emitted));
    EXPECT_EQ(emitted->kernel.words,
              (std::vector<std::string>{"in0", "in1", "out0", "out1", "out2"}));
    CompiledKernels compiled(*module, isa);
    int64_t words[5] = {7, 0, -1, -1, -1};
    float factor = 1.5f, product;
    std::memcpy(&words[1], &factor, 4);
    compiled.run("kernel", 1, {words});
    std::memcpy(&product, &words[3], 4);
    EXPECT_EQ(words[2], 3);
    EXPECT_EQ(product, 4.5f);
    EXPECT_EQ(words[4], 0);
  }
}

TEST(NestSelect, RefusesWithoutLeavingAFunction) {
  NestCase nest({scores}, {scores},
                "%0 = \"test.unknown\"(%a0) : (" + scores + ") -> " + scores +
                    "\nkvcache.kernel.yield %0 : " + scores,
                {{"token", raggedAxis()}});
  mlir::OwningOpRef<mlir::ModuleOp> module =
      mlir::ModuleOp::create(mlir::UnknownLoc::get(nest.context()));
  std::string message;
  mlir::ScopedDiagnosticHandler handler(nest.context(), [&](mlir::Diagnostic &diagnostic) {
    message += diagnostic.str();
    return mlir::success();
  });
  EXPECT_TRUE(mlir::failed(emitNest(*module, nest.spec())));
  EXPECT_NE(message.find("'test.unknown'"), std::string::npos) << message;
  EXPECT_TRUE(module->getBody()->empty());
}
