// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Affine codes tiled over channels, read as vectors of 16 words: lane l holds word l mod n of row l
// / n, n words a row.
//
// Invariant: groups are whole words, so a lane has one scale and one zero; a row that is not asked
// for may be read (its page holds it or the slack does).

#pragma once

#include "targets/cpu/AttendCodes.h"

namespace mlir::kvcache::cpu {

/// The map from lanes to words.
struct WordMap {
  explicit WordMap(const ::kvcache::abi::ColumnLayout &column)
      : perWord(32 / column.bits), words(column.width / perWord),
        rows(std::max<int64_t>(1, lanes / words)), parts(std::max<int64_t>(1, words / lanes)) {}

  int64_t perWord; ///< codes of a word
  int64_t words;   ///< words of a row
  int64_t rows;    ///< rows of a vector (1 where a row has 16 words or more)
  int64_t parts;   ///< vectors of a row (1 where a row has 16 words or less)
};

/// Adds the lanes of a vector's rows: sums of every row in the lanes of each.
Value addRowLanes(KernelBuilder &k, const WordMap &map, Value sums);

/// What both sides read from pages.
class WordRows {
public:
  WordRows(AttendContext &ctx, SegmentAccess segment)
      : ctx_(ctx), k_(ctx.k), segment_(segment), unpacker_(ctx.k, *segment.column),
        map_(*segment.column), perWord_(map_.perWord), words_(map_.words), rows_(map_.rows),
        parts_(map_.parts) {}

protected:
  /// The words of part `part` of the rows that start at row + ahead * rows_.
  Value loadWords(Value row, Value page, int64_t ahead, int64_t part) {
    const ::kvcache::abi::PlaneLayout &plane =
        *segment_.layout->plane(::kvcache::abi::PlaneRole::Codes);
    Value address = k_.add(ctx_.store.unit(segment_, ::kvcache::abi::PlaneRole::Codes, row, page),
                           ahead * rows_ * plane.bytesPerUnit + part * 64);
    return k_.loadBytesAs(ctx_.store.arena(), address, k_.vec(k_.i32Type()));
  }
  /// Scales or zeros of the same lanes; null when there is no such plane.
  Value loadGroups(::kvcache::abi::PlaneRole role, Value row, Value page, int64_t ahead,
                   int64_t part) {
    const ::kvcache::abi::PlaneLayout *plane = segment_.layout->plane(role);
    if (!plane) {
      return Value();
    }
    int64_t groups = segment_.column->groupsPerRow(), tile = segment_.column->tile;
    int64_t first = part * lanes * perWord_ / tile;
    SmallVector<int64_t> which;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      int64_t word = part * lanes + lane % std::min(words_, lanes);
      which.push_back(lane / std::min(words_, lanes) * groups + word * perWord_ / tile - first);
    }
    int64_t bytes =
        ahead * rows_ * plane->bytesPerUnit + first * ::kvcache::abi::bytesOf(plane->elem);
    Value address = k_.add(ctx_.store.unit(segment_, role, row, page), bytes);
    return spreadLanes(k_, loadGroupValues(ctx_, address, plane->elem, which.back() + 1), which);
  }
  /// Scales and zeros of all rows of the next page.
  void prefetchTerms(Value row, Value nextPage) {
    Value pageRow =
        k_.mul(k_.floorDiv(row, segment_.layout->rowsPerPage), segment_.layout->rowsPerPage);
    for (::kvcache::abi::PlaneRole role :
         {::kvcache::abi::PlaneRole::Scales, ::kvcache::abi::PlaneRole::Zeros}) {
      if (const ::kvcache::abi::PlaneLayout *plane = segment_.layout->plane(role)) {
        prefetchBytes(ctx_, ctx_.store.unit(segment_, role, pageRow, nextPage),
                      segment_.layout->rowsPerPage * plane->bytesPerUnit);
      }
    }
  }
  void prefetchRows(Value row, Value nextPage, int64_t rows) {
    for (::kvcache::abi::PlaneRole role :
         {::kvcache::abi::PlaneRole::Codes, ::kvcache::abi::PlaneRole::Scales,
          ::kvcache::abi::PlaneRole::Zeros}) {
      if (const ::kvcache::abi::PlaneLayout *plane = segment_.layout->plane(role)) {
        prefetchBytes(ctx_, ctx_.store.unit(segment_, role, row, nextPage),
                      rows * plane->bytesPerUnit);
      }
    }
  }

  AttendContext &ctx_;
  KernelBuilder &k_;
  SegmentAccess segment_;
  CodeUnpacker unpacker_;
  WordMap map_;
  int64_t perWord_, words_, rows_, parts_;
};

} // namespace mlir::kvcache::cpu
