// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the roles `request` and `ids` give to a phase: a number, a table as long as it is, one about
// the rows of an event or about all entries, and the ids of the rows; in chunks of a prompt, in
// steps, in forks.

#include "test/reference/OpFixture.h"

namespace mlir::kvcache::reference {
namespace {

/// Entries hold the id and the flag of their row; what stays after the prompt is up to `predicate`
/// over id, flag, entry number i, its flag in the table along tokens, the number `wanted`, and the
/// ends of two parts.
std::string methodThatKeeps(const std::string &predicate) {
  return R"mlir(
!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!k = !kvcache.tensor<head:Hkv, query:?, channel.post:D, act>
!v = !kvcache.tensor<head:Hkv, query:?, channel.v:D, act>
!p = !kvcache.tensor<query:?, i32>
!pT = !kvcache.tensor<token:?, i32>
!i = !kvcache.tensor<head:Hkv, token:?, i32>
!part = !kvcache.tensor<segment:?, i32>
!one = !kvcache.tensor<i32>
!o = !kvcache.tensor<head:Hkv, group:G, query:?, channel.v:D, act>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, id = i32, flag = i32}>
kvcache.method @m {
  kvcache.state @kv : !kv
  kvcache.phase prefill, decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %id = ids : !p, %f = request(flags) : !p, %kv = @kv : !kv) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p, id = %id, flag = %f : (!kv, !k, !v, !p, !p, !p) -> !kv
    %o = kvcache.attend %q over %c causal : (!q, !kv) -> !o
    kvcache.next out = %o : !o, @kv = %c : !kv
  }
  kvcache.phase select (%kv = @kv : !kv, %w = request(wanted) : index, %t = request(flags) : !pT, %parts = request(parts) : !part) on(prompt_end, step_end) {
    %id = kvcache.column id of %kv : (!kv) -> !i
    %flag = kvcache.column flag of %kv : (!kv) -> !i
    %i = kvcache.iota token of %kv : (!kv) -> !pT
    %first = kvcache.reduce min %parts over [segment] : (!part) -> !one
    %last = kvcache.reduce max %parts over [segment] : (!part) -> !one
    %keep = kvcache.select.where ")mlir" +
         predicate +
         R"mlir(" (id = %id, flag = %flag, i = %i, t = %t, w = %w, first = %first, last = %last) along token : (!i, !i, !pT, !pT, index, !one, !one) -> !keep
    kvcache.next keep = %keep : !keep
  }
})mlir";
}

/// Geometry: 1 layer, 1 head, D = 2. Ids of the prompt are 5, 7, 7, 9; its tables are those below.
class RequestRolesTest : public ReferenceTest {
protected:
  RequestRolesTest() { geometry_ = {1, 1, 1, 2, ::kvcache::abi::ElementType::F32, 0, {1.0F}}; }

  Status feed(rt::Execution &execution, rt::Sequence &sequence, std::vector<int32_t> ids,
              bool prompt) {
    std::vector<float> x(ids.size() * 2, 0.0F), out(ids.size() * 2);
    std::vector<int32_t> positions;
    for (size_t i = 0; i < ids.size(); ++i) {
      positions.push_back(static_cast<int32_t>(sequence.length() + static_cast<int64_t>(i)));
    }
    rt::LayerRows rows;
    rows.rows = static_cast<int64_t>(ids.size());
    rows.q = rows.k = rows.v = x.data();
    rows.positions = positions.data();
    rows.ids = ids.data();
    rows.out = out.data();
    return prompt ? execution.prefill(0, {&sequence}, {rows})
                  : execution.decode(0, {&sequence}, {rows});
  }
  static std::vector<int32_t> kept(const rt::Sequence &sequence) {
    auto found = sequence.contents(0, 0);
    EXPECT_TRUE(found.isOk()) << found.status().message();
    return (*found).source;
  }
  std::unique_ptr<rt::Sequence> start(rt::Execution &execution, rt::RequestTables tables) {
    auto sequence = execution.createSequence({-1, 0, std::move(tables)});
    EXPECT_TRUE(sequence.isOk()) << sequence.status().message();
    return std::move(*sequence);
  }
  /// What stays of the prompt, which is fed in two chunks.
  std::vector<int32_t> keptOfPrompt(const std::string &predicate) {
    method_ = load(methodThatKeeps(predicate));
    EXPECT_TRUE(method_) << error_;
    sequence_ = start(*method_, tables_);
    EXPECT_TRUE(feed(*method_, *sequence_, {5, 7, 7}, true).isOk());
    EXPECT_TRUE(feed(*method_, *sequence_, {9}, true).isOk());
    EXPECT_TRUE(method_->promptEnd({sequence_.get()}).isOk());
    return kept(*sequence_);
  }

  const rt::RequestTables tables_ = {
      {"wanted", {7, 1}}, {"flags", {1, 0, 0, 1}}, {"parts", {3, 2}}};
  std::unique_ptr<rt::Execution> method_;
  std::unique_ptr<rt::Sequence> sequence_;
};

using Sources = std::vector<int32_t>;

TEST_F(RequestRolesTest, EveryFormOfATable) {
  EXPECT_EQ(keptOfPrompt("id == 9"), (Sources{3}));               // ids of the second chunk
  EXPECT_EQ(keptOfPrompt("id == w"), (Sources{1, 2}));            // the first entry, as a number
  EXPECT_EQ(keptOfPrompt("flag == 1"), (Sources{0, 3}));          // rows of each chunk
  EXPECT_EQ(keptOfPrompt("t == 1"), (Sources{0, 3}));             // all entries
  EXPECT_EQ(keptOfPrompt("i >= first & i < last"), (Sources{2})); // as long as it is
  EXPECT_EQ(method_->neededRequests(), (std::vector<std::string>{"flags", "parts", "wanted"}));
}

TEST_F(RequestRolesTest, RowsOfStepsHaveIdsAndNoEntries) {
  EXPECT_EQ(keptOfPrompt("id == w | flag == 1 | t == 1"), (Sources{0, 1, 2, 3}));
  auto other = sequence_->fork();
  ASSERT_TRUE(other);
  for (auto [sequence, id] : {std::pair(sequence_.get(), 7), std::pair(other.get(), 8)}) {
    EXPECT_TRUE(feed(*method_, *sequence, {id}, false).isOk());
    EXPECT_TRUE(method_->stepEnd({sequence}).isOk());
  }
  EXPECT_EQ(kept(*sequence_), (Sources{0, 1, 2, 3, 4}));
  EXPECT_EQ(kept(*other), (Sources{0, 1, 2, 3})); // of id 8 and without a flag
}

TEST_F(RequestRolesTest, TablesThatAreMissingOrTooShort) {
  auto method = load(methodThatKeeps("i < 0"));
  ASSERT_TRUE(method) << error_;
  rt::RequestTables tables = tables_;
  tables.erase("parts");
  auto refused = method->createSequence({-1, 0, tables});
  ASSERT_FALSE(refused.isOk());
  EXPECT_NE(refused.status().message().find("method 'm' needs the request table 'parts'"),
            std::string::npos)
      << refused.status().message();

  tables = tables_;
  tables["flags"] = {1, 0};
  auto sequence = start(*method, tables);
  EXPECT_TRUE(feed(*method, *sequence, {5, 7}, true).isOk());
  EXPECT_NE(feed(*method, *sequence, {7}, true)
                .message()
                .find("request table 'flags': expected at least 3 entries, got 2"),
            std::string::npos);

  tables = tables_;
  tables["wanted"] = {};
  sequence = start(*method, tables);
  EXPECT_TRUE(feed(*method, *sequence, {5}, true).isOk());
  EXPECT_NE(method->promptEnd({sequence.get()})
                .message()
                .find("request table 'wanted': expected at least 1 entries, got 0"),
            std::string::npos);
}

} // namespace
} // namespace mlir::kvcache::reference
