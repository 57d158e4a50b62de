// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How a row of a segment becomes f32 vectors in registers.

#pragma once

#include "targets/cpu/AttendLeaf.h"

namespace mlir::kvcache::cpu {

/// A row, the address of its page and of the page behind that one.
struct AttendRow {
  Value row, page, nextPage;
};

/// `width` rounded up to whole vectors.
inline int64_t paddedWidth(int64_t width) { return (width + lanes - 1) / lanes * lanes; }

class AttendRowLoader {
public:
  AttendRowLoader(AttendContext &ctx, SegmentAccess segment, int64_t width,
                  std::vector<ChannelChunk> pieces)
      : ctx_(ctx), k_(ctx.k), segment_(segment), width_(width), pieces_(std::move(pieces)) {}
  virtual ~AttendRowLoader() = default;

  const SegmentAccess &segment() const { return segment_; }
  /// Values per row that are read.
  int64_t width() const { return width_; }
  /// The pieces a row is read in; together all channels, none twice.
  const std::vector<ChannelChunk> &pieces() const { return pieces_; }
  /// A piece of the row `ahead` rows behind `row` (same page) as 16 f32; lanes behind the piece are
  /// finite, and 0 in loaders of keys whose pieces are not whole.
  virtual Value load(const AttendRow &row, int64_t ahead, const ChannelChunk &piece) = 0;
  /// Asks for the same pieces of `rows` rows of the next page.
  virtual void prefetch(const AttendRow &row, int64_t rows, ArrayRef<ChannelChunk> pieces) = 0;

protected:
  AttendContext &ctx_;
  KernelBuilder &k_;
  SegmentAccess segment_;
  int64_t width_;
  std::vector<ChannelChunk> pieces_;
};

/// Rows of the plane `Rows`, `width` values of each: exact rows, or coefficients of a factor.
std::unique_ptr<AttendRowLoader> makeDenseLoader(AttendContext &ctx, SegmentAccess segment,
                                                 int64_t width);
/// Exact rows of keys held before RoPE, turned to their row number by the argument `rope`.
std::unique_ptr<AttendRowLoader> makeRopeLoader(AttendContext &ctx, SegmentAccess segment,
                                                int64_t width);
/// Affine codes of either tile axis, decoded, `width` values of each row.
std::unique_ptr<AttendRowLoader> makeCodesLoader(AttendContext &ctx, SegmentAccess segment,
                                                 int64_t width);

} // namespace mlir::kvcache::cpu
