// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The thread pool, and BLAS calls from its tasks.

#include "runtime/parallel/Parallel.h"
#include "runtime/model/Linear.h"
#include "runtime/parallel/BlasBuffers.h"
#include "test/model/ModelFixtures.h"

#include <atomic>
#include <cblas.h>
#include <cstring>

using namespace kvcache::rt;
using namespace kvcache::test;

TEST(Parallel, every_index_runs_once_also_when_nested) {
  for (int count : {1, 2, 7}) {
    expectOk(setThreads(count));
    EXPECT_EQ(threads(), count);
    std::vector<std::atomic<int>> hits(1000);
    parallelFor(100, [&](int64_t i) {
      parallelFor(10, [&](int64_t j) { ++hits[static_cast<size_t>(i * 10 + j)]; });
    });
    for (const auto &hit : hits) {
      ASSERT_EQ(hit, 1);
    }
  }
  parallelFor(0, [](int64_t) { FAIL(); });
  expectOk(setThreads(0));
  EXPECT_GE(threads(), 1);
  expectBadInput(setThreads(-1), {"threads", "found -1"});
  expectBadInput(setThreads(1025), {"threads", "found 1025"});
}

// A serial OpenBLAS alone gives two concurrent calls the same work buffer now
// and then.
TEST(BlasBuffers, concurrent_products_do_not_share_a_buffer) {
  ASSERT_TRUE(useThreadLocalBlasBuffers());
  expectOk(setThreads(8));
  constexpr int rows = 60, columns = 128, inner = 256;
  std::vector<float> x(rows * inner), w(columns * inner), expected(rows * columns);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(i * 7 % 13) - 6;
  }
  for (size_t i = 0; i < w.size(); ++i) {
    w[i] = static_cast<float>(i * 5 % 11) - 5;
  }
  auto product = [&](float *y) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, columns, inner, 1, x.data(), inner,
                w.data(), inner, 0, y, columns);
  };
  product(expected.data());
  std::atomic<int> wrong{0};
  parallelFor(4000, [&](int64_t) {
    std::vector<float> y(expected.size());
    product(y.data());
    wrong += std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) != 0;
  });
  EXPECT_EQ(wrong, 0);
  expectOk(setThreads(0));
}

TEST(Linear, product_bias_and_accumulation_match_a_plain_sum) {
  constexpr int64_t rows = 5, inner = 19;
  for (int64_t out : {3, 130, 300}) {
    std::vector<float> x(static_cast<size_t>(paddedRows(rows) * inner)),
        w(static_cast<size_t>(out * inner)), bias(static_cast<size_t>(out)),
        y(static_cast<size_t>(paddedRows(rows) * out), 2.0f);
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = std::sin(static_cast<float>(i));
    }
    for (size_t i = 0; i < w.size(); ++i) {
      w[i] = std::cos(static_cast<float>(i) * 0.7f);
    }
    for (size_t i = 0; i < bias.size(); ++i) {
      bias[i] = static_cast<float>(i);
    }
    multiply(x.data(), rows, {{{w.data(), out, inner}, bias.data(), y.data(), true}});
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = 0; o < out; ++o) {
        double sum = 2.0 + double(o);
        for (int64_t i = 0; i < inner; ++i) {
          sum +=
              double(x[static_cast<size_t>(r * inner + i)]) * w[static_cast<size_t>(o * inner + i)];
        }
        ASSERT_NEAR(y[static_cast<size_t>(r * out + o)], sum, 1e-4) << out << " " << r << " " << o;
      }
    }
  }
}
