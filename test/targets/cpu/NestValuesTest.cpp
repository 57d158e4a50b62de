// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loop nests of map, reduce, contract and pool against plain loops, on ragged heads.

#include "test/targets/cpu/NestCase.h"

#include <cmath>

using namespace mlir::kvcache::cpu;
using namespace mlir::kvcache::cpu::test;

static constexpr int64_t tokenCounts[] = {1, 15, 17, 1000};

TEST(NestValues, NormOverChannelsOfRaggedRows) {
  NestCase nest(
      {"!kvcache.tensor<head:2, token:?, channel.post:80, f16>"},
      {"!kvcache.tensor<head:2, token:?, f32>"},
      R"mlir(%0 = kvcache.map "x * x" (x = %a0) : (!kvcache.tensor<head:2, token:?, channel.post:80, f16>) -> !kvcache.tensor<head:2, token:?, channel.post:80, f32>
                   %1 = kvcache.reduce sum %0 over [channel.post] : (!kvcache.tensor<head:2, token:?, channel.post:80, f32>) -> !kvcache.tensor<head:2, token:?, f32>
                   %2 = kvcache.map "-sqrt(x)" (x = %1) : (!kvcache.tensor<head:2, token:?, f32>) -> !kvcache.tensor<head:2, token:?, f32>
                   kvcache.kernel.yield %2 : !kvcache.tensor<head:2, token:?, f32>)mlir",
      {{"token", raggedAxis()}});
  ASSERT_TRUE(nest.compile());
  EXPECT_EQ(nest.result.kernel.grid, std::vector<std::string>{"2"});
  for (int64_t T : tokenCounts) {
    std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>((T + 1) / 2)};
    std::vector<float> x = randomFloats(2 * T * 80), out(2 * T, 99.0f);
    std::vector<_Float16> half(x.begin(), x.end());
    nest.run({{"in0", half.data()}, {"lengths", lengths.data()}, {"out0", out.data()}}, {{"T", T}},
             [&] {
               for (int64_t h = 0; h < 2; ++h) {
                 for (int64_t t = 0; t < T; ++t) {
                   double sum = 0;
                   for (int64_t c = 0; c < 80; ++c) {
                     double value = half[(h * T + t) * 80 + c];
                     sum += value * value;
                   }
                   double expected = t < lengths[h] ? -std::sqrt(sum) : 99.0;
                   ASSERT_NEAR(out[h * T + t], expected, 1e-5 * std::abs(expected))
                       << "T " << T << " head " << h << " token " << t;
                 }
               }
             });
  }
}

TEST(NestValues, GroupMeanThenPool) {
  for (int64_t G : {1, 4}) {
    std::string g = std::to_string(G);
    std::string grouped = "!kvcache.tensor<head:2, group:" + g + ", token:?, f32>",
                scores = "!kvcache.tensor<head:2, token:?, f32>";
    for (std::string fn : {"avg", "max"}) {
      NestCase nest({grouped, "index", "index"}, {scores},
                    "%0 = kvcache.pool " + fn + " %a0 over [token] size %a1 upto %a2 : (" +
                        grouped + ", index, index) -> " + grouped +
                        "\n%1 = kvcache.reduce mean %0 over [group] : (" + grouped + ") -> " +
                        scores + "\nkvcache.kernel.yield %1 : " + scores,
                    {{"token", raggedAxis()}});
      ASSERT_TRUE(nest.compile());
      for (int64_t T : tokenCounts) {
        int64_t upTo = T > 20 ? T - 9 : T;
        std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>(T)};
        std::vector<float> x = randomFloats(2 * G * T), out(2 * T);
        nest.run({{"in0", x.data()}, {"lengths", lengths.data()}, {"out0", out.data()}},
                 {{"T", T}, {"in1", 5}, {"in2", upTo}}, [&] {
                   for (int64_t h = 0; h < 2; ++h) {
                     for (int64_t t = 0; t < T; ++t) {
                       double mean = 0;
                       for (int64_t q = 0; q < G; ++q) {
                         double pooled = fn == "avg" ? 0.0 : -INFINITY;
                         for (int64_t j = std::max<int64_t>(t - 2, 0); j <= t + 2 && j < upTo;
                              ++j) {
                           double value = x[(h * G + q) * T + j];
                           pooled = fn == "avg" ? pooled + value / 5 : std::max(pooled, value);
                         }
                         mean += t < upTo ? pooled / static_cast<double>(G) : 0.0;
                       }
                       ASSERT_NEAR(out[h * T + t], mean, 1e-5)
                           << fn << " T " << T << " head " << h << " token " << t;
                     }
                   }
                 });
      }
    }
  }
}

TEST(NestValues, ReductionsShareOneLoopAndDividesByTheirResults) {
  const char *s = "!kvcache.tensor<head:3, token:?, f32>", *h = "!kvcache.tensor<head:3, f32>";
  std::string S = s, H = h, I = "!kvcache.index<head:3 of token>",
              N = "!kvcache.tensor<head:3, i32>";
  NestCase nest(
      {S}, {S, H, H, H, I, N},
      "%0 = kvcache.reduce sum %a0 over [token] : (" + S + ") -> " + H +
          "\n%1 = kvcache.reduce max %a0 over [token] : (" + S + ") -> " + H +
          "\n%2 = kvcache.reduce min %a0 over [token] : (" + S + ") -> " + H +
          "\n%3 = kvcache.reduce mean %a0 over [token] : (" + S + ") -> " + H +
          "\n%4 = kvcache.reduce argmax %a0 over [token] : (" + S + ") -> " + I +
          "\n%p = kvcache.map \"x > 0\" (x = %a0) : (" + S +
          ") -> !kvcache.tensor<head:3, token:?, i1>" +
          "\n%5 = kvcache.reduce count %p over [token] : (!kvcache.tensor<head:3, token:?, i1>) "
          "-> " +
          N + "\n%6 = kvcache.map \"exp(x - m) / (1 + abs(s))\" (x = %a0, m = %1, s = %0) : (" + S +
          ", " + H + ", " + H + ") -> " + S + "\nkvcache.kernel.yield %6, %1, %2, %3, %4, %5 : " +
          S + ", " + H + ", " + H + ", " + H + ", " + I + ", " + N,
      {{"token", raggedAxis()}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : {1, 15, 17, 1000, 3000}) {
    std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>(T / 2), 0};
    std::vector<float> x = randomFloats(3 * T), out(3 * T), max(3), min(3), mean(3);
    if (T > 16) {
      x[13] = x[3] = 9.0f; // a tie: the lower index wins
    }
    std::vector<int32_t> argmax(3), count(3);
    nest.run({{"in0", x.data()},
              {"lengths", lengths.data()},
              {"out0", out.data()},
              {"out1", max.data()},
              {"out2", min.data()},
              {"out3", mean.data()},
              {"out4", argmax.data()},
              {"out5", count.data()}},
             {{"T", T}}, [&] {
               for (int64_t head = 0; head < 3; ++head) {
                 double sum = 0, most = -INFINITY, least = INFINITY;
                 int64_t at = 0, positive = 0;
                 for (int64_t t = 0; t < lengths[head]; ++t) {
                   double value = x[head * T + t];
                   sum += value;
                   at = value > most ? t : at;
                   most = std::max(most, value);
                   least = std::min(least, value);
                   positive += value > 0;
                 }
                 EXPECT_EQ(max[head], static_cast<float>(most));
                 EXPECT_EQ(min[head], static_cast<float>(least));
                 EXPECT_EQ(argmax[head], at);
                 EXPECT_EQ(count[head], positive);
                 EXPECT_NEAR(mean[head], lengths[head] ? sum / lengths[head] : 0.0, 1e-5);
                 for (int64_t t = 0; t < lengths[head]; ++t) {
                   double expected = std::exp(x[head * T + t] - most) / (1 + std::abs(sum));
                   ASSERT_NEAR(out[head * T + t], expected, 1e-4 * expected)
                       << "T " << T << " token " << t;
                 }
               }
             });
  }
}

TEST(NestValues, ReduceOverHeadsIsOneTask) {
  std::string P = "!kvcache.tensor<head:4, group:2, token:?, f32>",
              S = "!kvcache.tensor<token:?, f32>";
  NestCase nest({P}, {S},
                "%0 = kvcache.reduce mean %a0 over [head, group] : (" + P + ") -> " + S +
                    "\nkvcache.kernel.yield %0 : " + S,
                {{"token", wordAxis("T")}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : tokenCounts) {
    std::vector<float> x = randomFloats(8 * T), out(T);
    nest.run({{"in0", x.data()}, {"out0", out.data()}}, {{"T", T}}, [&] {
      for (int64_t t = 0; t < T; ++t) {
        double sum = 0;
        for (int64_t row = 0; row < 8; ++row) {
          sum += x[row * T + t];
        }
        ASSERT_NEAR(out[t], sum / 8, 1e-5);
      }
    });
  }
}

TEST(NestValues, ContractWithABasis) {
  std::string X = "!kvcache.tensor<head:2, token:?, channel.post:48, f32>",
              M = "!kvcache.tensor<head:2, channel.post:48, f32>",
              B = "!kvcache.tensor<head:2, channel.post:48, rank:20, f32>",
              Y = "!kvcache.tensor<head:2, token:?, rank:20, f32>";
  NestCase nest({X, M, B}, {Y},
                "%0 = kvcache.map \"x - m\" (x = %a0, m = %a1) : (" + X + ", " + M + ") -> " + X +
                    "\n%1 = kvcache.contract %0, %a2 over [channel.post] : (" + X + ", " + B +
                    ") -> " + Y + "\nkvcache.kernel.yield %1 : " + Y,
                {{"token", raggedAxis()}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : {1, 17}) {
    std::vector<int32_t> lengths(2, static_cast<int32_t>(T));
    std::vector<float> x = randomFloats(2 * T * 48), m = randomFloats(2 * 48, 8),
                       b = randomFloats(2 * 48 * 20, 9), y(2 * T * 20);
    nest.run({{"in0", x.data()},
              {"in1", m.data()},
              {"in2", b.data()},
              {"lengths", lengths.data()},
              {"out0", y.data()}},
             {{"T", T}}, [&] {
               for (int64_t i = 0; i < 2 * T * 20; ++i) {
                 int64_t r = i % 20, row = i / 20, h = row / T;
                 double sum = 0;
                 for (int64_t c = 0; c < 48; ++c) {
                   sum += (static_cast<double>(x[row * 48 + c]) - m[h * 48 + c]) *
                          b[(h * 48 + c) * 20 + r];
                 }
                 ASSERT_NEAR(y[i], sum, 1e-4);
               }
             });
  }
}

TEST(NestValues, CovarianceOverTokens) {
  std::string X = "!kvcache.tensor<head:2, token:?, channel.post:24, f32>",
              Y = "!kvcache.tensor<head:2, token:?, channel.copy:24, f32>",
              C = "!kvcache.tensor<head:2, channel.post:24, channel.copy:24, f32>";
  NestCase nest({X}, {C},
                "%0 = kvcache.relabel %a0 : (" + X + ") -> " + Y +
                    "\n%1 = kvcache.contract %a0, %0 over [token] : (" + X + ", " + Y + ") -> " +
                    C + "\nkvcache.kernel.yield %1 : " + C,
                {{"token", raggedAxis()}});
  ASSERT_TRUE(nest.compile());
  int64_t T = 37;
  std::vector<int32_t> lengths{37, 20};
  std::vector<float> x = randomFloats(2 * T * 24), c(2 * 24 * 24);
  nest.run({{"in0", x.data()}, {"lengths", lengths.data()}, {"out0", c.data()}}, {{"T", T}}, [&] {
    for (int64_t i = 0; i < 2 * 24 * 24; ++i) {
      int64_t h = i / 576, a = i / 24 % 24, b = i % 24;
      double sum = 0;
      for (int64_t t = 0; t < lengths[h]; ++t) {
        sum += static_cast<double>(x[(h * T + t) * 24 + a]) * x[(h * T + t) * 24 + b];
      }
      ASSERT_NEAR(c[i], sum, 1e-4);
    }
  });
}

TEST(NestValues, NearestWithoutTheMatrix) {
  std::string A = "!kvcache.tensor<head:2, token.ev:?, channel.v:40, f32>",
              B = "!kvcache.tensor<head:2, token.keep:?, channel.v:40, f32>",
              P = "!kvcache.tensor<head:2, token.ev:?, token.keep:?, f32>",
              S = "!kvcache.tensor<head:2, token.ev:?, f32>",
              I = "!kvcache.index<head:2, token.ev:? of token.keep>";
  NestCase nest(
      {A, B}, {S, I},
      "%0 = kvcache.contract %a0, %a1 over [channel.v] : (" + A + ", " + B + ") -> " + P +
          "\n%1 = kvcache.reduce max %0 over [token.keep] : (" + P + ") -> " + S +
          "\n%2 = kvcache.reduce argmax %0 over [token.keep] : (" + P + ") -> " + I +
          "\nkvcache.kernel.yield %1, %2 : " + S + ", " + I,
      {{"token.ev", raggedAxis("E", "evLengths")}, {"token.keep", raggedAxis("K", "keepLengths")}});
  ASSERT_TRUE(nest.compile());
  for (int64_t E : {1, 17, 40}) {
    int64_t K = 23;
    std::vector<int32_t> ev{static_cast<int32_t>(E), static_cast<int32_t>((E + 1) / 2)},
        keep{23, 5};
    std::vector<float> a = randomFloats(2 * E * 40), b = randomFloats(2 * K * 40, 3), best(2 * E);
    std::vector<int32_t> at(2 * E);
    nest.run({{"in0", a.data()},
              {"in1", b.data()},
              {"evLengths", ev.data()},
              {"keepLengths", keep.data()},
              {"out0", best.data()},
              {"out1", at.data()}},
             {{"E", E}, {"K", K}}, [&] {
               for (int64_t h = 0; h < 2; ++h) {
                 for (int64_t e = 0; e < ev[h]; ++e) {
                   double most = -INFINITY;
                   int64_t where = 0;
                   for (int64_t j = 0; j < keep[h]; ++j) {
                     double dot = 0;
                     for (int64_t c = 0; c < 40; ++c) {
                       dot +=
                           static_cast<double>(a[(h * E + e) * 40 + c]) * b[(h * K + j) * 40 + c];
                     }
                     where = dot > most ? j : where;
                     most = std::max(most, dot);
                   }
                   ASSERT_NEAR(best[h * E + e], most, 1e-4);
                   ASSERT_EQ(at[h * E + e], where);
                 }
               }
             });
  }
}

TEST(NestValues, HadamardByItsFormula) {
  NestCase nest(
      {"!kvcache.tensor<head:2, token:?, channel.v:32, f32>"},
      {"!kvcache.tensor<head:2, token:?, channel.vh:32, f32>"},
      R"mlir(%i = kvcache.iota channel.v of %a0 : (!x) -> !n
                   %j = kvcache.relabel %i : (!n) -> !m
                   %H = kvcache.map %i, %j : (!n, !m) -> !H {
                     ^bb0(%a: i32, %b: i32):
                     %both = arith.andi %a, %b : i32
                     %bits = math.ctpop %both : i32
                     %one = arith.constant 1 : i32
                     %zero = arith.constant 0 : i32
                     %odd = arith.andi %bits, %one : i32
                     %is = arith.cmpi ne, %odd, %zero : i32
                     %plus = arith.constant 0.176776695 : f32
                     %minus = arith.negf %plus : f32
                     %v = arith.select %is, %minus, %plus : f32
                     kvcache.yield %v : f32
                   }
                   %0 = kvcache.contract %a0, %H over [channel.v] : (!x, !H) -> !y
                   kvcache.kernel.yield %0 : !y)mlir",
      {{"token", raggedAxis()}}, {}, {},
      "!x = !kvcache.tensor<head:2, token:?, channel.v:32, f32>\n!y = !kvcache.tensor<head:2, "
      "token:?, channel.vh:32, f32>\n!n = !kvcache.tensor<channel.v:32, i32>\n"
      "!m = !kvcache.tensor<channel.vh:32, i32>\n!H = !kvcache.tensor<channel.v:32, channel.vh:32, "
      "f32>\n");
  ASSERT_TRUE(nest.compile());
  int64_t T = 5;
  std::vector<int32_t> lengths{5, 5};
  std::vector<float> x = randomFloats(2 * T * 32), y(2 * T * 32);
  nest.run({{"in0", x.data()}, {"lengths", lengths.data()}, {"out0", y.data()}}, {{"T", T}}, [&] {
    for (int64_t row = 0; row < 2 * T; ++row) {
      for (int64_t j = 0; j < 32; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < 32; ++i) {
          sum += (__builtin_popcountll(i & j) % 2 ? -1 : 1) * 0.176776695 * x[row * 32 + i];
        }
        ASSERT_NEAR(y[row * 32 + j], sum, 1e-5);
      }
    }
  });
}
