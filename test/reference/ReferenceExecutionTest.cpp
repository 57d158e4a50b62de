// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Whole methods against hand-computed numbers: which rows stay after the prompt and after each
// step, what is coded when, what a reader sees.

#include "test/reference/OpFixture.h"

namespace mlir::kvcache::reference {
namespace {

const std::string types = R"mlir(
!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!qpre = !kvcache.tensor<head:Hkv, group:G, query:?, channel.pre:D, act>
!qw = !kvcache.tensor<head:Hkv, group:G, query.win:?, channel.post:D, act>
!k = !kvcache.tensor<head:Hkv, query:?, channel.post:D, act>
!kpre = !kvcache.tensor<head:Hkv, query:?, channel.pre:D, act>
!v = !kvcache.tensor<head:Hkv, query:?, channel.v:D, act>
!p = !kvcache.tensor<query:?, i32>
!pT = !kvcache.tensor<token:?, i32>
!o = !kvcache.tensor<head:Hkv, group:G, query:?, channel.v:D, act>
!kT = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!vT = !kvcache.tensor<head:Hkv, token:?, channel.v:D, act>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!sg = !kvcache.tensor<head:Hkv, group:G, token:?, f32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32}>
)mlir";

/// Geometry: 1 layer, 2 query heads on 1 KV head, D = 2, f32.
class ExecutionTest : public ReferenceTest {
protected:
  ExecutionTest() { geometry_ = {1, 2, 1, 2, ::kvcache::abi::ElementType::F32, 0, {1.0F}}; }

  std::unique_ptr<rt::Sequence> start(rt::Execution &execution, int64_t budget) {
    auto sequence = execution.createSequence({budget, 0});
    EXPECT_TRUE(sequence.isOk()) << sequence.status().message();
    return std::move(*sequence);
  }

  /// Feeds rows with keys (xs, 0), values (xs, 1) and, for both query heads, queries (qs, 0).
  std::vector<float> feed(rt::Execution &execution, rt::Sequence &sequence,
                          const std::vector<float> &xs, const std::vector<float> &qs,
                          const std::string &how) {
    size_t n = xs.size();
    std::vector<float> q(n * 4), k(n * 2), v(n * 2), out(n * 4, -1.0F);
    std::vector<int32_t> positions;
    for (size_t i = 0; i < n; ++i) {
      q[i * 4] = q[i * 4 + 2] = qs[i];
      k[i * 2] = v[i * 2] = xs[i];
      v[i * 2 + 1] = 1;
      positions.push_back(static_cast<int32_t>(sequence.length() + static_cast<int64_t>(i)));
    }
    rt::LayerRows rows;
    rows.rows = static_cast<int64_t>(n);
    rows.q = q.data();
    rows.k = k.data();
    rows.v = v.data();
    rows.positions = positions.data();
    rows.out = out.data();
    Status status = how == "prefill"  ? execution.prefill(0, {&sequence}, {rows})
                    : how == "ingest" ? execution.ingest(0, {&sequence}, {rows})
                                      : execution.decode(0, {&sequence}, {rows});
    EXPECT_TRUE(status.isOk()) << status.message();
    return out;
  }
  void finishPrompt(rt::Execution &execution, rt::Sequence &sequence) {
    Status status = execution.promptEnd({&sequence});
    EXPECT_TRUE(status.isOk()) << status.message();
  }
  std::vector<float> step(rt::Execution &execution, rt::Sequence &sequence, float x, float q) {
    std::vector<float> out = feed(execution, sequence, {x}, {q}, "decode");
    Status status = execution.stepEnd({&sequence});
    EXPECT_TRUE(status.isOk()) << status.message();
    return out;
  }
  rt::HeadContents contents(const rt::Sequence &sequence) {
    auto found = sequence.contents(0, 0);
    EXPECT_TRUE(found.isOk()) << found.status().message();
    return *found;
  }
};

using Sources = std::vector<int32_t>;

TEST_F(ExecutionTest, DefaultPhasesKeepEverything) {
  auto dense = load(types + "kvcache.method @m {\n}");
  ASSERT_TRUE(dense) << error_;
  EXPECT_FALSE(dense->hasTokenBudget());
  EXPECT_EQ(dense->neededQueryRows(), 0);
  EXPECT_EQ(dense->methodName(), "m");
  EXPECT_FALSE(dense->createSequence({7, 0}).isOk());
  auto sequence = start(*dense, -1);
  std::vector<float> out = feed(*dense, *sequence, {2, 4}, {0, 0}, "prefill");
  EXPECT_EQ(out, (std::vector<float>{2, 1, 2, 1, 3, 1, 3, 1}));
  finishPrompt(*dense, *sequence);
  EXPECT_EQ(step(*dense, *sequence, 9, 0)[0], 5);
  EXPECT_EQ(contents(*sequence).source, (Sources{0, 1, 2}));
  EXPECT_EQ(contents(*sequence).positions, (Sources{0, 1, 2}));
  EXPECT_EQ(sequence->report(0).bytesMeasured, 3 * (8 + 8 + 4));
  EXPECT_EQ(sequence->report(0).keptRows, (std::vector<int64_t>{3}));
}

TEST_F(ExecutionTest, AttendSeesEveryEntryAndGivesLse) {
  auto dense = load(types + "kvcache.method @m {\n}");
  ASSERT_TRUE(dense) << error_;
  auto sequence = start(*dense, -1);
  feed(*dense, *sequence, {0, 0, 0, 0}, {0, 0, 0, 0}, "ingest");
  finishPrompt(*dense, *sequence);
  std::vector<float> q(8, 0.0F), out(8), lse(4);
  ASSERT_TRUE(dense->attend(0, *sequence, 2, q.data(), out.data(), lse.data()).isOk());
  EXPECT_EQ(out[1], 1.0F);
  EXPECT_FLOAT_EQ(lse[3], std::log(4.0F));
}

const std::string voted = types + R"mlir(
kvcache.method @m {
  kvcache.param @window = 1 : index
  kvcache.param @pooling = "avg" in {"avg", "max"}
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kv, %T = length : index, %W = @window : index) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %n = arith.constant 3 : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kv) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %B = budget : index, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %B last %W : (!s, index, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
})mlir";

TEST_F(ExecutionTest, WindowVotesPooledWithinThePrefix) {
  auto method = load(voted);
  ASSERT_TRUE(method) << error_;
  EXPECT_TRUE(method->hasTokenBudget());
  EXPECT_EQ(method->neededQueryRows(), 1);
  auto sequence = start(*method, 3);
  // The last query (1, 0) looks at row 1 most, next to its own; pooling lets the neighbours of row
  // 1 share that.
  std::vector<float> keys{0, 8, 0, 0, 4, 9};
  feed(*method, *sequence, keys, {0, 0, 0, 0, 0, 1}, "ingest");
  finishPrompt(*method, *sequence);
  rt::HeadContents found = contents(*sequence);
  EXPECT_EQ(found.source, (Sources{1, 2, 5})); // row 0 has one neighbour less, the others tie
  ASSERT_EQ(found.scores.size(), 6u);
  EXPECT_EQ(found.scores[5], static_cast<float>(infinity));
  double z[6], sum = 0;
  for (int i = 0; i < 6; ++i) {
    sum += z[i] = std::exp(keys[static_cast<size_t>(i)] / std::sqrt(2.0));
  }
  EXPECT_NEAR(found.scores[0], (z[0] + z[1]) / sum / 3, 1e-7);
  EXPECT_NEAR(found.scores[4], (z[3] + z[4]) / sum / 3, 1e-7); // the window's own column is outside
  EXPECT_EQ(found.k, (std::vector<float>{8, 0, 0, 0, 9, 0}));
  // Decode appends.
  step(*method, *sequence, 1, 1);
  EXPECT_EQ(contents(*sequence).source, (Sources{1, 2, 5, 6}));
}

TEST_F(ExecutionTest, BudgetsBelowWindowAndAboveTokens) {
  auto method = load(voted, {{"window", "4"}, {"pooling", "max"}});
  ASSERT_TRUE(method) << error_;
  EXPECT_EQ(method->parameters().at("window"), "4");
  for (auto [budget, expected] :
       {std::pair{int64_t{2}, Sources{1, 2}}, std::pair{int64_t{9}, Sources{0, 1, 2}}}) {
    auto sequence = start(*method, budget);
    feed(*method, *sequence, {1, 2, 3}, {1, 1, 1}, "ingest");
    finishPrompt(*method, *sequence);
    EXPECT_EQ(contents(*sequence).source, expected);
  }
  auto refused = method->createSequence({-1, 0});
  EXPECT_NE(refused.status().message().find("needs a budget"), std::string::npos);
}

TEST_F(ExecutionTest, ChunksGiveWhatOneChunkGives) {
  auto method = load(voted, {{"window", "2"}});
  ASSERT_TRUE(method) << error_;
  std::vector<float> keys{0, 8, 0, 3, 4, 9, 2}, queries{1, 0, 2, 1, 0, 0.5, 1};
  auto whole = start(*method, 4), parts = start(*method, 4);
  feed(*method, *whole, keys, queries, "prefill");
  feed(*method, *parts, {0, 8, 0}, {1, 0, 2}, "prefill");
  feed(*method, *parts, {3, 4, 9}, {1, 0, 0.5}, "ingest");
  feed(*method, *parts, {2}, {1}, "prefill");
  finishPrompt(*method, *whole);
  finishPrompt(*method, *parts);
  EXPECT_EQ(contents(*whole).source, contents(*parts).source);
  EXPECT_EQ(contents(*whole).scores, contents(*parts).scores);
}

TEST_F(ExecutionTest, ParameterRefused) {
  EXPECT_FALSE(load(voted, {{"pooling", "median"}}));
  EXPECT_NE(error_.find("pooling"), std::string::npos) << error_;
}

const std::string accumulated = types + R"mlir(
!kva = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @m {
  kvcache.state @kv : !kva
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kva) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kva, !k, !v, !p) -> !kva
    %o, %new = kvcache.attend %q over %c causal stats(sum(p, over(query, group))) : (!q, !kva) -> (!o, !s)
    %old = kvcache.column acc of %c : (!kva) -> !s
    %sum = kvcache.map %old, %new with arith.addf : (!s, !s) -> !s
    %d = kvcache.set_column %c, acc = %sum : (!kva, !s) -> !kva
    kvcache.next out = %o : !o, @kv = %d : !kva
  }
  kvcache.phase select (%kv = @kv : !kva, %B = budget : index) on(longer(@kv, budget)) {
    %two = arith.constant 2 : index
    %recent = arith.divui %B, %two : index
    %s = kvcache.column acc of %kv : (!kva) -> !s
    %keep = kvcache.select.topk %s budget %B last %recent : (!s, index, index) -> !keep
    kvcache.next keep = %keep : !keep
  }
})mlir";

TEST_F(ExecutionTest, AccumulatedAttentionEvictsAfterEveryStep) {
  auto method = load(accumulated);
  ASSERT_TRUE(method) << error_;
  EXPECT_EQ(method->neededQueryRows(), -1);
  auto sequence = start(*method, 3);
  // Queries of 0 spread evenly: acc = 2 (1 + 1/2 + 1/3), 2 (1/2 + 1/3), 2 / 3.
  feed(*method, *sequence, {1, 2, 3}, {0, 0, 0}, "prefill");
  finishPrompt(*method, *sequence);
  EXPECT_EQ(contents(*sequence).source, (Sources{0, 1, 2})); // not longer than the budget
  EXPECT_TRUE(contents(*sequence).scores.empty());
  std::vector<float> out = step(*method, *sequence, 6, 0);
  EXPECT_FLOAT_EQ(out[0], 3);                                // the step reads the uncut cache
  EXPECT_EQ(contents(*sequence).source, (Sources{0, 1, 3})); // the newest 1, then the heaviest 2
  step(*method, *sequence, 7, 5); // a large query looks at the largest keys, 7 and 6
  EXPECT_EQ(contents(*sequence).source, (Sources{0, 1, 4}));
  EXPECT_EQ(contents(*sequence).positions, (Sources{0, 1, 4}));
}

TEST_F(ExecutionTest, ForksGoTheirOwnWay) {
  auto method = load(accumulated);
  ASSERT_TRUE(method) << error_;
  auto sequence = start(*method, 2);
  feed(*method, *sequence, {1, 2}, {0, 0}, "prefill");
  finishPrompt(*method, *sequence);
  std::unique_ptr<rt::Sequence> copy = sequence->fork();
  step(*method, *copy, 3, 0);
  EXPECT_EQ(contents(*copy).source, (Sources{0, 2}));
  EXPECT_EQ(contents(*sequence).source, (Sources{0, 1}));
  EXPECT_EQ(sequence->length(), 2);
}

TEST_F(ExecutionTest, RowsAreCodedAtCommitAndExactBefore) {
  auto method = load(types + R"mlir(
!coded = !kvcache.cache<append, head:Hkv, token:?, {
  k [channel.post:D] = recent<affine<2, tile(token:group), min_f16, scale_f16, lsb(token)>, keep(0), block(group)>,
  v [channel.v:D] = recent<affine<2, tile(channel:2), min_f16, scale_f16, lsb(channel)>, keep(2), block(1)>, pos = i32}>
kvcache.method @m {
  kvcache.param @group = 16 : i64
  kvcache.state @kv : !coded
})mlir");
  ASSERT_TRUE(method) << error_;
  auto sequence = start(*method, -1);
  std::vector<float> xs;
  for (int i = 0; i < 15; ++i) {
    xs.push_back(static_cast<float>(i));
  }
  feed(*method, *sequence, xs, xs, "ingest");
  finishPrompt(*method, *sequence);
  rt::HeadContents found = contents(*sequence);
  EXPECT_EQ(found.codedK.rows, 0);
  EXPECT_EQ(found.codedV.rows, 13);
  EXPECT_EQ(found.v[13 * 2], 13);
  // The step that completes a block reads its keys exact.
  double sum = 0, weighted = 0;
  for (int i = 0; i < 16; ++i) {
    sum += std::exp(i / std::sqrt(2.0));
    weighted += i * std::exp(i / std::sqrt(2.0));
  }
  EXPECT_NEAR(feed(*method, *sequence, {15}, {1}, "decode")[0], weighted / sum, 1e-2);
  ASSERT_TRUE(method->stepEnd({sequence.get()}).isOk());
  found = contents(*sequence);
  EXPECT_EQ(found.codedK.rows, 16);
  EXPECT_EQ(found.codedK.groupShape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(found.k[0], 0);
  EXPECT_EQ(found.k[14 * 2], 15);            // 14 / 5 rounds to 3
  EXPECT_EQ(found.codedK.codes[2 * 8], 2);   // 8 / 5
  EXPECT_EQ(found.codedK.packed.size(), 8u); // 16 rows x 2 bits = one word a channel
  EXPECT_EQ(found.codedK.packed[0], 0x40);   // channel 0 of rows 0 .. 3: codes 0 0 0 1
  EXPECT_EQ(found.codedK.packed[1], 0x55);   // rows 4 .. 7: 1 1 1 1
  EXPECT_EQ(sequence->report(0).bitsK, 16 * 2 * 2 + 2 * 32);
}

TEST_F(ExecutionTest, KeysBeforeRopeReadAtTheirIndex) {
  auto method = load(types + R"mlir(
!raw = !kvcache.cache<append, head:Hkv, token:?, {k [channel.pre:D] = act, v [channel.v:D] = act, pos = i32}>
kvcache.method @m {
  kvcache.state @kv : !raw
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !kpre, %v = value : !v, %p = pos : !p, %kv = @kv : !raw) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!raw, !kpre, !v, !p) -> !raw
    %at = kvcache.iota token of %c : (!raw) -> !pT
    %view = kvcache.rope %c by %at : (!raw, !pT) -> !kv
    %o = kvcache.attend %q over %view causal : (!q, !kv) -> !o
    kvcache.next out = %o : !o, @kv = %c : !raw
  }
  kvcache.phase query (%q = query : !q, %kv = @kv : !raw) {
    %at = kvcache.iota token of %kv : (!raw) -> !pT
    %view = kvcache.rope %kv by %at : (!raw, !pT) -> !kv
    %o = kvcache.attend %q over %view : (!q, !kv) -> !o
    kvcache.next out = %o : !o
  }
})mlir");
  ASSERT_TRUE(method) << error_;
  EXPECT_TRUE(method->needsPreRopeKeys());
  auto sequence = start(*method, -1);
  // Keys are given after RoPE at positions 0 and 1, so rotating back and to the index changes
  // nothing.
  feed(*method, *sequence, {2, 3}, {0, 0}, "prefill");
  finishPrompt(*method, *sequence);
  rt::HeadContents found = contents(*sequence);
  EXPECT_EQ(found.positions, (Sources{0, 1}));
  EXPECT_NEAR(found.k[2], 3, 1e-6);
  EXPECT_NEAR(found.k[3], 0, 1e-6);
}

TEST_F(ExecutionTest, CalibratedFactorsAreNeededAndUsed) {
  auto method = load(types + R"mlir(
!coeff = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = factor<1, act>, v [channel.v:D] = act, pos = i32}>
!mean = !kvcache.tensor<head:Hkv, channel.post:D, f32>
!basis = !kvcache.tensor<head:Hkv, channel.post:D, rank:1, f32>
!other = !kvcache.tensor<head:Hkv, token:?, channel.other:D, f32>
!cov = !kvcache.tensor<head:Hkv, channel.post:D, channel.other:D, f32>
!w = !kvcache.tensor<head:Hkv, rank:D, f32>
!vec = !kvcache.tensor<head:Hkv, channel.post:D, rank:D, f32>
!kc = !kvcache.tensor<head:Hkv, token:?, channel.post:D, f32>
kvcache.method @m {
  kvcache.artefact @mean : !mean
  kvcache.artefact @basis : !basis
  kvcache.state @kv : !coeff fixed {k = [@basis, @mean]}
  kvcache.phase calibrate (%k = key : !kT) {
    %zero = arith.constant 0 : i64
    %one = arith.constant 1 : i64
    %mean = kvcache.reduce mean %k over [token] : (!kT) -> !mean
    %c = kvcache.map %k, %mean with arith.subf : (!kT, !mean) -> !kc
    %t = kvcache.relabel %c : (!kc) -> !other
    %cov = kvcache.contract %c, %t over [token] : (!kc, !other) -> !cov
    %values, %vectors = kvcache.eigh %cov : (!cov) -> (!w, !vec)
    %basis = kvcache.slice %vectors along rank from %zero size %one : (!vec, i64, i64) -> !basis
    kvcache.next @mean = %mean : !mean, @basis = %basis : !basis
  }
})mlir");
  ASSERT_TRUE(method) << error_;
  EXPECT_TRUE(method->needsCalibration());
  EXPECT_FALSE(method->createSequence({-1, 0}).isOk());
  std::vector<float> k{1, 2, 3, 2, 5, 2}; // they vary along channel 0; the mean is (3, 2)
  std::vector<int32_t> positions{0, 1, 2};
  rt::LayerRows rows;
  rows.rows = 3;
  rows.k = rows.v = k.data();
  rows.positions = positions.data();
  ASSERT_TRUE(method->calibrate(0, rows).isOk());
  Status status = method->finishCalibration();
  ASSERT_TRUE(status.isOk()) << status.message();
  EXPECT_FALSE(method->needsCalibration());
  auto sequence = start(*method, -1);
  feed(*method, *sequence, {7}, {0}, "ingest"); // the key (7, 0)
  finishPrompt(*method, *sequence);
  EXPECT_EQ(contents(*sequence).k, (std::vector<float>{7, 2}));
  EXPECT_FALSE(contents(*sequence).kCoded);
  EXPECT_EQ(sequence->report(0).bitsK, 32);
}

TEST_F(ExecutionTest, MergedEntriesAreCounted) {
  auto method = load(types + R"mlir(
!ke = !kvcache.tensor<head:Hkv, token.ev:?, channel.v:D, act>
!kk = !kvcache.tensor<head:Hkv, token.keep:?, channel.v:D, act>
!se = !kvcache.tensor<head:Hkv, token.ev:?, f32>
!drop = !kvcache.index<head:Hkv, token.ev:? of token>
!to = !kvcache.index<head:Hkv, token.ev:? of token.keep>
kvcache.method @m {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %s = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase compress (%kv = @kv : !kv, %keep = keep : !keep) {
    %drop = kvcache.select.complement %keep of %kv : (!keep, !kv) -> !drop
    %v = kvcache.column v of %kv : (!kv) -> !vT
    %kept = kvcache.gather %v at %keep : (!vT, !keep) -> !kk
    %dropped = kvcache.gather %v at %drop : (!vT, !drop) -> !ke
    %d, %to = kvcache.score.nearest l2 %dropped, %kept along token.keep : (!ke, !kk) -> (!se, !to)
    %w = kvcache.map "select(d < 100, 1, 0)" (d = %d) : (!se) -> !se
    %m = kvcache.merge.into %dropped, %kept at %to weight %w : (!ke, !kk, !to, !se) -> !kk
    %c = kvcache.gather %kv at %keep : (!kv, !keep) -> !kv
    %new = kvcache.relabel %m : (!kk) -> !vT
    %r = kvcache.set_column %c, v = %new : (!kv, !vT) -> !kv
    kvcache.next @kv = %r : !kv
  }
})mlir");
  ASSERT_TRUE(method) << error_;
  auto sequence = start(*method, 2);
  feed(*method, *sequence, {1, 9, 200, 8}, {0, 0, 0, 0},
       "ingest"); // 200 and 9 stay; 1 and 8 go into 9
  finishPrompt(*method, *sequence);
  step(*method, *sequence, 5, 0);
  rt::HeadContents found = contents(*sequence);
  EXPECT_EQ(found.source, (Sources{1, 2, 4}));
  EXPECT_EQ(found.counts, (std::vector<float>{3, 1, 1}));
  EXPECT_EQ(found.v, (std::vector<float>{6, 1, 200, 1, 5, 1}));
  // Within the budget nothing is dropped, so nothing is merged.
  auto small = start(*method, 4);
  feed(*method, *small, {1, 9}, {0, 0}, "ingest");
  finishPrompt(*method, *small);
  EXPECT_EQ(contents(*small).counts, (std::vector<float>{1, 1}));
}

TEST_F(ExecutionTest, SkippedLayersStayWhole) {
  geometry_.layers = 2;
  auto method = load(types + R"mlir(
kvcache.method @m {
  kvcache.param @skip = [0]
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) layers(except(@skip)) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %s = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    kvcache.next score = %s : !s
  }
})mlir");
  ASSERT_TRUE(method) << error_;
  auto sequence = start(*method, 1);
  std::vector<float> rows{3, 0, 1, 0};
  std::vector<int32_t> positions{0, 1};
  rt::LayerRows given;
  given.rows = 2;
  given.k = given.v = rows.data();
  given.positions = positions.data();
  for (int64_t layer = 0; layer < 2; ++layer) {
    ASSERT_TRUE(method->ingest(layer, {sequence.get()}, {given}).isOk());
  }
  finishPrompt(*method, *sequence);
  EXPECT_EQ(sequence->report(0).keptRows, (std::vector<int64_t>{2}));
  EXPECT_EQ(sequence->report(1).keptRows, (std::vector<int64_t>{1}));
}

TEST_F(ExecutionTest, ErrorsNameLayerAndRole) {
  auto method = load(accumulated);
  ASSERT_TRUE(method) << error_;
  auto sequence = start(*method, 2);
  float x[2] = {1, 2};
  int32_t position = 0;
  rt::LayerRows rows;
  rows.rows = 1;
  rows.k = rows.v = x;
  rows.positions = &position;
  EXPECT_NE(method->ingest(0, {sequence.get()}, {rows}).message().find("layer 0: no queries given"),
            std::string::npos);
  EXPECT_NE(
      method->ingest(3, {sequence.get()}, {rows}).message().find("expected a layer below 1, got 3"),
      std::string::npos);
}

} // namespace
} // namespace mlir::kvcache::reference
