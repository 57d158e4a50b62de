// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// select.union, select.expand, select.fit, select.alloc proportional, selections of channels:
// constants in, expected rows and counts out.

#include "test/reference/OpFixture.h"

namespace mlir::kvcache::reference {
namespace {

const std::string s = "!kvcache.tensor<head:2, token:?, f32>";
const std::string keep = "!kvcache.index<head:2, token.keep:? of token>";
const std::string ev = "!kvcache.index<head:2, token.ev:? of token>";
const std::string all = "!kvcache.index<token.all:? of token>";
const std::string pages = "!kvcache.index<head:2, page.keep:? of page>";
using Rows = std::vector<std::vector<int64_t>>;

/// Two heads of 5 and 3 tokens.
Tensor twoHeads() { return raggedOf(Tensor({{"head", 2}, {"token", 5}}), "token", {5, 3}); }
Tensor kept(const std::string &instance, std::vector<double> rows, std::vector<int64_t> lengths) {
  auto each = static_cast<int64_t>(rows.size()) / 2;
  return raggedOf(tensorOf({{"head", 2}, {instance, each}}, std::move(rows)), instance,
                  std::move(lengths));
}

TEST_F(ReferenceTest, UnionNamesEachOnce) {
  Tensor r = tensorFrom({{keep, valueOf(kept("token.keep", {0, 2, 4, 1, 9, 9}, {3, 1}))},
                         {ev, valueOf(kept("token.ev", {2, 3, 9, 9}, {2, 0}))},
                         {s, valueOf(twoHeads())}},
                        "%r = kvcache.select.union %a, %b of %c : (" + keep + ", " + ev + ", " + s +
                            ") -> " + keep,
                        keep);
  EXPECT_EQ(rowsOf(r), (Rows{{0, 2, 3, 4}, {1}}));
}

TEST_F(ReferenceTest, UnionWithTheSameOfAllHeads) {
  Tensor shared = raggedOf(tensorOf({{"token.all", 2}}, {0, 1}), "token.all", {2});
  Tensor r = tensorFrom({{all, valueOf(shared)},
                         {ev, valueOf(kept("token.ev", {1, 4, 2, 9}, {2, 1}))},
                         {s, valueOf(twoHeads())}},
                        "%r = kvcache.select.union %a, %b of %c : (" + all + ", " + ev + ", " + s +
                            ") -> " + keep,
                        keep);
  EXPECT_EQ(rowsOf(r), (Rows{{0, 1, 4}, {0, 1, 2}}));
}

TEST_F(ReferenceTest, ExpandCutsTheLastBlock) {
  Tensor r = tensorFrom(
      {{pages, valueOf(kept("page.keep", {0, 2, 1, 9}, {2, 1}))}, {s, valueOf(twoHeads())}},
      "%n = arith.constant 2 : index\n%r = kvcache.select.expand %a size %n of "
      "%b : (" +
          pages + ", index, " + s + ") -> " + keep,
      keep);
  EXPECT_EQ(rowsOf(r), (Rows{{0, 1, 4}, {2}}));
}

TEST_F(ReferenceTest, ExpandOfNothing) {
  Tensor r =
      tensorFrom({{pages, valueOf(kept("page.keep", {9, 9}, {0, 0}))}, {s, valueOf(twoHeads())}},
                 "%n = arith.constant 2 : index\n%r = kvcache.select.expand %a size %n of "
                 "%b : (" +
                     pages + ", index, " + s + ") -> " + keep,
                 keep);
  EXPECT_EQ(rowsOf(r), (Rows{{}, {}}));
}

// ---- items that fit ----

class FitTest : public ReferenceTest {
protected:
  const std::string n = "!kvcache.tensor<token:?, i32>", t = "!kvcache.tensor<head:2, i32>";

  /// Five items of two heads with the same sizes.
  std::vector<Input> items(std::vector<double> scores, std::vector<double> sizes,
                           std::vector<double> totals) {
    return {{s, valueOf(tensorOf({{"head", 2}, {"token", 5}}, std::move(scores)))},
            {n, valueOf(tensorOf({{"token", 5}}, std::move(sizes)))},
            {t, valueOf(tensorOf({{"head", 2}}, std::move(totals)))}};
  }
  std::string body() const {
    return "%r = kvcache.select.fit %a sizes %b total %c : (" + s + ", " + n + ", " + t + ") -> " +
           keep;
  }
  Rows taken(std::vector<double> scores, std::vector<double> sizes, std::vector<double> totals) {
    return rowsOf(
        tensorFrom(items(std::move(scores), std::move(sizes), std::move(totals)), body(), keep));
  }
};

TEST_F(FitTest, WhatDoesNotFitIsPassedOver) {
  // By score 1, 2, 0, 3, 4. Head 0 takes 30 of 45, not 50, then 10 and 5; head 1 the best two.
  EXPECT_EQ(taken({5, 9, 7, 1, 0, 5, 9, 7, 1, 0}, {10, 30, 50, 5, 1}, {45, 80}),
            (Rows{{0, 1, 3}, {1, 2}}));
}

TEST_F(FitTest, TiesGoToTheLowestPosition) {
  EXPECT_EQ(taken({2, 2, 2, 2, 2, 0, 1, 1, 0, 0}, {10, 10, 10, 10, 10}, {20, 30}),
            (Rows{{0, 1}, {0, 1, 2}}));
}

TEST_F(FitTest, SizesOfNothingAlwaysFit) {
  EXPECT_EQ(taken({1, 2, 3, 4, 5, 1, 2, 3, 4, 5}, {0, 7, -3, 7, 7}, {0, -5}),
            (Rows{{0, 2}, {0, 2}}));
}

TEST_F(FitTest, TheWorstMayBeInfinitelyBad) {
  EXPECT_EQ(taken({-infinity, 2, infinity, 4, 5, 1, 1, 1, 1, -infinity}, {1, 1, 1, 1, 1}, {5, 4}),
            (Rows{{0, 1, 2, 3, 4}, {0, 1, 2, 3}}));
}

TEST_F(FitTest, RefusesWhatIsNoScore) {
  evaluate(items({1, 2, 3, std::nan(""), 5, 1, 2, 3, 4, 5}, {1, 1, 1, 1, 1}, {5, 5}), body(), keep);
  EXPECT_NE(status_.message().find("the score of item 3 is not a number"), std::string::npos)
      << status_.message();
}

// ---- proportional shares ----

const std::string w = "!kvcache.tensor<layer:2, head:2, f32>";
const std::string c = "!kvcache.tensor<layer:2, head:2, i32>";

class SharesTest : public ReferenceTest {
protected:
  /// Counts of 2 x 2 points.
  std::vector<double> shares(std::vector<double> weights, int total, const std::string &limits = "",
                             const std::string &types = "") {
    return tensorFrom({{w, valueOf(tensorOf({{"layer", 2}, {"head", 2}}, std::move(weights)))},
                       {"!kvcache.tensor<head:2, i32>", valueOf(tensorOf({{"head", 2}}, {1, 3}))}},
                      "%n = arith.constant " + std::to_string(total) +
                          " : index\n%two = arith.constant 2 : index\n%five = arith.constant 5 : "
                          "index\n%r = kvcache.select.alloc proportional %a total %n" +
                          limits + " : (" + w + ", index" + types + ") -> " + c,
                      c)
        .values;
  }
};

TEST_F(SharesTest, LargestRemaindersTakeWhatIsLeft) {
  // Exact shares 1, 2.5, 3.5, 3: the unit left goes to the first of the two halves.
  EXPECT_EQ(shares({2, 5, 7, 6}, 10), (std::vector<double>{1, 3, 3, 3}));
  EXPECT_EQ(shares({1, 1, 1, 1}, 6), (std::vector<double>{2, 2, 1, 1}));
  EXPECT_EQ(shares({0, 0, 1, 3}, 7), (std::vector<double>{0, 0, 2, 5})); // 1.75, 5.25
}

TEST_F(SharesTest, WithoutAnyWeightAllAreEqual) {
  EXPECT_EQ(shares({0, 0, 0, 0}, 9), (std::vector<double>{3, 2, 2, 2}));
}

TEST_F(SharesTest, CappedSurplusGoesToTheOthers) {
  // 1, 1, 1, 9 of 12: the last is cut to 5; 7 / 3 each for the others.
  EXPECT_EQ(shares({1, 1, 1, 9}, 12, " cap %five", ", index"), (std::vector<double>{3, 2, 2, 5}));
  // Caps that do not reach the total.
  EXPECT_EQ(shares({1, 1, 1, 9}, 40, " cap %five", ", index"), (std::vector<double>{5, 5, 5, 5}));
  // Without weight behind them, the open ones share equally.
  EXPECT_EQ(shares({0, 0, 0, 9}, 11, " cap %five", ", index"), (std::vector<double>{2, 2, 2, 5}));
}

TEST_F(SharesTest, FloorsComeFirst) {
  // 12 - 8 = 4 in shares of 0, 0, 1, 3.
  EXPECT_EQ(shares({0, 0, 1, 3}, 12, " floor %two", ", index"), (std::vector<double>{2, 2, 3, 5}));
  // Floors that exceed the total.
  EXPECT_EQ(shares({0, 0, 1, 3}, 7, " floor %two", ", index"), (std::vector<double>{2, 2, 2, 2}));
  // A floor for each head: 1, 3, 1, 3; the last closes at 5, and the third takes its unit.
  EXPECT_EQ(
      shares({0, 0, 1, 3}, 12, " floor %b cap %five", ", !kvcache.tensor<head:2, i32>, index"),
      (std::vector<double>{1, 3, 3, 5}));
}

TEST_F(SharesTest, NothingToShare) {
  EXPECT_EQ(shares({1, 2, 3, 4}, 0), (std::vector<double>{0, 0, 0, 0}));
}

TEST_F(SharesTest, RefusesWhatIsNoWeight) {
  for (double bad : {-1.0, std::nan(""), infinity}) {
    evaluate({{w, valueOf(tensorOf({{"layer", 2}, {"head", 2}}, {1, bad, 1, 1}))}},
             "%n = arith.constant 4 : index\n%r = kvcache.select.alloc proportional %a total %n : "
             "(" +
                 w + ", index) -> " + c,
             c);
    EXPECT_NE(status_.message().find("expected weights of at least 0"), std::string::npos)
        << status_.message();
  }
}

// ---- channels ----

TEST_F(ReferenceTest, ChannelsAreSelectedAndGathered) {
  const std::string score = "!kvcache.tensor<head:2, channel.post:4, f32>",
                    k = "!kvcache.tensor<head:2, token:?, channel.post:4, f32>",
                    index = "!kvcache.index<head:2, channel.keep:2 of channel.post>",
                    thin = "!kvcache.tensor<head:2, token:?, channel.keep:2, f32>";
  Tensor scores = tensorOf({{"head", 2}, {"channel.post", 4}}, {1, 3, 3, 0, 2, 2, 2, 9});
  Tensor keys = tensorOf({{"head", 2}, {"token", 2}, {"channel.post", 4}},
                         {0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33});
  std::string body = "%n = arith.constant 2 : index\n%i = kvcache.topk %a count %n along "
                     "channel.post : (" +
                     score + ", index) -> " + index + "\n";
  Tensor r = tensorFrom(
      {{score, valueOf(scores)}, {k, valueOf(keys)}},
      body + "%r = kvcache.gather %b at %i : (" + k + ", " + index + ") -> " + thin, thin);
  expectValues(r, {1, 2, 11, 12, 20, 23, 30, 33});
}

} // namespace
} // namespace mlir::kvcache::reference
