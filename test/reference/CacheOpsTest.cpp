// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// append, column, set_column, gather of a cache, rope, attend, score.attention, score.norm,
// project.*, quantize.encode, and the coding of rows at commit.

#include "test/reference/OpFixture.h"

#include "mlir/AsmParser/AsmParser.h"

namespace mlir::kvcache::reference {
namespace {

const std::string kv = "!kvcache.cache<append, head:2, token:?, {k [channel.post:2] = f16, v "
                       "[channel.v:2] = f16, pos = i32, acc = f32}>";
const std::string kT = "!kvcache.tensor<head:2, token:?, channel.post:2, f16>";
const std::string k = "!kvcache.tensor<head:2, query:?, channel.post:2, f16>";
const std::string v = "!kvcache.tensor<head:2, query:?, channel.v:2, f16>";
const std::string p = "!kvcache.tensor<query:?, i32>";
const std::string s = "!kvcache.tensor<head:2, token:?, f32>";
const std::string q = "!kvcache.tensor<head:2, group:2, query:?, channel.post:2, f16>";
const std::string o = "!kvcache.tensor<head:2, group:2, query:?, channel.v:2, f16>";

class CacheTest : public ReferenceTest {
protected:
  std::shared_ptr<const CacheSchema> schemaOf(const std::string &type) {
    auto schema =
        makeSchema(cast<CacheType>(parseType(type, &context_)), ::kvcache::abi::ElementType::F16);
    EXPECT_TRUE(schema.isOk()) << schema.status().message();
    return *schema;
  }
  CacheTable emptyCache() { return CacheTable(schemaOf(kv)); }
  /// `rows` rows on both heads; head 0 has keys (x, 0), head 1 keys (0, x), values (x, -x), for x
  /// of `xs`.
  CacheTable filled(const std::vector<double> &xs) {
    CacheTable table = emptyCache();
    int64_t n = static_cast<int64_t>(xs.size());
    Tensor keys({{"head", 2}, {"query", n}, {"channel.post", 2}}),
        values({{"head", 2}, {"query", n}, {"channel.v", 2}});
    Tensor positions({{"query", n}});
    for (int64_t i = 0; i < n; ++i) {
      double x = xs[static_cast<size_t>(i)];
      keys.at({0, i, 0}) = keys.at({1, i, 1}) = x;
      for (int64_t head = 0; head < 2; ++head) {
        values.at({head, i, 0}) = x;
        values.at({head, i, 1}) = -x;
      }
      positions.at({i}) = static_cast<double>(i);
    }
    EXPECT_TRUE(table.append({{"k", &keys}, {"v", &values}, {"pos", &positions}}).isOk());
    return table;
  }
  static RuntimeValue valueOfTable(CacheTable table) {
    return std::make_shared<const CacheTable>(std::move(table));
  }
  CacheTable cacheFrom(const std::vector<Input> &inputs, const std::string &body,
                       const std::string &type) {
    RuntimeValue value = evaluate(inputs, body, type);
    EXPECT_TRUE(status_.isOk()) << status_.message();
    auto *table = std::get_if<std::shared_ptr<const CacheTable>>(&value);
    return table ? **table : emptyCache();
  }
};

TEST_F(CacheTest, AppendRoundsAndDefaultsToZero) {
  Tensor keys = tensorOf({{"head", 2}, {"query", 1}, {"channel.post", 2}}, {0.1, 1, 2, 3});
  CacheTable table = cacheFrom(
      {{kv, valueOfTable(filled({1}))},
       {k, valueOf(keys)},
       {p, valueOf(tensorOf({{"query", 1}}, {7}))}},
      "%r = kvcache.append %a, k = %b, pos = %c : (" + kv + ", " + k + ", " + p + ") -> " + kv, kv);
  EXPECT_EQ(table.lists[0].columns[0],
            (std::vector<double>{1, 0, 0.0999755859375, 1})); // 0.1 as f16
  EXPECT_EQ(table.lists[1].columns[0], (std::vector<double>{0, 1, 2, 3}));
  EXPECT_EQ(table.lists[1].columns[1], (std::vector<double>{1, -1, 0, 0}));
  EXPECT_EQ(table.lists[1].columns[2],
            (std::vector<double>{0, 7})); // pos has no head axis: the same everywhere
  EXPECT_EQ(table.lists[0].columns[3], (std::vector<double>{0, 0}));
  EXPECT_EQ(table.lists[0].source, (std::vector<int32_t>{0, 1}));
}

TEST_F(CacheTest, GatherMovesAllColumnsAndMayBeRagged) {
  std::string keep = "!kvcache.index<head:2, token.keep:? of token>";
  Tensor index =
      raggedOf(tensorOf({{"head", 2}, {"token.keep", 2}}, {1, 0, 0, 2}), "token.keep", {1, 2});
  CacheTable table =
      cacheFrom({{kv, valueOfTable(filled({5, 6, 7}))}, {keep, valueOf(index)}},
                "%r = kvcache.gather %a at %b : (" + kv + ", " + keep + ") -> " + kv, kv);
  EXPECT_EQ(table.rowCounts(), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(table.lists[0].columns[0], (std::vector<double>{6, 0}));
  EXPECT_EQ(table.lists[1].columns[2], (std::vector<double>{0, 2}));
  EXPECT_EQ(table.lists[1].source, (std::vector<int32_t>{0, 2}));
  auto column = table.column("pos");
  ASSERT_TRUE(column.isOk());
  EXPECT_EQ(column->lengths, (std::vector<int64_t>{1, 2}));
}

TEST_F(CacheTest, GatherWithoutHeadAxisServesAllHeads) {
  std::string all = "!kvcache.index<token.keep:? of token>";
  CacheTable table =
      cacheFrom({{kv, valueOfTable(filled({5, 6, 7}))},
                 {all, valueOf(tensorOf({{"token.keep", 2}}, {0, 2}))}},
                "%r = kvcache.gather %a at %b : (" + kv + ", " + all + ") -> " + kv, kv);
  EXPECT_EQ(table.lists[0].columns[2], (std::vector<double>{0, 2}));
  EXPECT_EQ(table.lists[1].columns[2], (std::vector<double>{0, 2}));
}

TEST_F(CacheTest, ColumnsAreReadAndReplaced) {
  Tensor values = tensorOf({{"head", 2}, {"token", 2}}, {1, 2, 3, 4});
  CacheTable table =
      cacheFrom({{kv, valueOfTable(filled({5, 6}))}, {s, valueOf(values)}},
                "%r = kvcache.set_column %a, acc = %b : (" + kv + ", " + s + ") -> " + kv, kv);
  EXPECT_EQ(table.lists[1].columns[3], (std::vector<double>{3, 4}));
  Tensor r = tensorFrom({{kv, valueOfTable(table)}},
                        "%r = kvcache.column acc of %a : (" + kv + ") -> " + s, s);
  EXPECT_EQ(r.values, values.values);
}

TEST_F(CacheTest, FeatureAxesHaveAnExtentAndPositions) {
  std::string i = "!kvcache.tensor<channel.v:2, i32>";
  EXPECT_EQ(tensorFrom({{kv, valueOfTable(filled({5, 6, 7}))}},
                       "%r = kvcache.iota channel.v of %a : (" + kv + ") -> " + i, i)
                .values,
            (std::vector<double>{0, 1}));
}

TEST_F(CacheTest, AttendIsCausalByPosition) {
  positions_["query"] = {1, 0};
  // The key of row 0 is 0, of row 1 ln(3) * sqrt(2): weights 1 : 3 for a query of 1.
  double x = std::log(3.0) * std::sqrt(2.0);
  CacheTable table = filled({0, 0, 0});
  table.lists[0].columns[0] = table.lists[1].columns[0] = {0, 0, x, 0, 99, 0};
  table.lists[0].columns[1] = table.lists[1].columns[1] = {4, 0, 8, 0, 1e6, 1e6};
  Tensor queries({{"head", 2}, {"group", 2}, {"query", 2}, {"channel.post", 2}});
  queries.at({0, 0, 0, 0}) = 1;  // sees rows 0 and 1
  queries.at({0, 1, 0, 0}) = -1; // weights 3 : 1
  Tensor r =
      tensorFrom({{q, valueOf(queries)}, {kv, valueOfTable(table)}},
                 "%r = kvcache.attend %a over %b causal : (" + q + ", " + kv + ") -> " + o, o);
  EXPECT_NEAR(r.at({0, 0, 0, 0}), 7, 1e-9);
  EXPECT_NEAR(r.at({0, 1, 0, 0}), 5, 1e-9);
  EXPECT_NEAR(r.at({0, 0, 1, 0}), 4, 1e-9); // position 0 sees row 0 alone
  EXPECT_NEAR(r.at({1, 0, 0, 0}), 6, 1e-9); // a query of 0 weighs both alike
  EXPECT_NEAR(interpreter_->lastLse.at({0, 0, 0}), std::log(4.0), 1e-9);
}

TEST_F(CacheTest, LogitsAreChangedBeforeTheSoftmax) {
  positions_["query"] = {5};
  Tensor queries({{"head", 2}, {"group", 2}, {"query", 1}, {"channel.post", 2}});
  Tensor counts = tensorOf({{"head", 2}, {"token", 2}}, {1, 3, 3, 1});
  auto attend = [&](const std::string &f) {
    return tensorFrom({{q, valueOf(queries)}, {kv, valueOfTable(filled({1, 3}))}, {s, valueOf(counts)}},
                      "%r = kvcache.attend %a over %b logit \"" + f + "\" (n = %c) : (" + q + ", " +
                          kv + ", " + s + ") -> " + o,
                      o);
  };
  Tensor r = attend("z + log(n)"); // a query of 0: weights are the counts
  EXPECT_NEAR(r.at({0, 0, 0, 0}), 2.5, 1e-9);
  EXPECT_NEAR(r.at({1, 1, 0, 0}), 1.5, 1e-9);
  EXPECT_NEAR(interpreter_->lastLse.at({0, 0, 0}), std::log(4.0), 1e-9);
  r = attend("select(n > 2, -inf, z)"); // hidden entries
  EXPECT_NEAR(r.at({0, 0, 0, 0}), 1, 1e-9);
  EXPECT_NEAR(r.at({1, 0, 0, 0}), 3, 1e-9);
  expectValues(attend("-inf"), std::vector<double>(8, 0.0));
}

TEST_F(CacheTest, AttendAtReadsChosenEntries) {
  positions_["query"] = {5};
  Tensor queries({{"head", 2}, {"group", 2}, {"query", 1}, {"channel.post", 2}});
  auto attend = [&](const std::string &type, const Tensor &at) {
    return tensorFrom({{q, valueOf(queries)}, {kv, valueOfTable(filled({1, 3, 7}))}, {type, valueOf(at)}},
                      "%r = kvcache.attend %a over %b at %c : (" + q + ", " + kv + ", " + type +
                          ") -> " + o,
                      o);
  };
  Tensor r = attend("!kvcache.index<head:2, token.keep:? of token>",
                    raggedOf(tensorOf({{"head", 2}, {"token.keep", 2}}, {0, 2, 1, 0}), "token.keep",
                             {2, 1}));
  EXPECT_NEAR(r.at({0, 1, 0, 0}), 4, 1e-9);
  EXPECT_NEAR(r.at({1, 0, 0, 0}), 3, 1e-9);
  r = attend("!kvcache.index<head:2, group:2, token.keep:? of token>",
             raggedOf(tensorOf({{"head", 2}, {"group", 2}, {"token.keep", 1}}, {0, 1, 2, 0}),
                      "token.keep", {1, 1, 1, 0}));
  EXPECT_NEAR(r.at({0, 0, 0, 0}), 1, 1e-9);
  EXPECT_NEAR(r.at({0, 1, 0, 0}), 3, 1e-9);
  EXPECT_NEAR(r.at({1, 0, 0, 0}), 7, 1e-9);
  EXPECT_NEAR(r.at({1, 1, 0, 0}), 0, 1e-9); // an empty list
}

TEST_F(CacheTest, FewerKeyChannelsKeepTheScaleOfTheModel) {
  std::string narrow = "!kvcache.cache<append, head:2, token:?, {k [channel.kept:1] = f16, v "
                       "[channel.v:2] = f16, pos = i32}>",
              nq = "!kvcache.tensor<head:2, group:2, query:?, channel.kept:1, f16>";
  positions_["query"] = {5};
  CacheTable table(schemaOf(narrow));
  Tensor keys({{"head", 2}, {"query", 2}, {"channel.kept", 1}}),
      values({{"head", 2}, {"query", 2}, {"channel.v", 2}});
  keys.at({0, 1, 0}) = std::log(3.0) * std::sqrt(2.0); // the model's head dim is 2
  values.at({0, 1, 1}) = 4;
  ASSERT_TRUE(table.append({{"k", &keys}, {"v", &values}}).isOk());
  Tensor queries({{"head", 2}, {"group", 2}, {"query", 1}, {"channel.kept", 1}}, 1.0);
  Tensor r = tensorFrom({{nq, valueOf(queries)}, {narrow, valueOfTable(table)}},
                        "%r = kvcache.attend %a over %b : (" + nq + ", " + narrow + ") -> " + o, o);
  EXPECT_NEAR(r.at({0, 0, 0, 1}), 3, 1e-3); // weights 1 : 3, keys rounded to f16
}

TEST_F(CacheTest, AttendOverNothingIsZero) {
  positions_["query"] = {-1};
  Tensor queries({{"head", 2}, {"group", 2}, {"query", 1}, {"channel.post", 2}}, 1.0);
  Tensor r =
      tensorFrom({{q, valueOf(queries)}, {kv, valueOfTable(filled({1}))}},
                 "%r = kvcache.attend %a over %b causal : (" + q + ", " + kv + ") -> " + o, o);
  expectValues(r, std::vector<double>(8, 0.0));
  EXPECT_EQ(interpreter_->lastLse.values[0], -infinity);
}

TEST_F(CacheTest, SlidingWindowHidesOldRows) {
  geometry_.slidingWindow = 2;
  positions_["query"] = {2};
  Tensor queries({{"head", 2}, {"group", 2}, {"query", 1}, {"channel.post", 2}});
  Tensor r =
      tensorFrom({{q, valueOf(queries)}, {kv, valueOfTable(filled({3, 5, 7}))}},
                 "%r = kvcache.attend %a over %b causal : (" + q + ", " + kv + ") -> " + o, o);
  EXPECT_NEAR(r.at({0, 0, 0, 0}), 6, 1e-9);
}

TEST_F(CacheTest, StatisticsSumOverQuerySideAxes) {
  positions_["query.win"] = {0, 1};
  std::string qw = "!kvcache.tensor<head:2, group:2, query.win:?, channel.post:2, f16>";
  Tensor queries({{"head", 2}, {"group", 2}, {"query.win", 2}, {"channel.post", 2}});
  auto sum = [&](const std::string &stat, const std::string &type) {
    return tensorFrom({{qw, valueOf(queries)}, {kv, valueOfTable(filled({1, 1}))}},
                      "%r = kvcache.score.attention %a over %b causal stats(" + stat + ") : (" +
                          qw + ", " + kv + ") -> " + type,
                      type);
  };
  std::string perGroup = "!kvcache.tensor<head:2, group:2, token:?, f32>";
  // Queries of 0: the first sees row 0, the second both.
  expectValues(sum("sum(p, over(query.win))", perGroup), {1.5, 0.5, 1.5, 0.5, 1.5, 0.5, 1.5, 0.5});
  expectValues(sum("sum(p, over(query.win, group), last(1))", s), {1, 1, 1, 1});
  expectValues(sum("sum(p, over(query.win, group, head))", "!kvcache.tensor<token:?, f32>"),
               {6, 2});
  expectValues(sum("lse", "!kvcache.tensor<head:2, group:2, query.win:?, f32>"),
               {0, std::log(2), 0, std::log(2), 0, std::log(2), 0, std::log(2)});
}

TEST_F(CacheTest, SumOverHeadsOfDifferentLengthsIsRefused) {
  CacheTable table = filled({1, 2});
  ASSERT_TRUE(table
                  .gather(raggedOf(tensorOf({{"head", 2}, {"token.keep", 2}}, {0, 0, 0, 1}),
                                   "token.keep", {1, 2}))
                  .isOk());
  Tensor queries({{"head", 2}, {"group", 2}, {"query", 1}, {"channel.post", 2}});
  std::string t = "!kvcache.tensor<token:?, f32>";
  evaluate({{q, valueOf(queries)}, {kv, valueOfTable(table)}},
           "%r = kvcache.score.attention %a over %b stats(sum(p, over(head, group, query))) : (" +
               q + ", " + kv + ") -> " + t,
           t);
  EXPECT_NE(status_.message().find("the same number of entries in every head"), std::string::npos)
      << status_.message();
}

TEST_F(CacheTest, RopeRotatesPairsByPosition) {
  std::string pre = "!kvcache.tensor<query:?, channel.pre:2, f32>",
              post = "!kvcache.tensor<query:?, channel.post:2, f32>";
  Tensor r = tensorFrom({{pre, valueOf(tensorOf({{"query", 2}, {"channel.pre", 2}}, {1, 0, 0, 2}))},
                         {p, valueOf(tensorOf({{"query", 2}}, {0, 3}))}},
                        "%r = kvcache.rope %a by %b : (" + pre + ", " + p + ") -> " + post, post);
  expectValues(r, {1, 0, -2 * std::sin(3), 2 * std::cos(3)});
}

TEST_F(CacheTest, RopeViewOfACacheKeepsItsRows) {
  std::string raw = "!kvcache.cache<append, head:2, token:?, {k [channel.pre:2] = f16, v "
                    "[channel.v:2] = f16, pos = i32, acc = f32}>";
  std::string pT = "!kvcache.tensor<token:?, i32>";
  CacheTable table(schemaOf(raw));
  Tensor keys({{"head", 2}, {"query", 2}, {"channel.pre", 2}}, 1.0),
      positions = tensorOf({{"query", 2}}, {10, 20});
  ASSERT_TRUE(table.append({{"k", &keys}, {"pos", &positions}}).isOk());
  CacheTable view =
      cacheFrom({{raw, valueOfTable(table)}, {pT, valueOf(tensorOf({{"token", 2}}, {0, 1}))}},
                "%r = kvcache.rope %a by %b : (" + raw + ", " + pT + ") -> " + kv, kv);
  EXPECT_NEAR(view.lists[1].columns[0][2], std::cos(1) - std::sin(1), 1e-9);
  EXPECT_EQ(view.lists[1].columns[0][0], 1);
  EXPECT_EQ(view.keyPositions[0], (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(view.lists[0].columns[2], (std::vector<double>{10, 20}));
}

TEST_F(CacheTest, NormHadamardAndLowrank) {
  std::string x = "!kvcache.tensor<head:2, channel.v:2, f32>", h = "!kvcache.tensor<head:2, f32>";
  Tensor value = tensorOf({{"head", 2}, {"channel.v", 2}}, {3, 4, 0, -2});
  expectValues(tensorFrom({{x, valueOf(value)}},
                          "%r = kvcache.score.norm %a over [channel.v] : (" + x + ") -> " + h, h),
               {5, 2});
  std::string had = "!kvcache.tensor<head:2, channel.had:2, f32>";
  double root = std::sqrt(0.5);
  expectValues(
      tensorFrom({{x, valueOf(value)}},
                 "%r = kvcache.project.hadamard %a along channel.v : (" + x + ") -> " + had, had),
      {7 * root, -root, -2 * root, 2 * root});
  std::string basis = "!kvcache.tensor<head:2, channel.v:2, rank:1, f32>",
              c = "!kvcache.tensor<head:2, rank:1, f32>";
  expectValues(tensorFrom({{x, valueOf(value)},
                           {basis, valueOf(tensorOf({{"head", 2}, {"channel.v", 2}, {"rank", 1}},
                                                    {1, 0, 0.5, 0.5}))},
                           {x, valueOf(tensorOf({{"head", 2}, {"channel.v", 2}}, {1, 1, 0, 2}))}},
                          "%r = kvcache.project.lowrank %a by %b mean %c : (" + x + ", " + basis +
                              ", " + x + ") -> " + c,
                          c),
               {2, -2});
}

TEST_F(CacheTest, RowsReadAsTheyWereCoded) {
  CacheTable table(schemaOf("!kvcache.cache<append, head:1, token:?, {k [channel.v:5] = "
                            "recent<affine<2, tile(channel:4), min_f16, scale_f16, lsb(channel)>, "
                            "keep(0), block(1)>}>"));
  Tensor row = tensorOf({{"head", 1}, {"query", 1}, {"channel.v", 5}}, {0, 1, 2.4, 3, 7});
  ASSERT_TRUE(table.append({{"k", &row}}).isOk());
  ASSERT_TRUE(table.commit({}).isOk());
  // Four channels span 3 in steps of 1; the remainder group holds one value, its scale is 0.
  EXPECT_EQ(table.lists[0].columns[0], (std::vector<double>{0, 1, 2, 3, 7}));
}

/// Rows [n, 2] of value i + c for row i and channel c, committed after `first` and after all rows.
class CommitTest : public CacheTest {
protected:
  CacheTable committed(const std::string &storage, int64_t first, int64_t rows) {
    CacheTable table(schemaOf(
        "!kvcache.cache<append, head:1, token:?, {k [channel.post:2] = " + storage + "}>"));
    for (auto [from, to] : {std::pair{int64_t{0}, first}, std::pair{first, rows}}) {
      Tensor x({{"head", 1}, {"query", to - from}, {"channel.post", 2}});
      for (int64_t i = from; i < to; ++i) {
        x.at({0, i - from, 0}) = static_cast<double>(i);
        x.at({0, i - from, 1}) = static_cast<double>(i) + 1.25;
      }
      EXPECT_TRUE(table.append({{"k", &x}}).isOk());
      Status status = table.commit({});
      EXPECT_TRUE(status.isOk()) << status.message();
    }
    return table;
  }
};

TEST_F(CommitTest, TokensAreCodedInWholeBlocksBehindSinksAndRecentRows) {
  std::string storage = "sinks<recent<affine<4, tile(token:8), min_f16, scale_f16, lsb(token)>, "
                        "keep(2), block(8)>, 8>";
  CacheTable table = committed(storage, 17, 18);
  const CodedColumn &coded = table.lists[0].coded[0];
  EXPECT_EQ(coded.first, 8);
  EXPECT_EQ(coded.rows, 8);
  EXPECT_EQ(coded.scales.size(), 2u);
  EXPECT_EQ(coded.zeros[0], 8.0F);
  EXPECT_EQ(coded.zeros[1], 9.25F);
  EXPECT_EQ(coded.codes[14], 15);
  EXPECT_EQ(table.lists[0].columns[0][7 * 2], 7.0);        // a sink
  EXPECT_EQ(table.lists[0].columns[0][16 * 2 + 1], 17.25); // recent
  EXPECT_FALSE(committed(storage, 17, 17).lists[0].coded[0].rows);
}

TEST_F(CommitTest, BlocksCannotLoseSingleRows) {
  CacheTable table = committed(
      "recent<affine<4, tile(token:8), min_f16, scale_f16, lsb(token)>, keep(0), block(8)>", 8, 9);
  Tensor index = tensorOf({{"head", 1}, {"token.keep", 8}}, {0, 1, 2, 3, 4, 5, 6, 8});
  Status status = table.gather(index);
  EXPECT_NE(status.message().find("coded in blocks of 8"), std::string::npos) << status.message();
}

TEST_F(CommitTest, RowsCodedOneByOneMayGo) {
  CacheTable table = committed(
      "recent<affine<4, tile(channel:2), min_f16, scale_f16, lsb(channel)>, keep(1), block(1)>", 2,
      4);
  EXPECT_EQ(table.lists[0].coded[0].rows, 3);
  ASSERT_TRUE(table.gather(tensorOf({{"head", 1}, {"token.keep", 2}}, {1, 3})).isOk());
  EXPECT_EQ(table.lists[0].coded[0].rows, 1);
  EXPECT_EQ(table.lists[0].coded[0].zeros, (std::vector<float>{1}));
  EXPECT_EQ(table.lists[0].columns[0][2], 3.0);
}

TEST_F(CommitTest, CodedColumnsCannotBeReplaced) {
  CacheTable table =
      committed("affine<4, tile(channel:2), min_f16, scale_f16, lsb(channel)>", 1, 2);
  TensorValue value{Tensor({{"head", 1}, {"token", 2}, {"channel.post", 2}}), nullptr};
  EXPECT_NE(table.setColumn("k", value).message().find("coded rows"), std::string::npos);
}

} // namespace
} // namespace mlir::kvcache::reference
