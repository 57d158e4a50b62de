// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// sort, scan, concat, blocks: constants in, expected values out.

#include "test/reference/OpFixture.h"

namespace mlir::kvcache::reference {
namespace {

const std::string s = "!kvcache.tensor<head:2, token:?, f32>";
const std::string p = "!kvcache.tensor<head:2, page:?, f32>";
const std::string l = "!kvcache.tensor<layer:3, head:2, f32>";

/// Two heads of 5 and 3 tokens; the last two values of the second do not exist.
Tensor twoHeads() {
  return raggedOf(tensorOf({{"head", 2}, {"token", 5}}, {1, 5, 2, 5, 3, 4, -3, 0, 98, 99}), "token",
                  {5, 3});
}
Tensor threeLayers() { return tensorOf({{"layer", 3}, {"head", 2}}, {1, 6, 3, 4, 2, 5}); }

TEST_F(ReferenceTest, SortOfRaggedTokens) {
  Tensor down = tensorFrom({{s, valueOf(twoHeads())}},
                           "%r = kvcache.sort descending %a along token : (" + s + ") -> " + s, s);
  expectValues(down, {5, 5, 3, 2, 1, 4, 0, -3, 0, 0});
  EXPECT_EQ(down.lengths, (std::vector<int64_t>{5, 3}));
  Tensor up = tensorFrom({{s, valueOf(twoHeads())}},
                         "%r = kvcache.sort ascending %a along token : (" + s + ") -> " + s, s);
  expectValues(up, {1, 2, 3, 5, 5, -3, 0, 4, 0, 0});
}

TEST_F(ReferenceTest, SortOfBlocksLeavesBlocksInPlace) {
  auto sorted = [&](const std::string &order, const std::string &size) {
    return tensorFrom({{s, valueOf(twoHeads())}},
                      "%n = arith.constant " + size + " : index\n%r = kvcache.sort " + order +
                          " %a along token blocks %n : (" + s + ", index) -> " + s,
                      s);
  };
  expectValues(sorted("descending", "2"), {5, 1, 5, 2, 3, 4, -3, 0, 0, 0});
  expectValues(sorted("ascending", "3"), {1, 2, 5, 3, 5, -3, 0, 4, 0, 0});
  expectValues(sorted("ascending", "9"), {1, 2, 3, 5, 5, -3, 0, 4, 0, 0});
  evaluate(
      {{s, valueOf(twoHeads())}},
      "%n = arith.constant 0 : index\n%r = kvcache.sort ascending %a along token blocks %n : (" +
          s + ", index) -> " + s,
      s);
  EXPECT_NE(status_.message().find("expected blocks of at least one position, got 0"),
            std::string::npos)
      << status_.message();
}

TEST_F(ReferenceTest, SortAlongLayersAndHeads) {
  expectValues(tensorFrom({{l, valueOf(threeLayers())}},
                          "%r = kvcache.sort descending %a along layer : (" + l + ") -> " + l, l),
               {3, 6, 2, 5, 1, 4});
  expectValues(tensorFrom({{l, valueOf(threeLayers())}},
                          "%r = kvcache.sort ascending %a along head : (" + l + ") -> " + l, l),
               {1, 6, 3, 4, 2, 5});
}

TEST_F(ReferenceTest, SortRefusesWhatIsNotANumber) {
  Tensor x = twoHeads();
  x.values[9] = std::nan(""); // behind the rows of its head
  const std::string body = "%r = kvcache.sort descending %a along token : (" + s + ") -> " + s;
  evaluate({{s, valueOf(x)}}, body, s);
  EXPECT_TRUE(status_.isOk()) << status_.message();
  x.values[7] = std::nan("");
  evaluate({{s, valueOf(x)}}, body, s);
  EXPECT_NE(status_.message().find("a value along 'token' is not a number"), std::string::npos)
      << status_.message();
}

TEST_F(ReferenceTest, SortAcrossHeadsNeedsEqualLengths) {
  evaluate({{s, valueOf(twoHeads())}},
           "%r = kvcache.sort ascending %a along head : (" + s + ") -> " + s, s);
  EXPECT_NE(
      status_.message().find("axis 'token' has other lengths for other points of axis 'head'"),
      std::string::npos)
      << status_.message();
}

TEST_F(ReferenceTest, ScanForwardAndReverse) {
  expectValues(tensorFrom({{s, valueOf(twoHeads())}},
                          "%r = kvcache.scan sum %a along token : (" + s + ") -> " + s, s),
               {1, 6, 8, 13, 16, 4, 1, 1, 0, 0});
  expectValues(tensorFrom({{s, valueOf(twoHeads())}},
                          "%r = kvcache.scan sum %a along token reverse : (" + s + ") -> " + s, s),
               {16, 15, 10, 8, 3, 1, -3, 0, 0, 0});
  expectValues(tensorFrom({{s, valueOf(twoHeads())}},
                          "%r = kvcache.scan max %a along token : (" + s + ") -> " + s, s),
               {1, 5, 5, 5, 5, 4, 4, 4, 0, 0});
  expectValues(tensorFrom({{l, valueOf(threeLayers())}},
                          "%r = kvcache.scan max %a along layer reverse : (" + l + ") -> " + l, l),
               {3, 6, 3, 5, 2, 5});
}

TEST_F(ReferenceTest, ScanOfNothing) {
  Tensor none = raggedOf(tensorOf({{"head", 2}, {"token", 1}}, {3, 4}), "token", {0, 1});
  expectValues(tensorFrom({{s, valueOf(none)}},
                          "%r = kvcache.scan sum %a along token : (" + s + ") -> " + s, s),
               {0, 4});
}

TEST_F(ReferenceTest, ScanAddsInF32) {
  const std::string t = "!kvcache.tensor<token:?, f32>", i = "!kvcache.tensor<token:?, i32>";
  Tensor x = tensorOf({{"token", 3}}, {16777216, 1, 1});
  expectValues(tensorFrom({{t, valueOf(x)}},
                          "%r = kvcache.scan sum %a along token : (" + t + ") -> " + t, t),
               {16777216, 16777216, 16777216});
  expectValues(tensorFrom({{i, valueOf(x)}},
                          "%r = kvcache.scan sum %a along token : (" + i + ") -> " + i, i),
               {16777216, 16777217, 16777218});
}

TEST_F(ReferenceTest, ConcatOfRaggedTokens) {
  const std::string w = "!kvcache.tensor<head:2, token.win:2, f32>",
                    all = "!kvcache.tensor<head:2, token.all:?, f32>";
  Tensor window = tensorOf({{"head", 2}, {"token.win", 2}}, {10, 20, 30, 40});
  Tensor r = tensorFrom(
      {{s, valueOf(twoHeads())}, {w, valueOf(window)}},
      "%r = kvcache.concat %a, %b along token.all : (" + s + ", " + w + ") -> " + all, all);
  EXPECT_EQ(r.lengths, (std::vector<int64_t>{7, 5}));
  expectValues(r, {1, 5, 2, 5, 3, 10, 20, 4, -3, 0, 30, 40, 0, 0});
}

TEST_F(ReferenceTest, ConcatOfLayers) {
  const std::string one = "!kvcache.tensor<layer:1, head:2, f32>",
                    four = "!kvcache.tensor<layer:4, head:2, f32>";
  Tensor first = tensorOf({{"layer", 1}, {"head", 2}}, {8, 9});
  expectValues(
      tensorFrom({{one, valueOf(first)}, {l, valueOf(threeLayers())}},
                 "%r = kvcache.concat %a, %b along layer : (" + one + ", " + l + ") -> " + four,
                 four),
      {8, 9, 1, 6, 3, 4, 2, 5});
}

TEST_F(ReferenceTest, BlocksEndShort) {
  const std::pair<const char *, std::vector<double>> cases[] = {{"sum", {6, 7, 3, 1, 0, 0}},
                                                                {"mean", {3, 3.5, 3, 0.5, 0, 0}},
                                                                {"max", {5, 5, 3, 4, 0, 0}},
                                                                {"min", {1, 2, 3, -3, 0, 0}}};
  for (const auto &[fn, expected] : cases) {
    SCOPED_TRACE(fn);
    Tensor r = tensorFrom({{s, valueOf(twoHeads())}},
                          "%n = arith.constant 2 : index\n%r = kvcache.blocks " + std::string(fn) +
                              " %a along token size %n : (" + s + ", index) -> " + p,
                          p);
    EXPECT_EQ(r.lengths, (std::vector<int64_t>{3, 2}));
    expectValues(r, expected);
  }
}

TEST_F(ReferenceTest, BlocksOfNothingAndOfNoSize) {
  Tensor none = raggedOf(tensorOf({{"head", 2}, {"token", 1}}, {3, 4}), "token", {0, 1});
  auto body = [](const char *size) {
    return "%n = arith.constant " + std::string(size) +
           " : index\n%r = kvcache.blocks max %a along token size %n : (" + s + ", index) -> " + p;
  };
  Tensor r = tensorFrom({{s, valueOf(none)}}, body("4"), p);
  EXPECT_EQ(r.lengths, (std::vector<int64_t>{0, 1}));
  expectValues(r, {0, 4});
  evaluate({{s, valueOf(none)}}, body("0"), p);
  EXPECT_NE(status_.message().find("expected blocks of at least one position, got 0"),
            std::string::npos)
      << status_.message();
}

} // namespace
} // namespace mlir::kvcache::reference
