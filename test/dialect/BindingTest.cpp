// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Symbols are bound wherever they stand, and nothing that is merely spelled alike changes.

#include "dialect/Binding.h"

#include "dialect/KVCacheDialect.h"
#include "dialect/PrimitiveOps.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace mlir::kvcache;

namespace {

class Binding : public ::testing::Test {
protected:
  Binding() { context.loadDialect<KVCacheDialect, func::FuncDialect>(); }

  Type type(StringRef text) { return parseType(text, &context); }

  MLIRContext context;
  SymbolValues values{{{"Hkv", 8}, {"D", 128}, {"rank", 64}, {"bits", 4}, {"group", 32}},
                      {{"clip", 0.9}},
                      {{"fn", "max"}},
                      "f16"};
};

TEST_F(Binding, AxesAndElements) {
  EXPECT_EQ(bindSymbols(type("!kvcache.tensor<head:Hkv, token:?, channel.post:D, act>"), values),
            type("!kvcache.tensor<head:8, token:?, channel.post:128, f16>"));
  EXPECT_EQ(bindSymbols(type("!kvcache.index<head:Hkv, token.keep:? of token>"), values),
            type("!kvcache.index<head:8, token.keep:? of token>"));
}

TEST_F(Binding, StorageTermsOfCaches) {
  EXPECT_EQ(bindSymbols(type("!kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = "
                             "rotated<affine<bits, "
                             "tile(channel:group), zp_i16, scale_f16, clip(clip), lsb(channel)>, "
                             "hadamard>, v [channel.v:D] = "
                             "factor<rank, act>, pos = i32}>"),
                        values),
            type("!kvcache.cache<append, head:8, token:?, {k [channel.post:128] = "
                 "rotated<affine<4, tile(channel:32), zp_i16, "
                 "scale_f16, clip(0.9), lsb(channel)>, hadamard>, v [channel.v:128] = factor<64, "
                 "f16>, pos = i32}>"));
}

TEST_F(Binding, AParameterNeverRenamesAnAxis) {
  EXPECT_EQ(bindSymbols(type("!kvcache.tensor<channel.rank:D, rank:rank, f32>"), values),
            type("!kvcache.tensor<channel.rank:128, rank:64, f32>"));
}

TEST_F(Binding, UnknownSymbolsStayAndAreFound) {
  Type left = bindSymbols(type("!kvcache.tensor<layer:L, head:Hkv, recent<affine<k_bits, "
                               "tile(channel:D), min_f16, scale_f16, "
                               "lsb(channel)>, keep(0), block(window)>>"),
                          values);
  EXPECT_EQ(freeSymbols(left), (SmallVector<std::string>{"L", "k_bits", "window"}));
  EXPECT_EQ(freeSymbols(type("!kvcache.tensor<act>")), SmallVector<std::string>{"act"});
}

TEST_F(Binding, OpsTheirRegionsAndClauses) {
  auto module = parseSourceString<ModuleOp>(R"mlir(
    func.func @f(%s: !kvcache.tensor<head:Hkv, token:?, f32>, %n: index) -> !kvcache.tensor<head:Hkv, token:?, f32> {
      %0 = kvcache.pool fn %s over [token] size %n : (!kvcache.tensor<head:Hkv, token:?, f32>, index) -> !kvcache.tensor<head:Hkv, token:?, f32>
      return %0 : !kvcache.tensor<head:Hkv, token:?, f32>
    })mlir",
                                            &context);
  ASSERT_TRUE(module);
  bindSymbols(module.get(), values);
  EXPECT_TRUE(succeeded(module->verify()));
  module->walk([&](PoolOp pool) {
    EXPECT_EQ(pool.getFunction(), "max");
    EXPECT_EQ(pool.getInput().getType(), type("!kvcache.tensor<head:8, token:?, f32>"));
  });
}

} // namespace
