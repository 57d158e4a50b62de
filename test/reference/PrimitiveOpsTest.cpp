// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// map, reduce, contract, pool, iota, extent, eigh: constants in, expected values out.

#include "test/reference/OpFixture.h"

namespace mlir::kvcache::reference {
namespace {

const std::string s = "!kvcache.tensor<head:2, token:?, f32>";
const std::string h = "!kvcache.tensor<head:2, f32>";
const std::string t = "!kvcache.tensor<token:?, f32>";

/// Two heads of 3 and 2 tokens; the last value does not exist.
Tensor twoHeads() {
  return raggedOf(tensorOf({{"head", 2}, {"token", 3}}, {1, 5, 2, 4, -3, 99}), "token", {3, 2});
}

TEST_F(ReferenceTest, MapBroadcastsByName) {
  Tensor r =
      tensorFrom({{h, valueOf(tensorOf({{"head", 2}}, {10, 20}))},
                  {t, valueOf(tensorOf({{"token", 3}}, {1, 2, 3}))}},
                 "%r = kvcache.map %a, %b with arith.addf : (" + h + ", " + t + ") -> " + s, s);
  expectValues(r, {11, 12, 13, 21, 22, 23});
}

TEST_F(ReferenceTest, MapPermutesToTheResultsOrder) {
  Tensor r =
      tensorFrom({{t, valueOf(tensorOf({{"token", 2}}, {1, 2}))},
                  {h, valueOf(tensorOf({{"head", 2}}, {10, 20}))}},
                 "%r = kvcache.map \"x * y\" (x = %a, y = %b) : (" + t + ", " + h + ") -> " + s, s);
  expectValues(r, {10, 20, 20, 40});
}

TEST_F(ReferenceTest, MapLeavesMissingRowsAlone) {
  Tensor r = tensorFrom({{s, valueOf(twoHeads())}},
                        "%r = kvcache.map \"x + 1\" (x = %a) : (" + s + ") -> " + s, s);
  expectValues(r, {2, 6, 3, 5, -2, 0});
  EXPECT_EQ(r.lengths, (std::vector<int64_t>{3, 2}));
}

TEST_F(ReferenceTest, MapRefusesOtherExtents) {
  evaluate({{t, valueOf(tensorOf({{"token", 2}}, {1, 2}))},
            {t, valueOf(tensorOf({{"token", 3}}, {1, 2, 3}))}},
           "%r = kvcache.map %a, %b with arith.addf : (" + t + ", " + t + ") -> " + t, t);
  EXPECT_NE(status_.message().find("axis 'token' is 2 long in one input and 3 in another"),
            std::string::npos)
      << status_.message();
}

TEST_F(ReferenceTest, MapRefusesOtherLengths) {
  Tensor other = twoHeads();
  other.lengths = {2, 3};
  evaluate({{s, valueOf(twoHeads())}, {s, valueOf(other)}},
           "%r = kvcache.map %a, %b with arith.addf : (" + s + ", " + s + ") -> " + s, s);
  EXPECT_NE(status_.message().find("axis 'token' has other lengths"), std::string::npos)
      << status_.message();
}

TEST_F(ReferenceTest, MapOfIntegers) {
  std::string i = "!kvcache.tensor<token:?, i32>";
  Tensor r = tensorFrom({{i, valueOf(tensorOf({{"token", 3}}, {7, -7, 2147483647}))}},
                        "%r = kvcache.map %a : (" + i + ") -> " + i +
                            " {\n^bb0(%x: i32):\n%two = arith.constant 2 : i32\n"
                            "%q = arith.divsi %x, %two : i32\n%m = arith.remsi %x, %two : i32\n%p "
                            "= arith.muli %q, %two : i32\n"
                            "%y = arith.addi %p, %m : i32\n%one = arith.constant 1 : i32\n%z = "
                            "arith.addi %y, %one : i32\n"
                            "kvcache.yield %z : i32\n}",
                        i);
  expectValues(r, {8, -6, -2147483648.0}); // i32 wraps
}

TEST_F(ReferenceTest, MapSaysWhatFailed) {
  std::string i = "!kvcache.tensor<token:?, i32>";
  evaluate({{i, valueOf(tensorOf({{"token", 2}}, {1, 0}))}},
           "%r = kvcache.map %a : (" + i + ") -> " + i +
               " {\n^bb0(%x: i32):\n%y = arith.divsi %x, %x : i32\nkvcache.yield %y : i32\n}",
           i);
  EXPECT_NE(status_.message().find("op 'kvcache.map': 'arith.divsi': division by zero"),
            std::string::npos)
      << status_.message();
}

TEST_F(ReferenceTest, ReduceOverRaggedTokens) {
  const std::pair<const char *, std::vector<double>> cases[] = {{"sum", {8, 1}},
                                                                {"mean", {8.0 / 3, 0.5}},
                                                                {"max", {5, 4}},
                                                                {"min", {1, -3}},
                                                                {"count", {3, 2}}};
  for (const auto &[fn, expected] : cases) {
    SCOPED_TRACE(fn);
    expectValues(tensorFrom({{s, valueOf(twoHeads())}},
                            "%r = kvcache.reduce " + std::string(fn) + " %a over [token] : (" + s +
                                ") -> " + h,
                            h),
                 expected);
  }
}

TEST_F(ReferenceTest, ReduceOfNothing) {
  Tensor none = raggedOf(tensorOf({{"head", 2}, {"token", 1}}, {3, 4}), "token", {0, 1});
  const std::pair<const char *, std::vector<double>> cases[] = {{"sum", {0, 4}},
                                                                {"mean", {0, 4}},
                                                                {"max", {-infinity, 4}},
                                                                {"min", {infinity, 4}},
                                                                {"count", {0, 1}}};
  for (const auto &[fn, expected] : cases) {
    SCOPED_TRACE(fn);
    expectValues(tensorFrom({{s, valueOf(none)}},
                            "%r = kvcache.reduce " + std::string(fn) + " %a over [token] : (" + s +
                                ") -> " + h,
                            h),
                 expected);
  }
}

TEST_F(ReferenceTest, ReduceArgmaxTakesTheLowestOfTies) {
  std::string index = "!kvcache.index<head:2 of token>";
  Tensor x = tensorOf({{"head", 2}, {"token", 3}}, {1, 7, 7, 2, 2, 0});
  expectValues(tensorFrom({{s, valueOf(x)}},
                          "%r = kvcache.reduce argmax %a over [token] : (" + s + ") -> " + index,
                          index),
               {1, 0});
}

TEST_F(ReferenceTest, ReduceQuantileInterpolates) {
  Tensor x =
      raggedOf(tensorOf({{"head", 2}, {"token", 4}}, {4, 1, 3, 2, -infinity, -infinity, 5, 0}),
               "token", {4, 3});
  std::string body =
      "%q = arith.constant 0.25 : f32\n%r = kvcache.reduce quantile %a over [token] at %q : (" + s +
      ", f32) -> " + h;
  expectValues(tensorFrom({{s, valueOf(x)}}, body, h), {1.75, -infinity});
  Tensor none = raggedOf(tensorOf({{"head", 2}, {"token", 1}}, {3, 4}), "token", {0, 1});
  expectValues(tensorFrom({{s, valueOf(none)}}, body, h), {infinity, 4});
}

TEST_F(ReferenceTest, ContractSumsSharedAndKeepsOthers) {
  std::string a = "!kvcache.tensor<head:2, token:?, channel.post:2, f32>",
              b = "!kvcache.tensor<head:2, channel.post:2, rank:1, f32>";
  std::string r = "!kvcache.tensor<head:2, token:?, rank:1, f32>";
  Tensor x = tensorOf({{"head", 2}, {"token", 2}, {"channel.post", 2}}, {1, 2, 3, 4, 5, 6, 7, 8});
  Tensor y = tensorOf({{"head", 2}, {"channel.post", 2}, {"rank", 1}}, {1, 10, 0, 1});
  expectValues(tensorFrom({{a, valueOf(x)}, {b, valueOf(y)}},
                          "%r = kvcache.contract %a, %b over [channel.post] : (" + a + ", " + b +
                              ") -> " + r,
                          r),
               {21, 43, 6, 8});
}

TEST_F(ReferenceTest, PoolAveragesOverTheWholeWindow) {
  Tensor x = tensorOf({{"token", 4}}, {3, 6, 9, 30});
  std::string body = "%n = arith.constant 3 : index\n%S = arith.constant 3 : index\n";
  Tensor r = tensorFrom({{t, valueOf(x)}},
                        body + "%r = kvcache.pool avg %a over [token] size %n upto %S : (" + t +
                            ", index, index) -> " + t,
                        t);
  expectValues(r, {3, 6, 5, 0}); // outside [0, 3) counts as 0, the divisor stays 3
}

TEST_F(ReferenceTest, PoolMaximumIgnoresWhatIsOutside) {
  Tensor x = tensorOf({{"token", 4}}, {-3, -6, -9, 30});
  std::string size = "%n = arith.constant 3 : index\n", prefix = "%S = arith.constant 3 : index\n";
  expectValues(tensorFrom({{t, valueOf(x)}},
                          size + prefix +
                              "%r = kvcache.pool max %a over [token] size %n upto %S : (" + t +
                              ", index, index) -> " + t,
                          t),
               {-3, -3, -6, 0});
  expectValues(tensorFrom({{t, valueOf(x)}},
                          size + "%r = kvcache.pool max %a over [token] size %n : (" + t +
                              ", index) -> " + t,
                          t),
               {-3, -3, 30, 30});
}

TEST_F(ReferenceTest, PoolOfEvenSizeAndEmptyPrefix) {
  Tensor x = tensorOf({{"token", 3}}, {2, 4, 6});
  expectValues(
      tensorFrom(
          {{t, valueOf(x)}},
          "%n = arith.constant 2 : index\n%r = kvcache.pool avg %a over [token] size %n : (" + t +
              ", index) -> " + t,
          t),
      {1, 3, 5}); // [i - 1, i + 1)
  expectValues(tensorFrom({{t, valueOf(x)}},
                          "%n = arith.constant 3 : index\n%S = arith.constant -1 : index\n"
                          "%r = kvcache.pool avg %a over [token] size %n upto %S : (" +
                              t + ", index, index) -> " + t,
                          t),
               {0, 0, 0});
}

TEST_F(ReferenceTest, IotaAndExtentOfALongestHead) {
  std::string i = "!kvcache.tensor<token:?, i32>";
  expectValues(tensorFrom({{s, valueOf(twoHeads())}},
                          "%r = kvcache.iota token of %a : (" + s + ") -> " + i, i),
               {0, 1, 2});
  RuntimeValue n = evaluate({{s, valueOf(twoHeads())}},
                            "%r = kvcache.extent token of %a : (" + s + ") -> index", "index");
  EXPECT_EQ(std::get<Number>(n).integer, 3);
  n = evaluate({{s, valueOf(twoHeads())}}, "%r = kvcache.extent head of %a : (" + s + ") -> index",
               "index");
  EXPECT_EQ(std::get<Number>(n).integer, 2);
}

TEST_F(ReferenceTest, EighSortsAndFixesSigns) {
  std::string m = "!kvcache.tensor<head:1, channel.post:2, channel.other:2, f32>";
  std::string values = "!kvcache.tensor<head:1, rank:2, f32>",
              vectors = "!kvcache.tensor<head:1, channel.post:2, rank:2, f32>";
  Tensor x = tensorOf({{"head", 1}, {"channel.post", 2}, {"channel.other", 2}}, {2, -1, -1, 2});
  std::string body =
      "%w, %v = kvcache.eigh %a : (" + m + ") -> (" + values + ", " + vectors + ")\n";
  Tensor w =
      tensorFrom({{m, valueOf(x)}},
                 body + "%r = kvcache.map \"x\" (x = %w) : (" + values + ") -> " + values, values);
  expectValues(w, {3, 1});
  Tensor v = tensorFrom({{m, valueOf(x)}},
                        body + "%r = kvcache.map \"x\" (x = %v) : (" + vectors + ") -> " + vectors,
                        vectors);
  double half = std::sqrt(0.5);
  expectValues(v, {half, half, -half, half}, 1e-9);
}

TEST_F(ReferenceTest, OnlyOneBranchOfIfIsTaken) {
  std::string i = "!kvcache.tensor<token:?, i32>";
  std::string body = "%c = arith.constant false\n%r = scf.if %c -> (index) {\n%z = arith.constant "
                     "0 : index\n%one = arith.constant 1 : index\n"
                     "%bad = arith.divui %one, %z : index\nscf.yield %bad : index\n} else {\n"
                     "%n = kvcache.extent token of %a : (" +
                     i + ") -> index\nscf.yield %n : index\n}";
  RuntimeValue n = evaluate({{i, valueOf(tensorOf({{"token", 2}}, {4, 5}))}}, body, "index");
  ASSERT_TRUE(status_.isOk()) << status_.message();
  EXPECT_EQ(std::get<Number>(n).integer, 2);
}

} // namespace
} // namespace mlir::kvcache::reference
