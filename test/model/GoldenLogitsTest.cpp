// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The decoder against logits of other implementations: the bundled model, and
// each family tiny.

#include "test/model/GoldenLogits.h"

using namespace kvcache::rt;
using namespace kvcache::test;

static std::unique_ptr<Execution> plain(const Geometry &geometry) {
  return std::make_unique<PlainAttention>(geometry);
}

TEST(GoldenLogits, bundled_model_prefill) { expectPrefillMatches(plain, bundledModel(), 4, 512); }
TEST(GoldenLogits, bundled_model_decode) { expectDecodeMatches(plain, bundledModel()); }

class TinyModel : public testing::TestWithParam<const char *> {};

TEST_P(TinyModel, prefill_in_one_chunk) {
  expectPrefillMatches(plain, tinyModel(GetParam()), 2, 512);
}
TEST_P(TinyModel, prefill_in_chunks_of_seven) {
  expectPrefillMatches(plain, tinyModel(GetParam()), 2, 7);
}
TEST_P(TinyModel, decode) { expectDecodeMatches(plain, tinyModel(GetParam())); }

INSTANTIATE_TEST_SUITE_P(Families, TinyModel, testing::ValuesIn(tinyModels));
