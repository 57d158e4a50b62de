// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reference kernels of the op families score, merge, project and quantize, and of attend. Each is
// the meaning of the op of the same name; every target is compared with it.

#pragma once

#include "runtime/abi/StorageLayout.h"
#include "runtime/reference/Tensor.h"

namespace kvcache::rt::reference {

/// score.norm: sqrt(sum over `over` of x^2).
StatusOr<Tensor> norm(const Tensor &x, const std::vector<std::string> &over);

enum class Metric { Cosine, L2 };

/// score.nearest: for each row of a, the row of b along `along` with the largest cosine (vector
/// norms clamped below at 1e-6) or the smallest distance; ties (of f32 values) to the lowest index.
/// `best` is the cosine or the distance.
Status nearest(Metric metric, const Tensor &a, const Tensor &b, const std::string &along,
               const std::string &channel, Tensor &best, Tensor &index);

/// merge.into: d = (d + sum_e w_e s_e) / (1 + sum_e w_e) for every destination with some w_e > 0;
/// index[e] names the destination of source e along `domain` of dst.
StatusOr<Tensor> mergeInto(const Tensor &src, const Tensor &dst, const Tensor &index,
                           const Tensor &weight, const std::string &domain);

/// project.hadamard: x H along `channel`, H[i][j] = (-1)^popcount(i & j) / sqrt(n).
StatusOr<Tensor> hadamard(const Tensor &x, const std::string &channel);
void hadamardRow(std::vector<double> &row);

/// project.lowrank: (x - mean) . basis; basis [.., channel, rank], mean [.., channel].
StatusOr<Tensor> lowrank(const Tensor &x, const Tensor &basis, const Tensor &mean,
                         const std::string &channel, const std::string &rank);

/// A factor's fixed side for one head: row = coeff . basis^T + mean.
struct FactorSide {
  std::vector<double> basis; ///< [width, rank]
  std::vector<double> mean;  ///< [width]
};

/// What a coded block of rows is: codes, scales, zeros as stored, and the rows a reader sees.
struct CodedBlock {
  std::vector<uint8_t> codes; ///< [rows, width]
  std::vector<float> scales,
      zeros; ///< after rounding to their storage types; group order of StorageLayout.h
  std::vector<double> decoded; ///< [rows, width]
};

/// quantize.encode: `rows` rows of `width` exact values in the storage of `layout` (rotation and
/// factor included). Quantizers are f32, in this order: minimum and maximum of the group; scale =
/// (max - min) / (2^b - 1) rounded to its type; code = nearest-even of (x - zero) / scale, clamped;
/// a scale of 0 gives code 0. With a zero point: the range is widened to hold 0 and multiplied by
/// clip, [-1, 1] when empty; z = nearest-even of -min / scale; code = nearest-even of x / scale,
/// plus z, clamped.
StatusOr<CodedBlock> encodeRows(const abi::ColumnLayout &layout, const std::vector<double> &exact,
                                int64_t rows, const FactorSide *factor);

/// Rounds through an element type (f32, f16, bf16; integers to nearest even).
double roundTo(abi::ElementType type, double value);

/// One head's entries as attention reads them.
struct HeadRows {
  int64_t rows = 0;
  std::vector<double> k, v;       ///< [rows, D], [rows, Dv]
  std::vector<int32_t> positions; ///< [rows]
};

struct AttentionResult {
  std::vector<double> out; ///< [queries, group, Dv]
  std::vector<double> lse; ///< [queries, group]; -inf for a row that sees nothing
  std::vector<double> p;   ///< [queries, group, rows]
};

/// What makes logits of products.
struct LogitRule {
  int64_t headDim = 0; ///< D of 1 / sqrt(D); 0: the channels of the keys
  /// Replaces the logit of a query (number query * group + g) for a row; null: logits stay.
  std::function<StatusOr<double>(double z, int64_t query, int64_t row)> change;
};

/// attend for one KV head: z = f(q . k / sqrt(D)), -inf where pos(key) > pos(query) (causal) or
/// pos(query) - pos(key) >= window (window > 0); p = softmax z; out = p v. A row that sees nothing,
/// or logits of -inf alone, yields 0. `width` is the number of channels of the keys; values may have
/// another.
StatusOr<AttentionResult> attendHead(const HeadRows &rows, const std::vector<double> &q,
                                     int64_t queries, int64_t group, int64_t width,
                                     const std::vector<int32_t> &queryPositions, bool causal,
                                     int64_t window, const LogitRule &rule = {});

/// Rotates a row of D channels (half-split pairs i, i + D/2) by `position`: y_i = x_i cos - x_j
/// sin, y_j = x_j cos + x_i sin.
void ropeRow(double *row, int64_t width, const std::vector<float> &inverseFrequencies,
             double position);

} // namespace kvcache::rt::reference
