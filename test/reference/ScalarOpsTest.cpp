// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every scalar op of arith and math that a region may hold, on values where a wrong one would show.

#include "test/reference/OpFixture.h"

namespace mlir::kvcache::reference {
namespace {

class ScalarTest : public ReferenceTest {
protected:
  /// `ops` compute %y : `out` from %x and %z : `in`.
  double run(const std::string &in, double x, double z, const std::string &ops,
             const std::string &out) {
    std::string from = "!kvcache.tensor<token:?, " + in + ">",
                to = "!kvcache.tensor<token:?, " + out + ">";
    RuntimeValue value = evaluate({{from, valueOf(tensorOf({{"token", 1}}, {x}))},
                                   {from, valueOf(tensorOf({{"token", 1}}, {z}))}},
                                  "%r = kvcache.map %a, %b : (" + from + ", " + from + ") -> " +
                                      to + " {\n^bb0(%x: " + in + ", %z: " + in + "):\n" + ops +
                                      "\nkvcache.yield %y : " + out + "\n}",
                                  to);
    auto *tensor = std::get_if<std::shared_ptr<const TensorValue>>(&value);
    return tensor ? (*tensor)->tensor.values[0] : std::nan("");
  }
  double f32(const std::string &op, double x, double z) {
    return run("f32", x, z, "%y = " + op + " %x, %z : f32", "f32");
  }
  double f32(const std::string &op, double x) {
    return run("f32", x, 0, "%y = " + op + " %x : f32", "f32");
  }
  double i32(const std::string &op, double x, double z) {
    return run("i32", x, z, "%y = " + op + " %x, %z : i32", "i32");
  }
  double compare(const std::string &type, const std::string &op, double x, double z) {
    return run(type, x, z, "%y = " + op + ", %x, %z : " + type, "i1");
  }
};

TEST_F(ScalarTest, FloatsOfTwo) {
  const std::tuple<const char *, double, double, double> cases[] = {
      {"arith.addf", 2, 0.5, 2.5},   {"arith.subf", 2, 0.5, 1.5},
      {"arith.mulf", 2, 0.5, 1},     {"arith.divf", 1, 4, 0.25},
      {"arith.remf", -5.5, 2, -1.5}, {"arith.maximumf", 2, 3, 3},
      {"arith.minimumf", 2, 3, 2},   {"arith.maxnumf", 2, 3, 3},
      {"arith.minnumf", 2, 3, 2},    {"math.powf", 2, 10, 1024},
      {"math.copysign", 3, -1, -3},  {"math.atan2", 1, 0, std::atan2(1, 0)},
      {"arith.divf", 1, 0, infinity}};
  for (auto [op, x, z, expected] : cases) {
    EXPECT_EQ(f32(op, x, z), expected) << op;
  }
  EXPECT_TRUE(std::isnan(f32("arith.maximumf", std::nan(""), 1)));
  EXPECT_TRUE(std::isnan(f32("arith.minimumf", 1, std::nan(""))));
  EXPECT_EQ(f32("arith.maxnumf", std::nan(""), 1), 1);
  EXPECT_EQ(run("f32", 2, 3, "%y = math.fma %x, %z, %x : f32", "f32"), 8);
}

TEST_F(ScalarTest, FloatsOfOne) {
  const std::tuple<const char *, double, double> cases[] = {{"arith.negf", 2, -2},
                                                            {"math.absf", -2, 2},
                                                            {"math.sqrt", 9, 3},
                                                            {"math.rsqrt", 4, 0.5},
                                                            {"math.cbrt", 27, 3},
                                                            {"math.exp", 1, std::exp(1)},
                                                            {"math.exp2", 5, 32},
                                                            {"math.expm1", 1e-9, std::expm1(1e-9)},
                                                            {"math.log", 5, std::log(5)},
                                                            {"math.log2", 32, 5},
                                                            {"math.log10", 1000, 3},
                                                            {"math.log1p", 1e-9, std::log1p(1e-9)},
                                                            {"math.floor", -1.5, -2},
                                                            {"math.ceil", -1.5, -1},
                                                            {"math.trunc", -1.5, -1},
                                                            {"math.round", 2.5, 3},
                                                            {"math.roundeven", 2.5, 2},
                                                            {"math.roundeven", 3.5, 4},
                                                            {"math.tanh", 2, std::tanh(2)},
                                                            {"math.sin", 2, std::sin(2)},
                                                            {"math.cos", 2, std::cos(2)},
                                                            {"math.tan", 2, std::tan(2)},
                                                            {"math.atan", 2, std::atan(2)},
                                                            {"math.erf", 0.5, std::erf(0.5)}};
  for (auto [op, x, expected] : cases) {
    EXPECT_NEAR(f32(op, x), expected, 1e-12) << op;
  }
}

TEST_F(ScalarTest, Integers) {
  const std::tuple<const char *, double, double, double> cases[] = {
      {"arith.addi", 7, -9, -2},
      {"arith.subi", 7, 9, -2},
      {"arith.muli", -7, 3, -21},
      {"arith.divsi", -7, 2, -3},
      {"arith.floordivsi", -7, 2, -4},
      {"arith.ceildivsi", -7, 2, -3},
      {"arith.ceildivsi", 7, 2, 4},
      {"arith.remsi", -7, 2, -1},
      {"arith.divui", -2, 2, 2147483647},
      {"arith.ceildivui", 7, 2, 4},
      {"arith.remui", -1, 10, 5},
      {"arith.minsi", -1, 1, -1},
      {"arith.maxsi", -1, 1, 1},
      {"arith.minui", -1, 1, 1},
      {"arith.maxui", -1, 1, -1},
      {"arith.andi", 6, 3, 2},
      {"arith.ori", 6, 3, 7},
      {"arith.xori", 6, 3, 5},
      {"arith.shli", 3, 4, 48},
      {"arith.shrsi", -8, 1, -4},
      {"arith.shrui", -8, 1, 2147483644},
      {"arith.divsi", -2147483648.0, -1, -2147483648.0}};
  for (auto [op, x, z, expected] : cases) {
    EXPECT_EQ(i32(op, x, z), expected) << op;
  }
  EXPECT_EQ(run("i32", -5, 0, "%y = math.absi %x : i32", "i32"), 5);
  EXPECT_EQ(run("i32", 13, 0, "%y = math.ctpop %x : i32", "i32"), 3);
  EXPECT_EQ(run("i32", -2, 0, "%y = math.ctpop %x : i32", "i32"), 31);
}

TEST_F(ScalarTest, WhatHasNoResultIsAnError) {
  for (const char *op : {"arith.divsi", "arith.divui", "arith.remsi", "arith.remui"}) {
    i32(op, 1, 0);
    EXPECT_NE(status_.message().find("division by zero"), std::string::npos) << op;
  }
  i32("arith.shli", 1, 32);
  EXPECT_NE(status_.message().find("shift"), std::string::npos);
  run("f32", 2147483648.0, 0, "%y = arith.fptosi %x : f32 to i32", "i32");
  EXPECT_NE(status_.message().find("does not fit"), std::string::npos);
  run("f32", -1, 0, "%y = arith.fptoui %x : f32 to i32", "i32");
  EXPECT_NE(status_.message().find("does not fit"), std::string::npos);
}

TEST_F(ScalarTest, ComparesFloats) {
  const std::tuple<const char *, int, int, int, int> cases[] = {
      // less, equal, greater, not a number
      {"oeq", 0, 1, 0, 0}, {"ogt", 0, 0, 1, 0}, {"oge", 0, 1, 1, 0},  {"olt", 1, 0, 0, 0},
      {"ole", 1, 1, 0, 0}, {"one", 1, 0, 1, 0}, {"ord", 1, 1, 1, 0},  {"ueq", 0, 1, 0, 1},
      {"ugt", 0, 0, 1, 1}, {"uge", 0, 1, 1, 1}, {"ult", 1, 0, 0, 1},  {"ule", 1, 1, 0, 1},
      {"une", 1, 0, 1, 1}, {"uno", 0, 0, 0, 1}, {"true", 1, 1, 1, 1}, {"false", 0, 0, 0, 0}};
  for (auto [name, less, equal, greater, unordered] : cases) {
    std::string op = std::string("arith.cmpf ") + name;
    EXPECT_EQ(compare("f32", op, 1, 2), less) << name;
    EXPECT_EQ(compare("f32", op, 2, 2), equal) << name;
    EXPECT_EQ(compare("f32", op, 3, 2), greater) << name;
    EXPECT_EQ(compare("f32", op, std::nan(""), 2), unordered) << name;
  }
}

TEST_F(ScalarTest, ComparesIntegers) {
  const std::tuple<const char *, int, int, int> cases[] = {
      // -1 against 1, equal, 1 against -1
      {"eq", 0, 1, 0},  {"ne", 1, 0, 1},  {"slt", 1, 0, 0}, {"sle", 1, 1, 0}, {"sgt", 0, 0, 1},
      {"sge", 0, 1, 1}, {"ult", 0, 0, 1}, {"ule", 0, 1, 1}, {"ugt", 1, 0, 0}, {"uge", 1, 1, 0}};
  for (auto [name, below, equal, above] : cases) {
    std::string op = std::string("arith.cmpi ") + name;
    EXPECT_EQ(compare("i32", op, -1, 1), below) << name;
    EXPECT_EQ(compare("i32", op, 1, 1), equal) << name;
    EXPECT_EQ(compare("i32", op, 1, -1), above) << name;
  }
}

TEST_F(ScalarTest, Conversions) {
  EXPECT_EQ(run("f32", -2.7, 0, "%y = arith.fptosi %x : f32 to i32", "i32"), -2);
  EXPECT_EQ(run("f32", 4294967295.0, 0, "%y = arith.fptoui %x : f32 to i32", "i32"), -1);
  EXPECT_EQ(run("i32", -3, 0, "%y = arith.sitofp %x : i32 to f32", "f32"), -3);
  EXPECT_EQ(run("i32", -1, 0, "%y = arith.uitofp %x : i32 to f32", "f32"), 4294967295.0);
  EXPECT_EQ(run("i32", -1, 0, "%y = arith.extsi %x : i32 to i64", "i64"), -1);
  EXPECT_EQ(run("i32", -1, 0, "%y = arith.extui %x : i32 to i64", "i64"), 4294967295.0);
  EXPECT_EQ(run("i64", 4294967298.0, 0, "%y = arith.trunci %x : i64 to i32", "i32"), 2);
  EXPECT_EQ(run("i32", -1, 0,
                "%w = arith.index_cast %x : i32 to index\n%y = arith.index_cast %w : index to i64",
                "i64"),
            -1);
  EXPECT_EQ(
      run("i32", -1, 0,
          "%w = arith.index_castui %x : i32 to index\n%y = arith.index_cast %w : index to i64",
          "i64"),
      4294967295.0);
  EXPECT_EQ(run("f32", 0.1, 0, "%w = arith.truncf %x : f32 to f16\n%y = arith.extf %w : f16 to f32",
                "f32"),
            0.0999755859375);
  EXPECT_EQ(run("f32", 1, 2, "%c = arith.cmpf olt, %x, %z : f32\n%y = arith.uitofp %c : i1 to f32",
                "f32"),
            1);
  EXPECT_EQ(run("f32", 1, 2, "%c = arith.cmpf olt, %x, %z : f32\n%y = arith.sitofp %c : i1 to f32",
                "f32"),
            -1);
  EXPECT_EQ(run("f32", 1, 2,
                "%c = arith.cmpf ogt, %x, %z : f32\n%y = arith.select %c, %x, %z : f32", "f32"),
            2);
}

} // namespace
} // namespace mlir::kvcache::reference
