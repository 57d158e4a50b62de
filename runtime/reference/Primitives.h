// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reference kernels of the primitives: what reduce, contract, topk, gather, scatter, pool, sort,
// scan, concat, blocks, iota, slice, eigh and the selections mean. Real arithmetic is in double;
// selection ranks f32 values.

#pragma once

#include "runtime/reference/Tensor.h"

namespace kvcache::rt::reference {

enum class Reduction { Sum, Mean, Max, Min, ArgMax, Count };

/// result[kept axes] = fn over the points of `over`. Max / Min of nothing is -inf / +inf, ArgMax 0,
/// Mean 0. ArgMax ties go to the lowest index (one axis only); Count counts non-zero values.
StatusOr<Tensor> reduce(Reduction fn, const Tensor &x, const std::vector<std::string> &over);

/// The q-quantile along one axis: sorted values s[0..n-1], position p = q (n - 1),
/// s[floor p] + (p - floor p) (s[ceil p] - s[floor p]), s[floor p] when both are equal. Nothing to
/// sort: +inf.
StatusOr<Tensor> quantile(const Tensor &x, const std::string &over, double q);

/// result[axes of a and b without over] = sum over `over` of a * b.
StatusOr<Tensor> contract(const Tensor &a, const Tensor &b, const std::vector<std::string> &over);

/// Forced rows of a selection: how many of the first and of the last rows are kept in any case.
struct Forced {
  int64_t first = 0, last = 0;
  bool allThatFit = false; ///< a point with no more rows than its count keeps them all
};

/// The indices of the largest f32 values along `along`, ascending; ties to the lowest index.
/// `counts`: one count, or one per head. n = min(count, length) rows are kept, rows of score -inf
/// last. Of the forced rows, first min(first, n) first ones, then the newest min(last, rest).
/// Result: axes of s without `along`, then `instance` (ragged). Fails on a value that is not a
/// number among the rows that compete.
StatusOr<Tensor> topk(const Tensor &s, const std::string &along, const std::vector<int64_t> &counts,
                      Forced forced, const std::string &instance);

/// The first `count` points of an axis; without a name all points of all axes.
struct Prefix {
  std::string axis;
  int64_t count = 0;
};

/// How many of the `total` largest values of s [head, token] lie in each head; ties to the lowest
/// head, then token. Only what lies in `prefix` takes part.
StatusOr<Tensor> globalTopkCounts(const Tensor &s, const std::string &along, int64_t total,
                                  const Prefix &prefix);

/// Indices along `along` whose flag is non-zero, ascending.
StatusOr<Tensor> where(const Tensor &flags, const std::string &along, const std::string &instance);

/// The rows of [0, length) that `index` does not name; `lengths` per head (or one).
StatusOr<Tensor> complement(const Tensor &index, int64_t capacity,
                            const std::vector<int64_t> &lengths, const std::string &instance);

/// The positions that a or b names, ascending, each once. Axes of the one but its last are among
/// those of the other.
Tensor unite(const Tensor &a, const Tensor &b, const std::string &instance);

/// The positions [b size, min((b + 1) size, length)) of each block b that `blocks` names; `lengths`
/// for each of its leading points (or one).
StatusOr<Tensor> expand(const Tensor &blocks, int64_t size, const std::vector<int64_t> &lengths,
                        const std::string &instance);

/// Items along `along` by descending f32 score, the lowest position first on ties: each whose size
/// is at most what those taken before leave of the total is taken; positions ascend. A size for
/// each point of the scores, a total for each leading point (or one); both count as at least 0.
/// Fails on a score that is not a number.
StatusOr<Tensor> fit(const Tensor &s, const std::string &along, const std::vector<int64_t> &sizes,
                     const std::vector<int64_t> &totals, const std::string &instance);

/// `total` in shares proportional to f32 weights over all points: shares in double, in the order
/// of the points; a floor and a cap for each point (empty: 0, and no cap). Floors above their cap
/// count as the cap. Fails on a weight that is negative or not a finite number.
StatusOr<Tensor> proportionalCounts(const Tensor &weights, int64_t total,
                                    const std::vector<int64_t> &floors,
                                    const std::vector<int64_t> &caps);

/// result[.., i, ..] = x[.., index[.., i], ..]: the domain axis is replaced by the last axis of
/// index.
StatusOr<Tensor> gather(const Tensor &x, const Tensor &index, const std::string &domain);

/// into[.., index[.., e], ..] (+)= x[.., e, ..], in ascending order of e; a negative index is
/// skipped.
StatusOr<Tensor> scatter(const Tensor &x, const Tensor &into, const Tensor &index,
                         const std::string &domain, bool add);

enum class Pooling { Average, Max };

/// Window of columns [i - size / 2, i - size / 2 + size) for each point i of `along`, over the
/// columns [0, upTo) of the head's length (upTo < 0: all). Average divides by `size` everywhere,
/// Max ignores columns outside. Columns >= upTo give 0.
StatusOr<Tensor> pool(Pooling fn, const Tensor &x, const std::string &along, int64_t size,
                      int64_t upTo);

/// The values along an axis in order, those of each block of `size` adjacent positions by
/// themselves. Fails on a value that is not a number.
StatusOr<Tensor> sort(const Tensor &x, const std::string &along, bool descending, int64_t size);

enum class Scan { Sum, Max };

/// result[i] = x[0] + .. + x[i] (or the largest of them), from the last position down with
/// `reverse`. `floats`: every sum is rounded to f32, as it is defined for floating elements.
StatusOr<Tensor> scan(Scan fn, const Tensor &x, const std::string &along, bool reverse,
                      bool floats);

/// a, then b, along an axis that is called alongA in a, alongB in b and `along` in the result.
StatusOr<Tensor> concat(const Tensor &a, const std::string &alongA, const Tensor &b,
                        const std::string &alongB, const std::string &along);

/// fn (Sum, Mean, Max or Min) of each block of `size` adjacent positions; the axis of the blocks
/// is called `name`.
StatusOr<Tensor> blocks(Reduction fn, const Tensor &x, const std::string &along, int64_t size,
                        const std::string &name);

/// 0, 1, 2 .. along one axis of `shape`.
Tensor iota(const Tensor &shape, const std::string &along);

StatusOr<Tensor> slice(const Tensor &x, const std::string &along, int64_t from, int64_t size);

/// Eigenvalues descending and unit eigenvectors (columns, largest entry positive) of symmetric
/// matrices over the last two axes, by cyclic Jacobi rotations.
Status eigh(const Tensor &matrix, Tensor &values, Tensor &vectors);

} // namespace kvcache::rt::reference
