// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ops along one axis (sort, scan, concat, blocks) of the nest emitter against plain loops, on
// ragged heads, along inner and outer axes, with ties and values that are not numbers.

#include "test/targets/cpu/NestCase.h"

#include <algorithm>
#include <cmath>

using namespace mlir::kvcache::cpu;
using namespace mlir::kvcache::cpu::test;

static const std::string scores = "!kvcache.tensor<head:2, token:?, f32>",
                         layers = "!kvcache.tensor<layer:3, head:2, f32>";

static std::string yielded(const std::string &value, const std::string &type) {
  return "\nkvcache.kernel.yield " + value + " : " + type;
}

/// Random values with many ties.
static std::vector<float> tied(int64_t n) {
  std::vector<float> values = randomFloats(n);
  for (float &value : values) {
    value = std::round(value * 8) / 8 + 0.0f; // no -0
  }
  return values;
}

TEST(NestOrder, SortOfRaggedHeadsOnComputedValues) {
  for (bool descending : {true, false}) {
    std::string order = descending ? "descending" : "ascending";
    NestCase nest({scores}, {scores},
                  "%0 = kvcache.map \"x * 2\" (x = %a0) : (" + scores + ") -> " + scores +
                      "\n%1 = kvcache.sort " + order + " %0 along token : (" + scores + ") -> " +
                      scores + yielded("%1", scores),
                  {{"token", raggedAxis()}});
    ASSERT_TRUE(nest.compile());
    EXPECT_EQ(nest.result.kernel.grid, std::vector<std::string>{"2"});
    for (int64_t T : {1, 2, 3, 15, 16, 17, 1000}) {
      std::vector<float> x = tied(2 * T), out(2 * T, -77);
      std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>(T / 2)};
      nest.run({{"in0", x.data()}, {"lengths", lengths.data()}, {"out0", out.data()}}, {{"T", T}},
               [&] {
                 for (int64_t h = 0; h < 2; ++h) {
                   std::vector<float> row(x.begin() + h * T, x.begin() + h * T + lengths[h]);
                   std::sort(row.begin(), row.end());
                   if (descending) {
                     std::reverse(row.begin(), row.end());
                   }
                   for (int64_t t = 0; t < lengths[h]; ++t) {
                     ASSERT_EQ(out[h * T + t], row[t] * 2) << order << " T " << T << " at " << t;
                   }
                   if (lengths[h] < T) {
                     ASSERT_EQ(out[h * T + lengths[h]], -77) << "wrote behind the row";
                   }
                 }
               });
    }
  }
}

TEST(NestOrder, SortOfBlocks) {
  for (bool descending : {true, false}) {
    std::string order = descending ? "descending" : "ascending";
    NestCase nest({scores, "index"}, {scores},
                  "%0 = kvcache.sort " + order + " %a0 along token blocks %a1 : (" + scores +
                      ", index) -> " + scores + yielded("%0", scores),
                  {{"token", raggedAxis()}});
    ASSERT_TRUE(nest.compile());
    for (int64_t T : {1, 3, 16, 17, 100}) {
      for (int64_t n : {int64_t(1), int64_t(2), int64_t(5), int64_t(8), T, T + 9}) {
        std::vector<float> x = tied(2 * T), out(2 * T, -77);
        std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>(T / 2)};
        nest.run({{"in0", x.data()}, {"lengths", lengths.data()}, {"out0", out.data()}},
                 {{"T", T}, {"in1", n}}, [&] {
                   for (int64_t h = 0; h < 2; ++h) {
                     std::vector<float> row(x.begin() + h * T, x.begin() + h * T + lengths[h]);
                     for (int64_t lo = 0; lo < lengths[h]; lo += n) {
                       auto first = row.begin() + lo,
                            last = row.begin() + std::min<int64_t>(lo + n, lengths[h]);
                       std::sort(first, last);
                       if (descending) {
                         std::reverse(first, last);
                       }
                     }
                     for (int64_t t = 0; t < T; ++t) {
                       ASSERT_EQ(out[h * T + t], t < lengths[h] ? row[t] : -77)
                           << order << " T " << T << " n " << n << " at " << t;
                     }
                   }
                 });
      }
    }
  }
}

TEST(NestOrder, SortAlongLayersOfIntegers) {
  std::string type = "!kvcache.tensor<layer:3, head:2, i32>";
  NestCase nest({type}, {type},
                "%0 = kvcache.sort descending %a0 along layer : (" + type + ") -> " + type +
                    yielded("%0", type));
  ASSERT_TRUE(nest.compile());
  std::vector<int32_t> x{1, 6, 3, -4, 2, 5}, out(6);
  nest.run({{"in0", x.data()}, {"out0", out.data()}}, {},
           [&] { EXPECT_EQ(out, (std::vector<int32_t>{3, 6, 2, 5, 1, -4})); });
}

TEST(NestOrder, SortOfNanIsAStatus) {
  NestCase nest({layers}, {layers},
                "%0 = kvcache.sort ascending %a0 along head : (" + layers + ") -> " + layers +
                    yielded("%0", layers));
  ASSERT_TRUE(nest.compile());
  std::vector<float> x{1, INFINITY, 3, -INFINITY, 2, 5}, out(6);
  nest.run({{"in0", x.data()}, {"out0", out.data()}}, {},
           [&] { EXPECT_EQ(out, (std::vector<float>{1, INFINITY, -INFINITY, 3, 2, 5})); });
  x[4] = NAN;
  nest.run({{"in0", x.data()}, {"out0", out.data()}}, {}, [] {}, KVCACHE_KERNEL_NAN_SCORE);
}

TEST(NestOrder, ScanOfRaggedHeads) {
  for (std::string fn : {"sum", "max"}) {
    for (std::string reverse : {"", " reverse"}) {
      NestCase nest({scores}, {scores},
                    "%0 = kvcache.map \"x * x\" (x = %a0) : (" + scores + ") -> " + scores +
                        "\n%1 = kvcache.scan " + fn + " %0 along token" + reverse + " : (" +
                        scores + ") -> " + scores + yielded("%1", scores),
                    {{"token", raggedAxis()}});
      ASSERT_TRUE(nest.compile());
      for (int64_t T : {1, 16, 17, 1000}) {
        std::vector<float> x = randomFloats(2 * T), out(2 * T, -77);
        std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>(T / 2)};
        nest.run({{"in0", x.data()}, {"lengths", lengths.data()}, {"out0", out.data()}}, {{"T", T}},
                 [&] {
                   for (int64_t h = 0; h < 2; ++h) {
                     float carried = fn == "sum" ? 0.0f : -INFINITY;
                     for (int64_t i = 0; i < lengths[h]; ++i) {
                       int64_t at = h * T + (reverse.empty() ? i : lengths[h] - 1 - i);
                       float square = x[at] * x[at];
                       carried = fn == "sum" ? carried + square : std::max(carried, square);
                       ASSERT_EQ(out[at], carried) << fn << reverse << " T " << T << " at " << i;
                     }
                   }
                 });
      }
    }
  }
}

TEST(NestOrder, ScanAlongLayersOfCounts) {
  std::string from = "!kvcache.tensor<layer:3, head:2, i32>",
              to = "!kvcache.tensor<layer:3, head:2, i64>";
  NestCase nest({from}, {to},
                "%0 = kvcache.scan sum %a0 along layer : (" + from + ") -> " + to +
                    yielded("%0", to));
  ASSERT_TRUE(nest.compile());
  std::vector<int32_t> x{2000000000, 6, 2000000000, 4, 1, -5};
  std::vector<int64_t> out(6);
  nest.run({{"in0", x.data()}, {"out0", out.data()}}, {}, [&] {
    EXPECT_EQ(out, (std::vector<int64_t>{2000000000, 6, 4000000000, 10, 4000000001, 5}));
  });
}

TEST(NestOrder, ConcatOfARaggedAndAFixedPart) {
  std::string window = "!kvcache.tensor<head:2, token.win:3, f32>",
              all = "!kvcache.tensor<head:2, token.all:?, f32>";
  NestCase nest({scores, window}, {all},
                "%0 = kvcache.map \"-x\" (x = %a1) : (" + window + ") -> " + window +
                    "\n%1 = kvcache.concat %a0, %0 along token.all : (" + scores + ", " + window +
                    ") -> " + all + yielded("%1", all),
                {{"token", raggedAxis()}}, {}, {{"token.all", raggedAxis("A", "allLengths")}});
  ASSERT_TRUE(nest.compile());
  for (int64_t T : {1, 16, 40}) {
    int64_t A = T + 5;
    std::vector<float> x = randomFloats(2 * T), w = randomFloats(6), out(2 * A, -77);
    std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>(T / 2)},
        allLengths(2, -1);
    nest.run({{"in0", x.data()},
              {"in1", w.data()},
              {"lengths", lengths.data()},
              {"allLengths", allLengths.data()},
              {"out0", out.data()}},
             {{"T", T}, {"A", A}}, [&] {
               for (int64_t h = 0; h < 2; ++h) {
                 std::vector<float> row(x.begin() + h * T, x.begin() + h * T + lengths[h]);
                 for (int64_t i = 0; i < 3; ++i) {
                   row.push_back(-w[h * 3 + i]);
                 }
                 ASSERT_EQ(allLengths[h], static_cast<int32_t>(row.size()));
                 ASSERT_EQ(
                     std::vector<float>(out.begin() + h * A, out.begin() + h * A + allLengths[h]),
                     row);
                 ASSERT_EQ(out[h * A + allLengths[h]], -77) << "wrote behind the row";
               }
             });
  }
}

TEST(NestOrder, ConcatOfLayersAndHeads) {
  std::string five = "!kvcache.tensor<layer:5, head:2, f32>",
              two = "!kvcache.tensor<layer:2, head:2, f32>",
              wide = "!kvcache.tensor<layer:3, head:4, f32>";
  NestCase nest({layers, two}, {five, wide},
                "%0 = kvcache.concat %a0, %a1 along layer : (" + layers + ", " + two + ") -> " +
                    five + "\n%1 = kvcache.concat %a0, %a0 along head : (" + layers + ", " +
                    layers + ") -> " + wide + "\nkvcache.kernel.yield %0, %1 : " + five + ", " +
                    wide);
  ASSERT_TRUE(nest.compile());
  std::vector<float> a{1, 2, 3, 4, 5, 6}, b{7, 8, 9, 10}, out(10), both(12);
  nest.run({{"in0", a.data()}, {"in1", b.data()}, {"out0", out.data()}, {"out1", both.data()}}, {},
           [&] {
             EXPECT_EQ(out, (std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
             EXPECT_EQ(both, (std::vector<float>{1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6}));
           });
}

TEST(NestOrder, ConcatOfOtherExtentsIsRefused) {
  std::string wide = "!kvcache.tensor<layer:3, head:5, f32>";
  NestCase nest({layers}, {wide},
                "%0 = kvcache.concat %a0, %a0 along head : (" + layers + ", " + layers + ") -> " +
                    wide + yielded("%0", wide));
  std::string message;
  mlir::ScopedDiagnosticHandler collect(nest.context(), [&](mlir::Diagnostic &diagnostic) {
    message += diagnostic.str();
    return mlir::success();
  });
  mlir::OwningOpRef<mlir::ModuleOp> module =
      mlir::ModuleOp::create(mlir::UnknownLoc::get(nest.context()));
  EXPECT_TRUE(mlir::failed(emitNest(*module, nest.spec())));
  EXPECT_NE(message.find("expected an extent of axis 'head' that follows from the operands"),
            std::string::npos)
      << message;
}

/// fn of x[lo, hi) in plain order.
static double blockOf(const std::string &fn, const float *x, int64_t lo, int64_t hi, int64_t step) {
  double value = x[lo * step];
  for (int64_t i = lo + 1; i < hi; ++i) {
    double next = x[i * step];
    value = fn == "max"   ? std::max(value, next)
            : fn == "min" ? std::min(value, next)
                          : value + next;
  }
  return fn == "mean" ? value / static_cast<double>(hi - lo) : value;
}

TEST(NestOrder, BlocksOfRaggedHeads) {
  std::string pages = "!kvcache.tensor<head:2, page:?, f32>";
  for (std::string fn : {"sum", "mean", "max", "min"}) {
    NestCase nest({scores, "index"}, {pages},
                  "%0 = kvcache.map \"x - 1\" (x = %a0) : (" + scores + ") -> " + scores +
                      "\n%1 = kvcache.blocks " + fn + " %0 along token size %a1 : (" + scores +
                      ", index) -> " + pages + yielded("%1", pages),
                  {{"token", raggedAxis()}}, {}, {{"page", raggedAxis("P", "pageLengths")}});
    ASSERT_TRUE(nest.compile());
    for (int64_t T : {1, 16, 100, 3000}) {
      for (int64_t n : {1, 7, 16, 64, 2500}) {
        int64_t P = (T + n - 1) / n;
        std::vector<float> x = randomFloats(2 * T), out(2 * P, -77), shifted(x);
        for (float &value : shifted) {
          value -= 1;
        }
        std::vector<int32_t> lengths{static_cast<int32_t>(T), static_cast<int32_t>(T / 2)},
            pageLengths(2, -1);
        nest.run({{"in0", x.data()},
                  {"lengths", lengths.data()},
                  {"pageLengths", pageLengths.data()},
                  {"out0", out.data()}},
                 {{"T", T}, {"P", P}, {"in1", n}}, [&] {
                   for (int64_t h = 0; h < 2; ++h) {
                     ASSERT_EQ(pageLengths[h], (lengths[h] + n - 1) / n);
                     for (int64_t b = 0; b < pageLengths[h]; ++b) {
                       int64_t hi = std::min<int64_t>((b + 1) * n, lengths[h]);
                       double want = blockOf(fn, shifted.data() + h * T, b * n, hi, 1);
                       ASSERT_NEAR(out[h * P + b], want, 1e-5 * (1 + static_cast<double>(n)))
                           << fn << " T " << T << " n " << n << " block " << b;
                     }
                   }
                 });
      }
    }
  }
}

TEST(NestOrder, BlocksWithLanesAlongChannels) {
  std::string keys = "!kvcache.tensor<head:2, token:?, channel.post:20, f32>",
              pages = "!kvcache.tensor<head:2, page:?, channel.post:20, f32>";
  for (std::string fn : {"mean", "max"}) {
    NestCase nest({keys, "index"}, {pages},
                  "%0 = kvcache.blocks " + fn + " %a0 along token size %a1 : (" + keys +
                      ", index) -> " + pages + yielded("%0", pages),
                  {{"token", wordAxis("T")}}, {}, {{"page", wordAxis("P")}});
    ASSERT_TRUE(nest.compile());
    for (int64_t T : {1, 16, 50}) {
      int64_t n = 16, P = (T + n - 1) / n;
      std::vector<float> x = randomFloats(2 * T * 20), out(2 * P * 20);
      nest.run({{"in0", x.data()}, {"out0", out.data()}}, {{"T", T}, {"P", P}, {"in1", n}}, [&] {
        for (int64_t i = 0; i < 2 * P * 20; ++i) {
          int64_t h = i / (P * 20), b = i / 20 % P, c = i % 20;
          double want = blockOf(fn, x.data() + h * T * 20 + c, b * n, std::min((b + 1) * n, T), 20);
          ASSERT_NEAR(out[i], want, 1e-6) << fn << " T " << T << " at " << i;
        }
      });
    }
  }
}
