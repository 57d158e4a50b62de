// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Affine codes tiled over tokens: how leaves walk blocks of rows, and where words, scales and zeros
// of a block lie.
//
// Invariant: segments of such columns and tiles of 64 rows begin at whole words, so a word is used
// as a whole or not at all.

#pragma once

#include "targets/cpu/AttendCodes.h"

namespace mlir::kvcache::cpu {

/// What both sides read from a block of `tile` rows.
class TokenBlocks {
public:
  TokenBlocks(AttendContext &ctx, SegmentAccess segment)
      : ctx_(ctx), k_(ctx.k), segment_(segment), column_(*segment.column),
        unpacker_(ctx.k, column_), perWord_(32 / column_.bits) {}

protected:
  /// Cuts rows [lo, hi) into blocks: body(first row, end row, page, page behind it).
  void forBlocks(Value lo, Value hi,
                 llvm::function_ref<void(Value first, Value end, Value page, Value next)> body) {
    ctx_.store.forPages(segment_, lo, hi, [&](Value first, Value end, Value page) {
      Value next = nextAttendPage(ctx_, segment_, first);
      k_.forLoop(k_.floorDiv(first, column_.tile), k_.ceilDiv(end, column_.tile), k_.index(1),
                 [&](Value block) {
                   Value start = k_.mul(block, column_.tile);
                   body(k_.max(first, start), k_.min(end, k_.add(start, column_.tile)), page, next);
                 });
    });
  }
  /// Address of the word row that holds `row`.
  Value wordRow(Value row, Value page) {
    Value word = k_.floorDiv(k_.rem(row, column_.tile), perWord_);
    return k_.add(ctx_.store.unit(segment_, ::kvcache::abi::PlaneRole::Codes, row, page),
                  k_.mul(word, column_.width * 4));
  }
  /// Scale and constant term of 16 channels of the block of `row`; 0 in lanes behind the chunk.
  std::pair<Value, Value> loadTerms(Value row, Value page, ChannelChunk chunk) {
    Value scale = loadChannels(::kvcache::abi::PlaneRole::Scales, row, page, chunk), zero;
    if (segment_.layout->plane(::kvcache::abi::PlaneRole::Zeros)) {
      zero = loadChannels(::kvcache::abi::PlaneRole::Zeros, row, page, chunk);
    }
    return {scale, unpacker_.constantTerm(scale, zero)};
  }
  /// Scales and zeros of the block of `row` in the next page; the loops over codes ask for the
  /// codes as they go, because many requests at once are dropped.
  void prefetchTerms(Value row, Value next) {
    for (::kvcache::abi::PlaneRole role :
         {::kvcache::abi::PlaneRole::Scales, ::kvcache::abi::PlaneRole::Zeros}) {
      if (const ::kvcache::abi::PlaneLayout *plane = segment_.layout->plane(role)) {
        prefetchBytes(ctx_, ctx_.store.unit(segment_, role, row, next), plane->bytesPerUnit);
      }
    }
  }

  AttendContext &ctx_;
  KernelBuilder &k_;
  SegmentAccess segment_;
  const ::kvcache::abi::ColumnLayout &column_;
  CodeUnpacker unpacker_;
  int64_t perWord_; ///< rows of a word

private:
  Value loadChannels(::kvcache::abi::PlaneRole role, Value row, Value page, ChannelChunk chunk) {
    const ::kvcache::abi::PlaneLayout &plane = *segment_.layout->plane(role);
    Value address = k_.add(ctx_.store.unit(segment_, role, row, page),
                           chunk.start * ::kvcache::abi::bytesOf(plane.elem));
    Value values = loadGroupValues(ctx_, address, plane.elem, chunk.size);
    if (chunk.size == lanes) {
      return values;
    }
    int64_t zero = cast<VectorType>(values.getType()).getNumElements();
    SmallVector<int64_t> which;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      which.push_back(lane < chunk.size ? lane : zero);
    }
    return k_.shuffle(values, k_.splatF32(0, 1), which);
  }
};

} // namespace mlir::kvcache::cpu
