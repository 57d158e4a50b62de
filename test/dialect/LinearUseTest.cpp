// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which programs may update caches in place, and what the others are told.

#include "dialect/LinearUse.h"

#include "dialect/KVCacheDialect.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace mlir::kvcache;

namespace {

constexpr const char *header = R"mlir(
!s = !kvcache.tensor<token:?, f32>
!q = !kvcache.tensor<query:?, channel.post:8, f32>
!pre = !kvcache.cache<append, token:?, {k [channel.pre:8] = f32, v [channel.post:8] = f32, pos = i32, acc = f32}>
!kv = !kvcache.cache<append, token:?, {k [channel.post:8] = f32, v [channel.post:8] = f32, pos = i32, acc = f32}>
!keep = !kvcache.index<token.keep:? of token>
func.func @f(%kv: !kv, %pre: !pre, %s: !s, %keep: !keep, %q: !q, %at: !kvcache.tensor<token:?, i32>, %c: i1) {
)mlir";

/// The message of the check on a function with this body; empty when it passes.
std::string check(const std::string &body) {
  MLIRContext context;
  context.loadDialect<KVCacheDialect, func::FuncDialect, scf::SCFDialect>();
  auto module = parseSourceString<ModuleOp>(header + body + "\nreturn\n}", &context);
  EXPECT_TRUE(module);
  std::string message;
  ScopedDiagnosticHandler handler(&context,
                                  [&](Diagnostic &diagnostic) { message += diagnostic.str(); });
  bool passed = module && succeeded(verifyLinearUse(*module));
  EXPECT_EQ(passed, message.empty());
  return message;
}

TEST(LinearUse, ReadsThenOneUpdate) {
  EXPECT_EQ(check(R"mlir(
    %a = kvcache.column acc of %kv : (!kv) -> !s
    %b = kvcache.map %a with arith.negf : (!s) -> !s
    %0 = kvcache.set_column %kv, acc = %b : (!kv, !s) -> !kv
    %1 = kvcache.gather %0 at %keep : (!kv, !keep) -> !kv)mlir"),
            "");
}

TEST(LinearUse, SecondUpdateOfOneVersion) {
  EXPECT_NE(check(R"mlir(
    %0 = kvcache.set_column %kv, acc = %s : (!kv, !s) -> !kv
    %1 = kvcache.gather %kv at %keep : (!kv, !keep) -> !kv)mlir")
                .find("'kvcache.gather' op updates a version of the cache that was updated before"),
            std::string::npos);
}

TEST(LinearUse, ReadAfterTheUpdate) {
  EXPECT_NE(check(R"mlir(
    %0 = kvcache.gather %kv at %keep : (!kv, !keep) -> !kv
    %o = kvcache.attend %q over %kv : (!q, !kv) -> !q)mlir")
                .find("'kvcache.attend' op reads a version of the cache that was updated before"),
            std::string::npos);
}

TEST(LinearUse, ReadThroughAViewAfterTheUpdate) {
  EXPECT_NE(check(R"mlir(
    %view = kvcache.rope %pre by %at : (!pre, !kvcache.tensor<token:?, i32>) -> !kv
    %0 = kvcache.gather %pre at %keep : (!pre, !keep) -> !pre
    %o = kvcache.attend %q over %view : (!q, !kv) -> !q)mlir")
                .find("'kvcache.attend' op reads"),
            std::string::npos);
}

TEST(LinearUse, BranchesExcludeEachOther) {
  EXPECT_EQ(check(R"mlir(
    %0 = scf.if %c -> !kv {
      %1 = kvcache.gather %kv at %keep : (!kv, !keep) -> !kv
      scf.yield %1 : !kv
    } else {
      %2 = kvcache.set_column %kv, acc = %s : (!kv, !s) -> !kv
      scf.yield %2 : !kv
    })mlir"),
            "");
}

TEST(LinearUse, ReadAfterAnUpdateInsideABranch) {
  EXPECT_NE(check(R"mlir(
    scf.if %c {
      %1 = kvcache.gather %kv at %keep : (!kv, !keep) -> !kv
    }
    %a = kvcache.column acc of %kv : (!kv) -> !s)mlir")
                .find("'kvcache.column' op reads"),
            std::string::npos);
}

} // namespace
