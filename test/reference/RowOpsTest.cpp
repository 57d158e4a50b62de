// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// topk, select.*, gather, scatter, slice, relabel, merge.into, score.nearest.

#include "test/reference/OpFixture.h"

namespace mlir::kvcache::reference {
namespace {

using Rows = std::vector<std::vector<int64_t>>;

const std::string s = "!kvcache.tensor<head:2, token:?, f32>";
const std::string keep = "!kvcache.index<head:2, token.keep:? of token>";
const std::string drop = "!kvcache.index<head:2, token.ev:? of token>";
const std::string kept = "!kvcache.tensor<head:2, token.keep:?, f32>";
const std::string counts = "!kvcache.tensor<head:2, i32>";

Tensor scores() {
  return tensorOf({{"head", 2}, {"token", 5}}, {1, 3, 3, 2, 0, 9, -infinity, 8, -infinity, 7});
}

std::string constant(const std::string &name, int64_t value) {
  return "%" + name + " = arith.constant " + std::to_string(value) + " : index\n";
}

class SelectTest : public ReferenceTest {
protected:
  Rows select(const Tensor &x, int64_t budget, int64_t first, int64_t last) {
    return rowsOf(tensorFrom({{s, valueOf(x)}},
                             constant("B", budget) + constant("f", first) + constant("l", last) +
                                 "%r = kvcache.select.topk %a budget %B first %f last %l : (" + s +
                                 ", index, index, index) -> " + keep,
                             keep));
  }
};

TEST_F(SelectTest, TiesGoToTheLowestAndResultsAscend) {
  EXPECT_EQ(select(scores(), 2, 0, 0), (Rows{{1, 2}, {0, 2}}));
}

TEST_F(SelectTest, WithinBudgetEverythingStays) {
  EXPECT_EQ(select(scores(), 5, 1, 1), (Rows{{0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}}));
}

TEST_F(SelectTest, MinusInfinityRanksLast) {
  EXPECT_EQ(select(scores(), 3, 0, 0), (Rows{{1, 2, 3}, {0, 2, 4}}));
  EXPECT_EQ(select(scores(), 4, 0, 0), (Rows{{0, 1, 2, 3}, {0, 1, 2, 4}}));
}

TEST_F(SelectTest, ForcedRowsCountInTheBudget) {
  EXPECT_EQ(select(scores(), 3, 1, 1), (Rows{{0, 1, 4}, {0, 2, 4}}));
}

TEST_F(SelectTest, BeyondTheBudgetSinksComeFirstThenTheNewest) {
  EXPECT_EQ(select(scores(), 3, 2, 4), (Rows{{0, 1, 4}, {0, 1, 4}}));
  EXPECT_EQ(select(scores(), 2, 4, 4), (Rows{{0, 1}, {0, 1}}));
  EXPECT_EQ(select(scores(), 0, 1, 1), (Rows{{}, {}}));
}

TEST_F(SelectTest, RankedScoresShowForcedRows) {
  select(scores(), 3, 1, 1);
  expectValues(interpreter_->ranked,
               {infinity, 3, 3, 2, infinity, infinity, -infinity, 8, -infinity, infinity});
}

TEST_F(SelectTest, OneCountForEachHead) {
  Tensor r = tensorFrom(
      {{s, valueOf(scores())}, {counts, valueOf(tensorOf({{"head", 2}}, {1, 3}))}},
      "%r = kvcache.select.topk %a budget %b : (" + s + ", " + counts + ") -> " + keep, keep);
  EXPECT_EQ(rowsOf(r), (Rows{{1}, {0, 2, 4}}));
}

TEST_F(SelectTest, RanksWhatF32CanTell) {
  Tensor x = tensorOf({{"head", 2}, {"token", 2}}, {1.0, 1.0 + 1e-12, 1.0, 1.0 + 1e-6});
  EXPECT_EQ(select(x, 1, 0, 0), (Rows{{0}, {1}}));
}

TEST_F(SelectTest, NotANumberIsAnError) {
  Tensor x = scores();
  x.values[3] = std::nan("");
  evaluate({{s, valueOf(x)}},
           constant("B", 2) + "%r = kvcache.select.topk %a budget %B : (" + s + ", index) -> " +
               keep,
           keep);
  EXPECT_NE(status_.message().find("op 'kvcache.select.topk': the score of row 3 is not a number"),
            std::string::npos)
      << status_.message();
}

TEST_F(ReferenceTest, TopkTakesMinusInfinityLast) {
  Tensor r = tensorFrom({{s, valueOf(scores())}},
                        constant("n", 5) + "%r = kvcache.topk %a count %n along token : (" + s +
                            ", index) -> " + keep,
                        keep);
  EXPECT_EQ(rowsOf(r), (Rows{{0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}}));
}

TEST_F(ReferenceTest, TopkAlongChannels) {
  std::string x = "!kvcache.tensor<token:2, channel:3, f32>",
              index = "!kvcache.index<token:2, channel.keep:? of channel>";
  Tensor r =
      tensorFrom({{x, valueOf(tensorOf({{"token", 2}, {"channel", 3}}, {1, 2, 3, 3, 1, 2}))}},
                 constant("n", 2) + "%r = kvcache.topk %a count %n along channel : (" + x +
                     ", index) -> " + index,
                 index);
  expectValues(r, {1, 2, 0, 2});
  EXPECT_TRUE(r.ragged.empty());
}

TEST_F(ReferenceTest, WhereTakesWhatThePredicateHolds) {
  Tensor r = tensorFrom(
      {{s, valueOf(scores())}},
      "%r = kvcache.select.where \"x >= 3\" (x = %a) along token : (" + s + ") -> " + keep, keep);
  EXPECT_EQ(rowsOf(r), (Rows{{1, 2}, {0, 2, 4}}));
}

TEST_F(ReferenceTest, ComplementOfARaggedSelection) {
  Tensor index = raggedOf(tensorOf({{"head", 2}, {"token.keep", 3}}, {1, 0, 0, 0, 2, 3}),
                          "token.keep", {1, 3});
  Tensor of =
      raggedOf(tensorOf({{"head", 2}, {"token", 5}}, std::vector<double>(10, 0)), "token", {3, 5});
  Tensor r = tensorFrom(
      {{keep, valueOf(index)}, {s, valueOf(of)}},
      "%r = kvcache.select.complement %a of %b : (" + keep + ", " + s + ") -> " + drop, drop);
  EXPECT_EQ(rowsOf(r), (Rows{{0, 2}, {1, 4}}));
}

TEST_F(ReferenceTest, AllocCountsTheBestOfAllHeads) {
  Tensor r = tensorFrom({{s, valueOf(scores())}},
                        constant("n", 4) + "%r = kvcache.select.alloc global_topk %a total %n : (" +
                            s + ", index) -> " + counts,
                        counts);
  expectValues(r, {1, 3}); // 9 8 7, then the first of two 3s
  r = tensorFrom({{s, valueOf(scores())}},
                 constant("n", 10) + "%r = kvcache.select.alloc global_topk %a total %n : (" + s +
                     ", index) -> " + counts,
                 counts);
  expectValues(r, {5, 5}); // -inf is the smallest value, but a value
}

TEST_F(ReferenceTest, AllocOfPrefixesOfAnAxis) {
  std::string m = "!kvcache.tensor<layer:3, i32>", each = "!kvcache.tensor<head:2, layer:3, i32>";
  Tensor limits = tensorOf({{"layer", 3}}, {0, 1, 2}), totals = tensorOf({{"layer", 3}}, {4, 2, 4});
  Tensor r = tensorFrom({{s, valueOf(scores())}, {m, valueOf(limits)}, {m, valueOf(totals)}},
                        "%r = kvcache.select.alloc global_topk %a total %c upto %b along head : (" +
                            s + ", " + m + ", " + m + ") -> " + each,
                        each);
  expectValues(r, {0, 2, 1, 0, 0, 3}); // nothing; 2 of head 0; as above
  r = tensorFrom({{s, valueOf(scores())}},
                 constant("n", 1) + constant("t", 9) +
                     "%r = kvcache.select.alloc global_topk %a total %t upto %n along head : (" +
                     s + ", index, index) -> " + counts,
                 counts);
  expectValues(r, {5, 0});
}

TEST_F(ReferenceTest, GatherPutsTheInstanceInPlaceOfTheDomain) {
  Tensor index =
      raggedOf(tensorOf({{"head", 2}, {"token.keep", 2}}, {1, 0, 0, 4}), "token.keep", {1, 2});
  Tensor r =
      tensorFrom({{s, valueOf(scores())}, {keep, valueOf(index)}},
                 "%r = kvcache.gather %a at %b : (" + s + ", " + keep + ") -> " + kept, kept);
  EXPECT_EQ(r.lengths, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(r.values[0], 3);
  EXPECT_EQ(r.values[2], 9);
  EXPECT_EQ(r.values[3], 7);
}

TEST_F(ReferenceTest, GatherWithOneIndexForAllHeads) {
  std::string all = "!kvcache.index<token.keep:? of token>";
  Tensor r =
      tensorFrom({{s, valueOf(scores())}, {all, valueOf(tensorOf({{"token.keep", 2}}, {0, 4}))}},
                 "%r = kvcache.gather %a at %b : (" + s + ", " + all + ") -> " + kept, kept);
  expectValues(r, {1, 0, 9, 7});
}

TEST_F(ReferenceTest, ScatterAddsInOrderAndSetKeepsTheLast) {
  std::string e = "!kvcache.tensor<head:2, token.ev:?, f32>",
              to = "!kvcache.index<head:2, token.ev:? of token.keep>";
  std::vector<Input> inputs{
      {e, valueOf(tensorOf({{"head", 2}, {"token.ev", 3}}, {1, 2, 4, 10, 20, 40}))},
      {kept, valueOf(tensorOf({{"head", 2}, {"token.keep", 2}}, {100, 200, 300, 400}))},
      {to, valueOf(tensorOf({{"head", 2}, {"token.ev", 3}}, {0, 1, 1, 1, 0, 0}))}};
  std::string types = " : (" + e + ", " + kept + ", " + to + ") -> " + kept;
  expectValues(tensorFrom(inputs, "%r = kvcache.scatter add %a into %b at %c" + types, kept),
               {101, 206, 360, 410});
  expectValues(tensorFrom(inputs, "%r = kvcache.scatter set %a into %b at %c" + types, kept),
               {1, 4, 40, 10});
}

TEST_F(ReferenceTest, ScatterRefusesAnIndexOfFewerEntries) {
  std::string e = "!kvcache.tensor<head:2, token.ev:?, f32>",
              to = "!kvcache.index<head:2, token.ev:? of token.keep>";
  evaluate({{e, valueOf(tensorOf({{"head", 2}, {"token.ev", 2}}, {1, 2, 10, 20}))},
            {kept, valueOf(tensorOf({{"head", 2}, {"token.keep", 2}}, {100, 200, 300, 400}))},
            {to, valueOf(tensorOf({{"head", 2}, {"token.ev", 1}}, {0, 1}))}},
           "%r = kvcache.scatter set %a into %b at %c : (" + e + ", " + kept + ", " + to + ") -> " +
               kept,
           kept);
  EXPECT_NE(status_.message().find("an index for each of 2 entries along 'token.ev', got 1"),
            std::string::npos)
      << status_.message();
}

TEST_F(ReferenceTest, PositionsOutsideAreRefused) {
  std::string all = "!kvcache.index<token.keep:? of token>";
  evaluate({{s, valueOf(scores())}, {all, valueOf(tensorOf({{"token.keep", 1}}, {5}))}},
           "%r = kvcache.gather %a at %b : (" + s + ", " + all + ") -> " + kept, kept);
  EXPECT_NE(status_.message().find("expected positions in [0, 5) of axis 'token', got 5"),
            std::string::npos)
      << status_.message();
}

TEST_F(ReferenceTest, SliceCutsAndRefusesWhatIsOutside) {
  std::string x = "!kvcache.tensor<rank:3, f32>", r = "!kvcache.tensor<rank:2, f32>";
  Tensor value = tensorOf({{"rank", 3}}, {1, 2, 3});
  std::string types = " : (" + x + ", index, index) -> " + r;
  expectValues(tensorFrom({{x, valueOf(value)}},
                          constant("f", 1) + constant("n", 2) +
                              "%r = kvcache.slice %a along rank from %f size %n" + types,
                          r),
               {2, 3});
  evaluate({{x, valueOf(value)}},
           constant("f", 2) + constant("n", 2) +
               "%r = kvcache.slice %a along rank from %f size %n" + types,
           r);
  EXPECT_NE(status_.message().find("got [2, 4)"), std::string::npos) << status_.message();
}

TEST_F(ReferenceTest, RelabelRenamesTheRaggedAxis) {
  Tensor x = raggedOf(scores(), "token", {2, 5});
  Tensor r =
      tensorFrom({{s, valueOf(x)}}, "%r = kvcache.relabel %a : (" + s + ") -> " + kept, kept);
  EXPECT_EQ(r.ragged, "token.keep");
  EXPECT_EQ(r.values, x.values);
}

TEST_F(ReferenceTest, MergeIsAWeightedMeanWhereSomethingIsMerged) {
  std::string e = "!kvcache.tensor<head:1, token.ev:?, channel.v:1, f32>",
              d = "!kvcache.tensor<head:1, token.keep:?, channel.v:1, f32>";
  std::string to = "!kvcache.index<head:1, token.ev:? of token.keep>",
              w = "!kvcache.tensor<head:1, token.ev:?, f32>";
  std::vector<Input> inputs{
      {e, valueOf(tensorOf({{"head", 1}, {"token.ev", 3}, {"channel.v", 1}}, {2, 4, 8}))},
      {d, valueOf(tensorOf({{"head", 1}, {"token.keep", 3}, {"channel.v", 1}}, {10, 20, 30}))},
      {to, valueOf(tensorOf({{"head", 1}, {"token.ev", 3}}, {0, 0, 2}))},
      {w, valueOf(tensorOf({{"head", 1}, {"token.ev", 3}}, {0.5, 0.5, 0}))}};
  RuntimeValue value = evaluate(inputs,
                                "%r = kvcache.merge.into %a, %b at %c weight %d : (" + e + ", " +
                                    d + ", " + to + ", " + w + ") -> " + d,
                                d);
  ASSERT_TRUE(status_.isOk()) << status_.message();
  const TensorValue &merged = *std::get<std::shared_ptr<const TensorValue>>(value);
  expectValues(merged.tensor, {6.5, 20, 30});
  expectValues(*merged.merged, {2, 0, 0});
}

TEST_F(ReferenceTest, NearestByCosineAndDistance) {
  std::string e = "!kvcache.tensor<head:1, token.ev:?, channel.post:2, f32>",
              k = "!kvcache.tensor<head:1, token.keep:?, channel.post:2, f32>";
  std::string best = "!kvcache.tensor<head:1, token.ev:?, f32>",
              to = "!kvcache.index<head:1, token.ev:? of token.keep>";
  std::vector<Input> inputs{
      {e, valueOf(tensorOf({{"head", 1}, {"token.ev", 2}, {"channel.post", 2}}, {1, 0, 0, 0}))},
      {k, valueOf(tensorOf({{"head", 1}, {"token.keep", 3}, {"channel.post", 2}},
                           {0, 1, 3, 0, 1, 1}))}};
  std::string types =
      " %a, %b along token.keep : (" + e + ", " + k + ") -> (" + best + ", " + to + ")\n";
  std::string takeBest = "%r = kvcache.map \"x\" (x = %v) : (" + best + ") -> " + best;
  // The second row has no direction: its norm is clamped, all cosines are 0, the lowest wins.
  expectValues(tensorFrom(inputs, "%v, %r = kvcache.score.nearest cosine" + types, to), {1, 0});
  expectValues(tensorFrom(inputs, "%v, %i = kvcache.score.nearest cosine" + types + takeBest, best),
               {1, 0});
  expectValues(tensorFrom(inputs, "%v, %r = kvcache.score.nearest l2" + types, to), {2, 0});
  expectValues(tensorFrom(inputs, "%v, %i = kvcache.score.nearest l2" + types + takeBest, best),
               {1, 1});
}

TEST_F(ReferenceTest, NearestWithoutCandidatesOrRows) {
  std::string e = "!kvcache.tensor<head:1, token.ev:?, channel.post:2, f32>",
              k = "!kvcache.tensor<head:1, token.keep:?, channel.post:2, f32>";
  std::string best = "!kvcache.tensor<head:1, token.ev:?, f32>",
              to = "!kvcache.index<head:1, token.ev:? of token.keep>";
  Tensor r =
      tensorFrom({{e, valueOf(Tensor({{"head", 1}, {"token.ev", 0}, {"channel.post", 2}}))},
                  {k, valueOf(Tensor({{"head", 1}, {"token.keep", 2}, {"channel.post", 2}}))}},
                 "%v, %r = kvcache.score.nearest cosine %a, %b along token.keep : (" + e + ", " +
                     k + ") -> (" + best + ", " + to + ")",
                 to);
  EXPECT_TRUE(r.values.empty());
}

} // namespace
} // namespace mlir::kvcache::reference
