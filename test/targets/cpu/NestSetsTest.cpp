// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Selections of selections (select.union, select.expand), items that fit, proportional shares, and
// selections of channels in the nest emitter against plain loops.

#include "test/targets/cpu/NestCase.h"

#include "runtime/reference/Primitives.h"

#include <algorithm>
#include <cmath>
#include <set>

using namespace mlir::kvcache::cpu;
using namespace mlir::kvcache::cpu::test;

static const std::string scores = "!kvcache.tensor<head:2, token:?, f32>",
                         keep = "!kvcache.index<head:2, token.keep:? of token>";

/// Each position of [0, n) with some probability.
static std::vector<int32_t> someOf(int64_t n, double share, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> chosen;
  for (int32_t i = 0; i < n; ++i) {
    if (static_cast<double>(random()) < share * static_cast<double>(std::mt19937::max())) {
      chosen.push_back(i);
    }
  }
  return chosen;
}

/// Rows of two heads in one array of the given stride.
static std::vector<int32_t> stacked(const std::vector<std::vector<int32_t>> &rows, int64_t stride) {
  std::vector<int32_t> all(2 * stride, -9);
  for (size_t h = 0; h < rows.size(); ++h) {
    std::copy(rows[h].begin(), rows[h].end(), all.begin() + static_cast<int64_t>(h) * stride);
  }
  return all;
}

TEST(NestSets, UnionOfRaggedSelections) {
  std::string ev = "!kvcache.index<head:2, token.ev:? of token>",
              all = "!kvcache.index<head:2, token.all:? of token>";
  NestCase nest({keep, ev, scores}, {all},
                "%0 = kvcache.select.union %a0, %a1 of %a2 : (" + keep + ", " + ev + ", " + scores +
                    ") -> " + all + "\nkvcache.kernel.yield %0 : " + all,
                {{"token", raggedAxis()},
                 {"token.keep", raggedAxis("T", "keepLengths")},
                 {"token.ev", raggedAxis("T", "evLengths")}},
                {}, {{"token.all", raggedAxis("T", "allLengths")}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : {1, 17, 300}) {
    for (double share : {0.0, 0.3, 1.0}) {
      std::vector<std::vector<int32_t>> a{someOf(T, share, 1), someOf(T / 2, 0.5, 2)},
          b{someOf(T, 0.5, 3), someOf(T / 2, share, 4)};
      std::vector<int32_t> in0 = stacked(a, T), in1 = stacked(b, T), out(2 * T, -9), lengths(2),
                           keepLengths, evLengths, allLengths(2, -1);
      for (size_t h = 0; h < 2; ++h) {
        keepLengths.push_back(static_cast<int32_t>(a[h].size()));
        evLengths.push_back(static_cast<int32_t>(b[h].size()));
      }
      nest.run({{"in0", in0.data()},
                {"in1", in1.data()},
                {"in2", nullptr},
                {"lengths", lengths.data()},
                {"keepLengths", keepLengths.data()},
                {"evLengths", evLengths.data()},
                {"allLengths", allLengths.data()},
                {"out0", out.data()}},
               {{"T", T}}, [&] {
                 for (size_t h = 0; h < 2; ++h) {
                   std::set<int32_t> both(a[h].begin(), a[h].end());
                   both.insert(b[h].begin(), b[h].end());
                   auto row = out.begin() + static_cast<int64_t>(h) * T;
                   ASSERT_EQ(std::vector<int32_t>(row, row + allLengths[h]),
                             std::vector<int32_t>(both.begin(), both.end()));
                 }
               });
    }
  }
}

TEST(NestSets, UnionWithOneOfAllHeads) {
  std::string all = "!kvcache.index<token.all:? of token>";
  NestAxis shared;
  shared.capacity = NestExtent::inWord("T");
  shared.lengths = "sharedLength";
  std::string both = "!kvcache.index<head:2, token.both:? of token>";
  NestCase nest({all, keep, scores}, {both},
                "%0 = kvcache.select.union %a0, %a1 of %a2 : (" + all + ", " + keep + ", " +
                    scores + ") -> " + both + "\nkvcache.kernel.yield %0 : " + both,
                {{"token", raggedAxis()},
                 {"token.keep", raggedAxis("T", "keepLengths")},
                 {"token.all", shared}},
                {}, {{"token.both", raggedAxis("T", "bothLengths")}});
  ASSERT_TRUE(nest.compile());
  std::vector<int32_t> in0{0, 1}, in1 = stacked({{1, 4}, {2}}, 6), out(12), one{2}, two{2, 1},
                                  lengths{6, 6}, bothLengths(2);
  nest.run({{"in0", in0.data()},
            {"in1", in1.data()},
            {"in2", nullptr},
            {"lengths", lengths.data()},
            {"sharedLength", one.data()},
            {"keepLengths", two.data()},
            {"bothLengths", bothLengths.data()},
            {"out0", out.data()}},
           {{"T", 6}}, [&] {
             EXPECT_EQ(bothLengths, (std::vector<int32_t>{3, 3}));
             EXPECT_EQ(std::vector<int32_t>(out.begin(), out.begin() + 3),
                       (std::vector<int32_t>{0, 1, 4}));
             EXPECT_EQ(std::vector<int32_t>(out.begin() + 6, out.begin() + 9),
                       (std::vector<int32_t>{0, 1, 2}));
           });
}

TEST(NestSets, ExpandOfBlocks) {
  std::string pages = "!kvcache.index<head:2, page.keep:? of page>";
  NestCase nest({pages, "index", scores}, {keep},
                "%0 = kvcache.select.expand %a0 size %a1 of %a2 : (" + pages + ", index, " +
                    scores + ") -> " + keep + "\nkvcache.kernel.yield %0 : " + keep,
                {{"token", raggedAxis()}, {"page.keep", raggedAxis("P", "pageLengths")}}, {},
                {{"token.keep", raggedAxis("T", "keepLengths")}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : {1, 17, 300}) {
    for (int64_t n : {1, 16, 400}) {
      std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>((T + 1) / 2)},
          pageLengths, keepLengths(2), out(2 * T, -9);
      int64_t P = (T + n - 1) / n;
      std::vector<std::vector<int32_t>> chosen;
      for (int64_t h = 0; h < 2; ++h) {
        chosen.push_back(someOf((lengths[h] + n - 1) / n, 0.6, static_cast<uint32_t>(h) + 9));
        pageLengths.push_back(static_cast<int32_t>(chosen.back().size()));
      }
      std::vector<int32_t> in0 = stacked(chosen, P);
      nest.run({{"in0", in0.data()},
                {"in2", nullptr},
                {"lengths", lengths.data()},
                {"pageLengths", pageLengths.data()},
                {"keepLengths", keepLengths.data()},
                {"out0", out.data()}},
               {{"T", T}, {"P", P}, {"in1", n}}, [&] {
                 for (int64_t h = 0; h < 2; ++h) {
                   std::vector<int32_t> want;
                   for (int32_t t = 0; t < lengths[h]; ++t) {
                     if (std::count(chosen[h].begin(), chosen[h].end(), t / n) > 0) {
                       want.push_back(t);
                     }
                   }
                   auto row = out.begin() + h * T;
                   ASSERT_EQ(std::vector<int32_t>(row, row + keepLengths[h]), want)
                       << "T " << T << " n " << n << " head " << h;
                 }
               });
    }
  }
}

// ---- items that fit ----

TEST(NestSets, FitIsThatOfTheReference) {
  std::string n = "!kvcache.tensor<token:?, i32>", each = "!kvcache.tensor<head:2, i32>";
  NestCase nest({scores, n, each}, {keep},
                "%0 = kvcache.select.fit %a0 sizes %a1 total %a2 : (" + scores + ", " + n + ", " +
                    each + ") -> " + keep + "\nkvcache.kernel.yield %0 : " + keep,
                {{"token", wordAxis("T")}}, {}, {{"token.keep", raggedAxis("T", "keepLengths")}});
  ASSERT_TRUE(nest.compile());
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    int64_t T = 1 + static_cast<int64_t>(random() % 40);
    std::vector<float> x = randomFloats(2 * T, static_cast<uint32_t>(round));
    std::vector<int32_t> sizes, totals{static_cast<int32_t>(random() % 200), 9}, out(2 * T, -9),
        keepLengths(2, -1);
    for (float &score : x) { // every third round has few different scores, every fifth infinities
      score = round % 3 ? score : std::round(score);
      score = round % 5 == 0 && score < 0.0f ? -INFINITY : score;
    }
    for (int64_t i = 0; i < T; ++i) {
      sizes.push_back(static_cast<int32_t>(random() % 30) - 2);
    }
    ::kvcache::rt::reference::Tensor s({{"head", 2}, {"token", T}});
    s.values.assign(x.begin(), x.end());
    std::vector<int64_t> bothSizes(sizes.begin(), sizes.end());
    bothSizes.insert(bothSizes.end(), sizes.begin(), sizes.end());
    auto want = fit(s, "token", bothSizes, {totals[0], totals[1]}, "token.keep");
    ASSERT_TRUE(want.isOk());
    nest.run({{"in0", x.data()},
              {"in1", sizes.data()},
              {"in2", totals.data()},
              {"keepLengths", keepLengths.data()},
              {"out0", out.data()}},
             {{"T", T}}, [&] {
               for (int64_t h = 0; h < 2; ++h) {
                 int64_t stride = (*want).axes.back().extent;
                 auto from = (*want).values.begin() + h * stride;
                 auto row = out.begin() + h * T;
                 ASSERT_EQ(std::vector<int32_t>(row, row + keepLengths[h]),
                           std::vector<int32_t>(from, from + (*want).lengths[h]))
                     << "round " << round << " head " << h;
               }
             });
  }
}

TEST(NestSets, FitRefusesWhatIsNoScore) {
  std::string segments = "!kvcache.tensor<segment:?, f32>",
              chosen = "!kvcache.index<segment.keep:? of segment>";
  NestCase nest({segments, "index", "index"}, {chosen},
                "%0 = kvcache.select.fit %a0 sizes %a1 total %a2 : (" + segments +
                    ", index, index) -> " + chosen + "\nkvcache.kernel.yield %0 : " + chosen,
                {{"segment", wordAxis("S")}}, {}, {{"segment.keep", [] {
                                                      NestAxis axis = wordAxis("S");
                                                      axis.lengths = "length";
                                                      return axis;
                                                    }()}});
  ASSERT_TRUE(nest.compile());
  std::vector<float> x{1, 3, 2};
  std::vector<int32_t> out(3, -9), length(1, -1);
  auto run = [&](llvm::function_ref<void()> check, int32_t status = 0) {
    nest.run({{"in0", x.data()}, {"length", length.data()}, {"out0", out.data()}},
             {{"S", 3}, {"in1", 4}, {"in2", 9}}, check, status);
  };
  run([&] {
    EXPECT_EQ(length[0], 2);
    EXPECT_EQ(out[0], 1);
    EXPECT_EQ(out[1], 2);
  });
  x[1] = NAN;
  run([] {}, KVCACHE_KERNEL_NAN_SCORE);
}

// ---- proportional shares ----

/// Counts of 3 x 2 points as the reference has them.
static std::vector<int32_t> sharesOf(const std::vector<float> &weights, int64_t total,
                                     const std::vector<int64_t> &floors,
                                     const std::vector<int64_t> &caps) {
  ::kvcache::rt::reference::Tensor w({{"layer", 3}, {"head", 2}});
  w.values.assign(weights.begin(), weights.end());
  auto counts = proportionalCounts(w, total, floors, caps);
  EXPECT_TRUE(counts.isOk());
  return std::vector<int32_t>((*counts).values.begin(), (*counts).values.end());
}

TEST(NestSets, SharesAreThoseOfTheReference) {
  std::string w = "!kvcache.tensor<layer:3, head:2, f32>",
              c = "!kvcache.tensor<layer:3, head:2, i32>", h = "!kvcache.tensor<head:2, i32>";
  NestCase nest({w, "index", h, "index"}, {c},
                "%0 = kvcache.select.alloc proportional %a0 total %a1 floor %a2 cap %a3 : (" + w +
                    ", index, " + h + ", index) -> " + c + "\nkvcache.kernel.yield %0 : " + c);
  ASSERT_TRUE(nest.compile());
  std::mt19937 random(3);
  for (int round = 0; round < 60; ++round) {
    std::vector<float> weights = randomFloats(6, static_cast<uint32_t>(round));
    for (float &weight : weights) {
      // Every third round has few different weights, and zeros.
      weight = round % 3 ? std::exp(2 * weight) : std::max(0.0f, std::round(weight));
    }
    std::vector<int32_t> floors{static_cast<int32_t>(random() % 4),
                                static_cast<int32_t>(random() % 4)},
        out(6, -7);
    auto total = static_cast<int64_t>(random() % 100), cap = static_cast<int64_t>(random() % 30);
    std::vector<int32_t> want =
        sharesOf(weights, total, {floors[0], floors[1], floors[0], floors[1], floors[0], floors[1]},
                 std::vector<int64_t>(6, cap));
    nest.run({{"in0", weights.data()}, {"in2", floors.data()}, {"out0", out.data()}},
             {{"in1", total}, {"in3", cap}}, [&] { ASSERT_EQ(out, want) << "round " << round; });
  }
}

TEST(NestSets, SharesWithoutLimits) {
  std::string w = "!kvcache.tensor<head:4, f32>", c = "!kvcache.tensor<head:4, i32>";
  NestCase nest({w, "index"}, {c},
                "%0 = kvcache.select.alloc proportional %a0 total %a1 : (" + w + ", index) -> " +
                    c + "\nkvcache.kernel.yield %0 : " + c);
  ASSERT_TRUE(nest.compile());
  std::vector<float> weights{2, 5, 7, 6};
  std::vector<int32_t> out(4);
  auto run = [&](int64_t total, llvm::function_ref<void()> check, int32_t status = 0) {
    nest.run({{"in0", weights.data()}, {"out0", out.data()}}, {{"in1", total}}, check, status);
  };
  run(10, [&] { EXPECT_EQ(out, (std::vector<int32_t>{1, 3, 3, 3})); });
  run(0, [&] { EXPECT_EQ(out, (std::vector<int32_t>{0, 0, 0, 0})); });
  weights = {0, 0, 0, 0};
  run(9, [&] { EXPECT_EQ(out, (std::vector<int32_t>{3, 2, 2, 2})); });
  for (float bad : {-1.0f, NAN, INFINITY}) {
    weights[2] = bad;
    run(9, [] {}, KVCACHE_KERNEL_NAN_SCORE);
  }
}

// ---- channels ----

TEST(NestSets, ChannelsAreSelectedAndGathered) {
  std::string score = "!kvcache.tensor<head:2, channel.post:40, f32>",
              k = "!kvcache.tensor<head:2, token:?, channel.post:40, f32>",
              index = "!kvcache.index<head:2, channel.keep:17 of channel.post>",
              thin = "!kvcache.tensor<head:2, token:?, channel.keep:17, f32>";
  NestAxis chosen;
  chosen.lengths = "keepLengths";
  chosen.lengthAxes = {"head"};
  NestCase nest(
      {score, k}, {index, thin},
      "%n = arith.constant 17 : index\n%0 = kvcache.topk %a0 count %n along channel.post : (" +
          score + ", index) -> " + index + "\n%1 = kvcache.gather %a1 at %0 : (" + k + ", " +
          index + ") -> " + thin + "\nkvcache.kernel.yield %0, %1 : " + index + ", " + thin,
      {{"token", wordAxis("T")}}, {}, {{"channel.keep", chosen}});
  ASSERT_TRUE(nest.compile());
  int64_t T = 21;
  std::vector<float> s = randomFloats(80), x = randomFloats(2 * T * 40, 5), out(2 * T * 17);
  std::vector<int32_t> at(34), keepLengths(2);
  nest.run({{"in0", s.data()},
            {"in1", x.data()},
            {"keepLengths", keepLengths.data()},
            {"out0", at.data()},
            {"out1", out.data()}},
           {{"T", T}}, [&] {
             for (int64_t h = 0; h < 2; ++h) {
               std::vector<float> sorted(s.begin() + h * 40, s.begin() + h * 40 + 40);
               std::sort(sorted.begin(), sorted.end(), std::greater<>());
               std::vector<int32_t> want;
               for (int32_t c = 0; c < 40; ++c) {
                 if (s[h * 40 + c] >= sorted[16]) {
                   want.push_back(c);
                 }
               }
               ASSERT_EQ(keepLengths[h], 17);
               ASSERT_EQ(std::vector<int32_t>(at.begin() + h * 17, at.begin() + h * 17 + 17), want);
               for (int64_t i = 0; i < T * 17; ++i) {
                 ASSERT_EQ(out[h * T * 17 + i], x[(h * T + i / 17) * 40 + want[i % 17]]);
               }
             }
           });
}

TEST(NestSets, AFixedSelectionHasItsOwnCount) {
  std::string score = "!kvcache.tensor<head:2, channel.post:40, f32>",
              index = "!kvcache.index<head:2, channel.keep:17 of channel.post>";
  NestAxis chosen;
  chosen.lengths = "keepLengths";
  chosen.lengthAxes = {"head"};
  NestCase nest(
      {score}, {index},
      "%n = arith.constant 18 : index\n%0 = kvcache.topk %a0 count %n along channel.post : "
      "(" +
          score + ", index) -> " + index + "\nkvcache.kernel.yield %0 : " + index,
      {}, {}, {{"channel.keep", chosen}});
  std::string message;
  mlir::ScopedDiagnosticHandler collect(nest.context(), [&](mlir::Diagnostic &diagnostic) {
    message += diagnostic.str();
    return mlir::success();
  });
  mlir::OwningOpRef<mlir::ModuleOp> module =
      mlir::ModuleOp::create(mlir::UnknownLoc::get(nest.context()));
  EXPECT_TRUE(mlir::failed(emitNest(*module, nest.spec())));
  EXPECT_NE(message.find("expected the count 17 of the type"), std::string::npos) << message;
}
