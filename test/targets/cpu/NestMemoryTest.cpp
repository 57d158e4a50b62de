// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loop nests that move rows (gather, slice, scatter), read a paged store or call the eigensolver,
// against plain loops.

#include "test/targets/cpu/NestCase.h"
#include "test/targets/cpu/PagedStore.h"

#include <cmath>

using namespace mlir::kvcache::cpu;
using namespace mlir::kvcache::cpu::test;

/// The loader's eigensolver, as far as a test needs it: diagonal matrices.
extern "C" int32_t kvcache_symmetric_eigen(int64_t n, const float *matrix, float *values,
                                           float *vectors) {
  for (int64_t i = 0; i < n; ++i) {
    values[i] = matrix[(n - 1 - i) * n + (n - 1 - i)];
    for (int64_t j = 0; j < n; ++j) {
      vectors[j * n + i] = j == n - 1 - i ? 1.0f : 0.0f;
    }
  }
  return matrix[0] < 0 ? 1 : 0;
}

TEST(NestMemory, GatherSliceIota) {
  std::string X = "!kvcache.tensor<head:2, token:?, channel.v:20, f32>",
              I = "!kvcache.index<head:2, token.keep:? of token>",
              Y = "!kvcache.tensor<head:2, token.keep:?, channel.v:20, f32>",
              Z = "!kvcache.tensor<head:2, token.keep:?, channel.v:6, f32>",
              N = "!kvcache.tensor<token.keep:?, i32>", S = "!kvcache.tensor<head:2, token:?, f32>",
              K = "!kvcache.tensor<head:2, token.keep:?, f32>";
  NestCase nest({X, I, "index", S}, {Z, K},
                "%0 = kvcache.gather %a0 at %a1 : (" + X + ", " + I + ") -> " + Y +
                    "\n%six = arith.constant 6 : index\n%1 = kvcache.slice %0 along channel.v from "
                    "%a2 size %six : (" +
                    Y + ", index, index) -> " + Z + "\n%n = kvcache.iota token.keep of %a1 : (" +
                    I + ") -> " + N + "\n%2 = kvcache.map \"x + 100 * n\" (x = %1, n = %n) : (" +
                    Z + ", " + N + ") -> " + Z + "\n%3 = kvcache.gather %a3 at %a1 : (" + S + ", " +
                    I + ") -> " + K + "\nkvcache.kernel.yield %2, %3 : " + Z + ", " + K,
                {{"token", raggedAxis()}, {"token.keep", raggedAxis("K", "keepLengths")}});
  ASSERT_TRUE(nest.compile());
  int64_t T = 50, K2 = 30;
  std::vector<int32_t> lengths(2, 50), keep{30, 17}, index(2 * K2);
  for (int64_t i = 0; i < 2 * K2; ++i) {
    index[i] = static_cast<int32_t>((i % K2) * 50 / K2);
  }
  std::vector<float> x = randomFloats(2 * T * 20), s = randomFloats(2 * T, 4), z(2 * K2 * 6),
                     k(2 * K2);
  nest.run({{"in0", x.data()},
            {"in1", index.data()},
            {"in3", s.data()},
            {"lengths", lengths.data()},
            {"keepLengths", keep.data()},
            {"out0", z.data()},
            {"out1", k.data()}},
           {{"T", T}, {"K", K2}, {"in2", 3}}, [&] {
             for (int64_t h = 0; h < 2; ++h) {
               for (int64_t j = 0; j < keep[h]; ++j) {
                 int64_t row = h * T + index[h * K2 + j];
                 ASSERT_EQ(k[h * K2 + j], s[row]);
                 for (int64_t c = 0; c < 6; ++c) {
                   ASSERT_EQ(z[(h * K2 + j) * 6 + c],
                             x[row * 20 + 3 + c] + 100.0f * static_cast<float>(j));
                 }
               }
             }
           });
}

TEST(NestMemory, InputsInAnotherOrder) {
  // Memory [token, head, channel], type [head, token, channel]; relabel goes by place in the type.
  std::string X = "!kvcache.tensor<head:2, token:?, channel.v:20, f32>",
              Y = "!kvcache.tensor<head:2, token.copy:?, channel.copy:20, f32>",
              S = "!kvcache.tensor<head:2, token.copy:?, f32>";
  NestAxis copy = wordAxis("T");
  NestCase nest({X}, {Y, S},
                "%0 = kvcache.relabel %a0 : (" + X + ") -> " + Y +
                    "\n%1 = kvcache.reduce sum %0 over [channel.copy] : (" + Y + ") -> " + S +
                    "\nkvcache.kernel.yield %0, %1 : " + Y + ", " + S,
                {{"token", copy}, {"token.copy", copy}});
  nest.spec().inputs[0].order = {"token", "head", "channel.v"};
  ASSERT_TRUE(nest.compile());
  int64_t T = 19;
  std::vector<float> x = randomFloats(T * 2 * 20), y(T * 2 * 20), s(2 * T);
  nest.run({{"in0", x.data()}, {"out0", y.data()}, {"out1", s.data()}}, {{"T", T}}, [&] {
    for (int64_t h = 0; h < 2; ++h) {
      for (int64_t t = 0; t < T; ++t) {
        double sum = 0;
        for (int64_t c = 0; c < 20; ++c) {
          float value = x[(t * 2 + h) * 20 + c];
          sum += value;
          ASSERT_EQ(y[(h * T + t) * 20 + c], value);
        }
        ASSERT_NEAR(s[h * T + t], sum, 1e-5);
      }
    }
  });
}

TEST(NestMemory, ScatterAddsInOrder) {
  std::string X = "!kvcache.tensor<head:2, token.ev:?, channel.v:20, f32>",
              D = "!kvcache.tensor<head:2, token.keep:?, channel.v:20, f32>",
              W = "!kvcache.tensor<head:2, token.ev:?, f32>",
              V = "!kvcache.tensor<head:2, token.keep:?, f32>",
              I = "!kvcache.index<head:2, token.ev:? of token.keep>";
  NestCase nest(
      {X, D, I, W, V}, {D, V},
      "%0 = kvcache.map \"w * x\" (w = %a3, x = %a0) : (" + W + ", " + X + ") -> " + X +
          "\n%1 = kvcache.scatter add %0 into %a1 at %a2 : (" + X + ", " + D + ", " + I + ") -> " +
          D + "\n%2 = kvcache.scatter set %a3 into %a4 at %a2 : (" + W + ", " + V + ", " + I +
          ") -> " + V + "\nkvcache.kernel.yield %1, %2 : " + D + ", " + V,
      {{"token.ev", raggedAxis("E", "evLengths")}, {"token.keep", raggedAxis("K", "keepLengths")}});
  ASSERT_TRUE(nest.compile());
  int64_t E = 35, K = 12;
  std::vector<int32_t> ev{35, 9}, keep{12, 12}, at(2 * E);
  for (int64_t i = 0; i < 2 * E; ++i) {
    at[i] = static_cast<int32_t>(i * 7 % K) - (i % 5 == 0 ? 100 : 0);
  }
  std::vector<float> x = randomFloats(2 * E * 20), d = randomFloats(2 * K * 20, 2),
                     w = randomFloats(2 * E, 3), v = randomFloats(2 * K, 4), out(2 * K * 20),
                     last(2 * K);
  std::vector<float> expected = d, expectedLast = v;
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t e = 0; e < ev[h]; ++e) {
      int64_t to = at[h * E + e];
      for (int64_t c = 0; to >= 0 && c < 20; ++c) {
        expected[(h * K + to) * 20 + c] += w[h * E + e] * x[(h * E + e) * 20 + c];
      }
      if (to >= 0) {
        expectedLast[h * K + to] = w[h * E + e];
      }
    }
  }
  nest.run({{"in0", x.data()},
            {"in1", d.data()},
            {"in2", at.data()},
            {"in3", w.data()},
            {"in4", v.data()},
            {"evLengths", ev.data()},
            {"keepLengths", keep.data()},
            {"out0", out.data()},
            {"out1", last.data()}},
           {{"E", E}, {"K", K}}, [&] {
             EXPECT_EQ(out, expected);
             EXPECT_EQ(last, expectedLast);
           });
}

TEST(NestMemory, ColumnsOfAPagedStore) {
  std::string C = "!kvcache.cache<append, head:2, token:?, {k [channel.post:24] = f16, acc = f32, "
                  "pos = i32}>",
              K = "!kvcache.tensor<head:2, token:?, channel.post:24, f16>",
              A = "!kvcache.tensor<head:2, token:?, f32>",
              P = "!kvcache.tensor<head:2, token:?, i32>";
  std::vector<NestColumn> columns;
  std::vector<::kvcache::abi::ColumnLayout> layouts;
  for (auto [name, term, width] :
       {std::make_tuple("k", "f16", 24), std::make_tuple("acc", "f32", 1),
        std::make_tuple("pos", "i32", 1)}) {
    std::string error;
    auto layout = ::kvcache::abi::computeColumnLayout(
        *::kvcache::abi::parseStorageTerm(term, error), width, Elem::F16, error);
    ASSERT_TRUE(layout) << error;
    columns.push_back({name, *layout});
    layouts.push_back(*layout);
  }
  NestAxis token;
  token.capacity = NestExtent::inWord("T");
  token.store = "in0";
  token.lengthAxes = {"head"};
  std::string squares = "!kvcache.tensor<head:2, token:?, channel.post:24, f32>";
  NestCase nest({C, "index"}, {A, A},
                "%k = kvcache.column k of %a0 : (" + C + ") -> " + K +
                    "\n%acc = kvcache.column acc of %a0 : (" + C + ") -> " + A +
                    "\n%pos = kvcache.column pos of %a0 : (" + C + ") -> " + P +
                    "\n%0 = kvcache.map \"x * x\" (x = %k) : (" + K + ") -> " + squares +
                    "\n%1 = kvcache.reduce sum %0 over [channel.post] : (" + squares + ") -> " + A +
                    "\n%2 = kvcache.map \"x + a + 1000 * p\" (x = %1, a = %acc, p = %pos) : (" + A +
                    ", " + A + ", " + P + ") -> " + A +
                    "\n%3 = kvcache.pool max %acc over [token] size %a1 : (" + A + ", index) -> " +
                    A + "\nkvcache.kernel.yield %2, %3 : " + A + ", " + A,
                {{"token", token}}, {{0, columns}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : {1, 17, 150}) {
    ::kvcache::test::PagedStore store(layouts, {T, (T + 1) / 2});
    std::vector<float> random = randomFloats(2 * T * 26);
    for (int64_t h = 0; h < 2; ++h) {
      for (int64_t t = 0; t < store.rows(h); ++t) {
        for (int64_t c = 0; c < 24; ++c) {
          store.setExact(0, h, t, c, static_cast<_Float16>(random[(h * T + t) * 26 + c]));
        }
        store.setExact(1, h, t, 0, random[(h * T + t) * 26 + 24]);
        store.setExact(2, h, t, 0, static_cast<double>(3 * t));
      }
    }
    std::vector<float> out(2 * T), pooled(2 * T);
    nest.run({{"in0.arena", store.arena().data()},
              {"in0.view", store.view().data()},
              {"out0", out.data()},
              {"out1", pooled.data()}},
             {{"T", T}, {"in1", 3}}, [&] {
               for (int64_t h = 0; h < 2; ++h) {
                 for (int64_t t = 0; t < store.rows(h); ++t) {
                   double sum = store.exact(1, h, t, 0) + 3000.0 * static_cast<double>(t),
                          most = -INFINITY;
                   for (int64_t c = 0; c < 24; ++c) {
                     sum += store.exact(0, h, t, c) * store.exact(0, h, t, c);
                   }
                   for (int64_t j = std::max<int64_t>(t - 1, 0); j <= t + 1 && j < store.rows(h);
                        ++j) {
                     most = std::max(most, store.exact(1, h, j, 0));
                   }
                   ASSERT_NEAR(out[h * T + t], sum, 1e-5 * std::abs(sum) + 1e-4)
                       << "T " << T << " head " << h << " token " << t;
                   ASSERT_EQ(pooled[h * T + t], static_cast<float>(most))
                       << "T " << T << " head " << h << " token " << t;
                 }
               }
             });
  }
}

TEST(NestMemory, LengthsAlongAnAxisThatAValueLacks) {
  // One length for each layer and head; the value has no heads any more: that of the first holds.
  std::string P = "!kvcache.tensor<layer:2, token.page:?, f32>",
              S = "!kvcache.tensor<layer:2, f32>";
  NestAxis page = raggedAxis("P");
  page.lengthAxes = {"layer", "head"};
  page.lengthExtents = {2, 3};
  NestCase nest({P}, {S},
                "%0 = kvcache.reduce sum %a0 over [token.page] : (" + P + ") -> " + S +
                    "\nkvcache.kernel.yield %0 : " + S,
                {{"token.page", page}});
  ASSERT_TRUE(nest.compile());
  std::vector<float> x{1, 2, 4, 8, 16, 32, 64, 128}, out(2);
  std::vector<int32_t> lengths{3, 3, 3, 2, 2, 2};
  nest.run({{"in0", x.data()}, {"lengths", lengths.data()}, {"out0", out.data()}}, {{"P", 4}},
           [&] { EXPECT_EQ(out, (std::vector<float>{7, 48})); });
}

static NestColumn columnOf(const char *name, const char *term, int64_t width) {
  std::string error;
  auto layout = ::kvcache::abi::computeColumnLayout(*::kvcache::abi::parseStorageTerm(term, error),
                                                    width, Elem::F16, error);
  EXPECT_TRUE(layout) << error;
  return {name, *layout};
}

TEST(NestMemory, ExactRowsOfAColumnThatMayHoldCodes) {
  const char *term = "sinks<recent<affine<4, tile(channel:32), min_f16, scale_f16, lsb(channel)>, "
                     "keep(32), block(1)>, 4>";
  std::string C = std::string("!kvcache.cache<append, head:2, token:?, {v [channel.v:40] = ") +
                  term + "}>",
              V = "!kvcache.tensor<head:2, token:?, channel.v:40, f16>",
              S = "!kvcache.tensor<head:2, token:?, f32>";
  NestAxis token;
  token.capacity = NestExtent::inWord("T");
  token.store = "in0";
  token.lengthAxes = {"head"};
  std::string body = "%0 = kvcache.column v of %a0 : (" + C + ") -> " + V +
                     "\n%1 = kvcache.reduce sum %0 over [channel.v] : (" + V + ") -> " + S +
                     "\nkvcache.kernel.yield %1 : " + S;
  NestColumn column = columnOf("v", term, 40);
  column.allExact = true;
  NestCase nest({C}, {S}, body, {{"token", token}}, {{0, {column}}});
  ASSERT_TRUE(nest.compile());
  ::kvcache::test::PagedStore store({column.layout}, {70, 9});
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t t = 0; t < store.rows(h); ++t) {
      for (int64_t c = 0; c < 40; ++c) {
        store.setExact(0, h, t, c, static_cast<double>((h + t * 3 + c * 7) % 32));
      }
    }
  }
  std::vector<float> out(2 * 70);
  nest.run({{"in0.arena", store.arena().data()},
            {"in0.view", store.view().data()},
            {"out0", out.data()}},
           {{"T", 70}}, [&] {
             for (int64_t h = 0; h < 2; ++h) {
               for (int64_t t = 0; t < store.rows(h); ++t) {
                 double sum = 0;
                 for (int64_t c = 0; c < 40; ++c) {
                   sum += store.exact(0, h, t, c);
                 }
                 ASSERT_EQ(out[h * 70 + t], sum) << "head " << h << " token " << t;
               }
             }
           });

  column.allExact = false;
  NestCase refused({C}, {S}, body, {{"token", token}}, {{0, {column}}});
  mlir::OwningOpRef<mlir::ModuleOp> module =
      mlir::ModuleOp::create(mlir::UnknownLoc::get(refused.context()));
  std::string message;
  mlir::ScopedDiagnosticHandler handler(refused.context(), [&](mlir::Diagnostic &diagnostic) {
    message += diagnostic.str();
    return mlir::success();
  });
  EXPECT_TRUE(mlir::failed(emitNest(*module, refused.spec())));
  EXPECT_NE(message.find("column 'v' may hold codes"), std::string::npos) << message;
}

TEST(NestMemory, EigenvectorsComeFromTheLoader) {
  std::string M = "!kvcache.tensor<head:2, channel.post:3, channel.copy:3, f32>",
              V = "!kvcache.tensor<head:2, rank:3, f32>",
              W = "!kvcache.tensor<head:2, channel.post:3, rank:3, f32>";
  NestCase nest({M}, {V, W},
                "%0, %1 = kvcache.eigh %a0 : (" + M + ") -> (" + V + ", " + W +
                    ")\nkvcache.kernel.yield %0, %1 : " + V + ", " + W);
  ASSERT_TRUE(nest.compile());
  std::vector<float> m{1, 0, 0, 0, 2, 0, 0, 0, 3, 4, 0, 0, 0, 5, 0, 0, 0, 6}, v(6), w(18);
  nest.run({{"in0", m.data()}, {"out0", v.data()}, {"out1", w.data()}}, {}, [&] {
    EXPECT_EQ(v, (std::vector<float>{3, 2, 1, 6, 5, 4}));
    EXPECT_EQ(w[2], 1.0f);
  });
  m[0] = -1;
  nest.run(
      {{"in0", m.data()}, {"out0", v.data()}, {"out1", w.data()}}, {}, [] {},
      KVCACHE_KERNEL_EIGEN_FAILED);
}
