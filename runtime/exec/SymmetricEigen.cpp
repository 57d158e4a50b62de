// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The eigensolver of compiled calibration kernels (runtime/abi/KernelAbi.h): LAPACK's divide and
// conquer in double precision, then order and sign as the contract fixes them. Calls take turns: a
// serial BLAS need not bear several at once.

#include "runtime/abi/KernelAbi.h"

#include <cmath>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>

extern "C" void dsyevd_(const char *job, const char *uplo, const int *n, double *a, const int *lda,
                        double *w, double *work, const int *lwork, int *iwork, const int *liwork,
                        int *info, size_t jobLength, size_t uploLength);

/// Solves in place: `a` [n, n] becomes the eigenvectors, one a column (column-major), `w` [n] the
/// eigenvalues, ascending.
static bool solve(int n, double *a, double *w) {
  static std::mutex turn;
  std::lock_guard<std::mutex> lock(turn);
  int info = 0, query = -1, integersNeeded = 0;
  double wordsNeeded = 0;
  dsyevd_("V", "L", &n, a, &n, w, &wordsNeeded, &query, &integersNeeded, &query, &info, 1, 1);
  if (info != 0) {
    return false;
  }
  int words = static_cast<int>(wordsNeeded);
  std::unique_ptr<double[]> work(new (std::nothrow) double[words]);
  std::unique_ptr<int[]> integers(new (std::nothrow) int[integersNeeded]);
  if (!work || !integers) {
    return false;
  }
  dsyevd_("V", "L", &n, a, &n, w, work.get(), &words, integers.get(), &integersNeeded, &info, 1, 1);
  return info == 0;
}

extern "C" __attribute__((visibility("default"))) int32_t
kvcache_symmetric_eigen(int64_t n, const float *matrix, float *values, float *vectors) {
  if (n < 1 || n > 16384) {
    return 1;
  }
  std::unique_ptr<double[]> a(new (std::nothrow) double[n * n]);
  std::unique_ptr<double[]> w(new (std::nothrow) double[n]);
  if (!a || !w) {
    return 1;
  }
  for (int64_t i = 0; i < n * n; ++i) {
    if (!std::isfinite(matrix[i])) {
      return 1;
    }
    a[i] = matrix[i];
  }
  if (!solve(static_cast<int>(n), a.get(), w.get())) {
    return 1;
  }
  for (int64_t rank = 0; rank < n; ++rank) {
    const double *column = a.get() + (n - 1 - rank) * n;
    int64_t largest = 0;
    for (int64_t i = 1; i < n; ++i) {
      largest = std::fabs(column[i]) > std::fabs(column[largest]) ? i : largest;
    }
    double sign = column[largest] < 0 ? -1.0 : 1.0;
    values[rank] = static_cast<float>(w[n - 1 - rank]);
    for (int64_t i = 0; i < n; ++i) {
      vectors[i * n + rank] = static_cast<float>(sign * column[i]);
    }
  }
  return 0;
}
