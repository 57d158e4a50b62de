/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * The contract between compiled kernels and whoever launches them (C99, so that another engine can).
 *
 * A kernel is a C function over a task grid: it starts no threads, allocates nothing on the heap and
 * keeps no state. Every task of a grid may run at any time on any thread; tasks of one launch write
 * disjoint memory. Undefined symbols of a kernel object are limited to kvcache_allowed_symbols below.
 *
 * Arguments are an array of pointers, in the order the executable's step lists them. A step argument is
 *   buffer   pointer to the first element of a dense row-major array
 *   scalars  pointer to int64_t words, gathered by the executor from the program's slots; f32 and f64
 *            scalars are stored as their bits in the low bytes
 *   store    two pointers: the arena (bytes) and the store view (int64_t words, below)
 *
 * Store view of one sequence and layer, H row heads, S column segments (columns in order, segments of
 * a column in the order Sinks, Coded, Exact as its layout has them):
 *   view[0] = H, view[1] = S, view[2 + h] = rows of head h
 *   record r(g, h) = 2 + H + 3 * (g * H + h):
 *     view[r + 0] = first row, view[r + 1] = one past the last row of segment g of head h
 *     view[r + 2] = t, so that view[t + p] is the byte offset in the arena of page p, which holds the
 *                   absolute rows [p * rowsPerPage, (p + 1) * rowsPerPage); defined for the pages in use
 */
#ifndef KVCACHE_KERNEL_ABI_H
#define KVCACHE_KERNEL_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVCACHE_KERNEL_ABI_VERSION 1

/* What a kernel returns. */
enum kvcache_kernel_status {
  KVCACHE_KERNEL_OK = 0,
  KVCACHE_KERNEL_NAN_SCORE = 1,      /* a score that is not a number reached a selection */
  KVCACHE_KERNEL_EIGEN_FAILED = 2    /* the eigensolver did not converge */
};

/* One task of a kernel. `task` counts from 0 to the product of the grid - 1, last grid dim fastest. */
typedef int32_t (*kvcache_kernel_fn)(int64_t task, void *const *args);

/* Eigen-decomposition of a symmetric n x n f32 matrix (row-major): eigenvalues descending in `values`,
 * unit eigenvectors as the columns of `vectors`, the largest-magnitude entry of each positive (lowest index
 * on ties). Provided by the loader to compiled calibration kernels. Returns 0, or non-zero on failure. */
int32_t kvcache_symmetric_eigen(int64_t n, const float *matrix, float *values, float *vectors);

#ifdef __cplusplus
}
#endif

#endif
