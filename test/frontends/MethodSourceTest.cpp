// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names become methods: shipped ones, files, compositions and bases, with one message when they do
// not.

#include "frontends/MethodSource.h"

#include "dialect/MethodOps.h"
#include "mlir/IR/Diagnostics.h"
#include "gtest/gtest.h"

#include <cstdio>
#include <fstream>

using namespace mlir;
using namespace mlir::kvcache;

namespace {

/// Loads with the diagnostics collected as "location: message" text.
class MethodSource : public ::testing::Test {
protected:
  FailureOr<LoadedMethods> load(const std::string &source,
                                const std::map<std::string, std::string> &overrides = {}) {
    ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
      std::string text;
      llvm::raw_string_ostream os(text);
      os << diagnostic.getLocation() << ": " << diagnostic;
      messages.push_back(text);
    });
    return loadMethods(context, source, overrides);
  }

  /// A file in the working folder, removed with the test.
  std::string file(const std::string &name, const std::string &text) {
    std::ofstream(name) << text;
    files.push_back(name);
    return name;
  }

  void TearDown() override {
    for (const std::string &name : files) {
      std::remove(name.c_str());
    }
  }

  MLIRContext context;
  std::vector<std::string> messages, files;
};

TEST_F(MethodSource, EveryShippedMethodLoadsUnderItsFileName) {
  ASSERT_GE(shippedMethodNames().size(), 12u);
  for (const std::string &name : shippedMethodNames()) {
    FailureOr<LoadedMethods> loaded = load(name);
    ASSERT_TRUE(succeeded(loaded)) << name << ": " << (messages.empty() ? "" : messages.front());
    EXPECT_EQ(loaded->parts, std::vector<std::string>{name});
    auto method = loaded->module->lookupSymbol<MethodOp>(name);
    ASSERT_TRUE(method) << name;
    EXPECT_FALSE(method.getInfoText("family").empty()) << name;
  }
}

TEST_F(MethodSource, CompositionKeepsTheOrder) {
  FailureOr<LoadedMethods> loaded = load("snapkv + kivi");
  ASSERT_TRUE(succeeded(loaded));
  EXPECT_EQ(loaded->parts, (std::vector<std::string>{"snapkv", "kivi"}));
  EXPECT_TRUE(loaded->bases.empty());
}

TEST_F(MethodSource, BaseComesFromTheParameterOrItsOverride) {
  FailureOr<LoadedMethods> plain = load("tome-merge");
  ASSERT_TRUE(succeeded(plain));
  EXPECT_EQ(plain->bases, std::vector<std::string>{"knorm"});
  FailureOr<LoadedMethods> other = load("tome-merge", {{"base", "snapkv"}});
  ASSERT_TRUE(succeeded(other));
  EXPECT_EQ(other->bases, std::vector<std::string>{"snapkv"});
  EXPECT_TRUE(other->module->lookupSymbol<MethodOp>("snapkv"));
}

TEST_F(MethodSource, FileMayComposeShippedMethods) {
  std::string path = file("own+composed.mlir", "kvcache.compose @both = [@h2o, @kivi]\n");
  FailureOr<LoadedMethods> loaded = load(path);
  ASSERT_TRUE(succeeded(loaded)) << messages.front();
  EXPECT_EQ(loaded->parts, (std::vector<std::string>{"h2o", "kivi"}));
}

TEST_F(MethodSource, UnknownNameSaysWhatThereIs) {
  EXPECT_TRUE(failed(load("snapkw")));
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].find("loc(unknown): unknown method 'snapkw'"), 0u) << messages[0];
  EXPECT_NE(messages[0].find("did you mean 'snapkv'?"), std::string::npos);
}

TEST_F(MethodSource, MissingFileIsNamed) {
  EXPECT_TRUE(failed(load("absent.mlir")));
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_NE(messages[0].find("absent.mlir"), std::string::npos);
}

TEST_F(MethodSource, ErrorsKeepTheLinesOfTheFile) {
  std::string path =
      file("broken.mlir", "// a comment\nkvcache.method @m {\n  kvcache.state @kv : !nothing\n}\n");
  EXPECT_TRUE(failed(load(path)));
  ASSERT_FALSE(messages.empty());
  EXPECT_NE(messages[0].find("broken.mlir\":3:"), std::string::npos) << messages[0];
}

TEST_F(MethodSource, ErrorsKeepTheColumnsOfTheFirstLine) {
  std::string path = file("short.mlir", "kvcache.method @m {");
  EXPECT_TRUE(failed(load(path)));
  ASSERT_FALSE(messages.empty());
  EXPECT_NE(messages[0].find("short.mlir\":1:18)"), std::string::npos) << messages[0];
}

TEST_F(MethodSource, OpsKeepTheColumnsOfTheFirstLine) {
  std::string path = file("line.mlir", "kvcache.method @m { kvcache.param @n = 3 : index }");
  FailureOr<LoadedMethods> loaded = load(path);
  ASSERT_TRUE(succeeded(loaded)) << messages.front();
  auto method = loaded->module->lookupSymbol<MethodOp>("m");
  auto place = dyn_cast<FileLineColLoc>((*method.getOps<ParamOp>().begin()).getLoc());
  ASSERT_TRUE(place);
  EXPECT_EQ(place.getLine(), 1u);
  EXPECT_EQ(place.getColumn(), 21u);
}

TEST_F(MethodSource, FileWithSeveralMethodsIsAmbiguous) {
  std::string path = file("two.mlir", "kvcache.method @a {\n}\nkvcache.method @b {\n}\n");
  EXPECT_TRUE(failed(load(path)));
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_NE(messages[0].find("got 2 methods"), std::string::npos);
}

TEST_F(MethodSource, MethodMayNotBeItsOwnBase) {
  std::string path =
      file("loop.mlir", "kvcache.method @loop {\n  kvcache.param @base = \"loop\" : method\n}\n");
  EXPECT_TRUE(failed(load(path)));
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_NE(messages[0].find("is its own base"), std::string::npos);
}

} // namespace
