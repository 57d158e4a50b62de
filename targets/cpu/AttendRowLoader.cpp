// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The row loaders: dense, dense turned by RoPE, affine codes.

#include "targets/cpu/AttendRowLoader.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::PlaneRole;

namespace {

class DenseLoader : public AttendRowLoader {
public:
  using AttendRowLoader::AttendRowLoader;

  Value load(const AttendRow &row, int64_t ahead, const ChannelChunk &piece) override {
    return loadChannels(row, ahead, piece.start, piece.size);
  }
  void prefetch(const AttendRow &row, int64_t rows, ArrayRef<ChannelChunk> pieces) override {
    if (segment_.firstValue) {
      return; // between two parts lie those of other heads, which nobody asked for
    }
    int64_t elemBytes = rowBytes() / width_, first = pieces.front().start * elemBytes;
    int64_t bytes =
        (pieces.back().start + pieces.back().size) * elemBytes - first + (rows - 1) * rowBytes();
    prefetchBytes(ctx_,
                  k_.add(ctx_.store.unit(segment_, PlaneRole::Rows, row.row, row.nextPage), first),
                  bytes);
  }

protected:
  int64_t rowBytes() const { return segment_.layout->plane(PlaneRole::Rows)->bytesPerUnit; }
  Value loadChannels(const AttendRow &row, int64_t ahead, int64_t start, int64_t size) {
    Value address = ctx_.store.unit(segment_, PlaneRole::Rows, row.row, row.page);
    const auto &plane = *segment_.layout->plane(PlaneRole::Rows);
    Value typed = k_.typedAt(ctx_.store.arena(), address, plane.elem);
    Value at = k_.index(ahead * rowBytes() / ::kvcache::abi::bytesOf(plane.elem) + start);
    if (segment_.firstValue) {
      at = k_.add(segment_.firstValue, at);
    }
    return k_.loadF32(typed, at, pieceMask(size));
  }
  Value pieceMask(int64_t size) {
    return size == lanes ? Value() : k_.tailMask(k_.index(0), k_.index(size));
  }
};

/// The chunks of both halves of a row, each half on its own.
std::vector<ChannelChunk> halfChunks(int64_t width) {
  std::vector<ChannelChunk> pieces = channelChunks(width / 2);
  for (size_t i = 0, n = pieces.size(); i < n; ++i) {
    pieces.push_back({width / 2 + pieces[i].start, pieces[i].size});
  }
  return pieces;
}

class RopeLoader final : public DenseLoader {
public:
  RopeLoader(AttendContext &ctx, SegmentAccess segment, int64_t width)
      : DenseLoader(ctx, segment, width, halfChunks(width)) {}

  /// x'[i] = x[i] cos - x[i + D/2] sin; x'[i + D/2] = x[i + D/2] cos + x[i] sin.
  Value load(const AttendRow &row, int64_t ahead, const ChannelChunk &piece) override {
    int64_t half = width_ / 2, angle = piece.start % half;
    bool isUpper = piece.start >= half;
    Value table = k_.arg("rope"), at = k_.mul(k_.add(row.row, ahead), width_),
          mask = pieceMask(piece.size);
    Value cosine = k_.loadVector(table, k_.add(at, angle), mask);
    Value sine = k_.loadVector(table, k_.add(at, half + angle), mask);
    Value own = loadChannels(row, ahead, piece.start, piece.size);
    Value other = loadChannels(row, ahead, isUpper ? angle : half + angle, piece.size);
    return k_.fma(other, isUpper ? sine : k_.neg(sine), k_.mul(own, cosine));
  }
};

class CodesLoader final : public AttendRowLoader {
public:
  using AttendRowLoader::AttendRowLoader;

  Value load(const AttendRow &row, int64_t ahead, const ChannelChunk &piece) override {
    Value values = ctx_.store.decode(segment_, k_.add(row.row, ahead), row.page, piece);
    if (piece.size == lanes) {
      return values;
    }
    SmallVector<int64_t> which; // widened with zeros
    for (int64_t lane = 0; lane < lanes; ++lane) {
      which.push_back(lane < piece.size ? lane : piece.size);
    }
    return k_.shuffle(values, k_.splatF32(0, 1), which);
  }
  void prefetch(const AttendRow &row, int64_t rows, ArrayRef<ChannelChunk> pieces) override {
    if (segment_.firstValue) {
      return;
    }
    for (PlaneRole role : {PlaneRole::Codes, PlaneRole::Scales, PlaneRole::Zeros}) {
      if (const auto *plane = segment_.layout->plane(role); plane && pieces.front().start == 0) {
        prefetchBytes(ctx_, ctx_.store.unit(segment_, role, row.row, row.nextPage),
                      rows * plane->bytesPerUnit / plane->rowsPerUnit);
      }
    }
  }
};

} // namespace

std::unique_ptr<AttendRowLoader>
mlir::kvcache::cpu::makeDenseLoader(AttendContext &ctx, SegmentAccess segment, int64_t width) {
  return std::make_unique<DenseLoader>(ctx, segment, width, channelChunks(width));
}

std::unique_ptr<AttendRowLoader>
mlir::kvcache::cpu::makeRopeLoader(AttendContext &ctx, SegmentAccess segment, int64_t width) {
  return std::make_unique<RopeLoader>(ctx, segment, width);
}

std::unique_ptr<AttendRowLoader>
mlir::kvcache::cpu::makeCodesLoader(AttendContext &ctx, SegmentAccess segment, int64_t width) {
  return std::make_unique<CodesLoader>(ctx, segment, width, channelChunks(width));
}
