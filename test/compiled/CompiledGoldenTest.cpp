// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compiled attention in the decoder: the dense method, compiled for each model, reproduces the
// logits of other implementations, in prefill and step by step.

#include "test/model/GoldenLogits.h"
#include "tools/compiler/CompilerProvider.h"

using namespace kvcache::test;

static std::unique_ptr<Execution> compiled(const Geometry &geometry) {
  kvcache::tools::CompilerProvider provider;
  kvcache::tools::MethodRequest request;
  request.method = "dense";
  request.geometry = geometry;
  auto execution = provider.load(request);
  expectOk(execution.status());
  return execution.isOk() ? std::move(*execution) : nullptr;
}

TEST(CompiledGolden, bundled_model_prefill) {
  expectPrefillMatches(compiled, bundledModel(), 4, 512);
}
TEST(CompiledGolden, bundled_model_decode) { expectDecodeMatches(compiled, bundledModel()); }

class CompiledTinyModel : public testing::TestWithParam<const char *> {};

TEST_P(CompiledTinyModel, prefill_in_chunks_of_seven) {
  expectPrefillMatches(compiled, tinyModel(GetParam()), 2, 7);
}
TEST_P(CompiledTinyModel, decode) { expectDecodeMatches(compiled, tinyModel(GetParam())); }

INSTANTIATE_TEST_SUITE_P(Families, CompiledTinyModel, testing::ValuesIn(tinyModels));
