// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Addresses and typed accesses of a cache store inside a kernel: the store view of
// runtime/abi/KernelAbi.h, the layouts of runtime/abi/StorageLayout.h.
//
// Invariant: no byte position is written down here. Segments, pages, planes and units come from the
// view and from the column layouts, so that kernels, store and documentation cannot disagree. All
// rows are absolute rows of their head, all addresses are byte offsets in the arena, both of type
// `index`.

#pragma once

#include "runtime/abi/StorageLayout.h"
#include "targets/cpu/KernelBuilder.h"

#include <string>
#include <vector>

namespace mlir::kvcache::cpu {

/// One segment of one column and head: its layout and what the view says about it.
struct SegmentAccess {
  const ::kvcache::abi::ColumnLayout *column = nullptr;
  const ::kvcache::abi::SegmentLayout *layout = nullptr;
  Value first;      ///< first row
  Value end;        ///< one past the last row
  Value pages;      ///< view word that holds the address of page 0
  Value firstValue; ///< of a part of each row: its first value; null for whole rows
  Value firstGroup; ///< .. and its first group of affine codes
};

/// 16 (or n) neighbouring channels of a row: the pieces that emitters unroll a row into.
struct ChannelChunk {
  int64_t start; ///< first channel, a multiple of 16
  int64_t size;  ///< lanes: 16, or what is left of the row
};

/// f32, f16 or bf16.
constexpr bool isFloatElement(::kvcache::abi::ElementType elem) {
  return elem == ::kvcache::abi::ElementType::F32 || elem == ::kvcache::abi::ElementType::F16 ||
         elem == ::kvcache::abi::ElementType::BF16;
}

/// The code of 0 where a quantizer has no zero: codes stand for -z .. z.
constexpr int64_t symmetricZero(int64_t bits) { return (int64_t(1) << (bits - 1)) - 1; }

/// The chunks of a row of `width` channels.
std::vector<ChannelChunk> channelChunks(int64_t width);

/// A store argument of the kernel under construction. `columns` must outlive it; their order is
/// that of the store.
class StoreAccess {
public:
  StoreAccess(KernelBuilder &kernel, StringRef storeArg,
              ArrayRef<::kvcache::abi::ColumnLayout> columns);

  KernelBuilder &kernel() { return k_; }
  Value arena() const { return arena_; }
  const ::kvcache::abi::ColumnLayout &column(int64_t column) const { return columns_[column]; }

  // ---- the view
  // -------------------------------------------------------------------------------------------------

  /// Row heads of the store.
  Value heads();
  /// Rows of a head.
  Value rows(Value head);
  /// Whether the column has such a segment at all (known when the kernel is made).
  bool hasSegment(int64_t column, ::kvcache::abi::SegmentKind kind) const;
  /// The segment of a head. The column must have it.
  SegmentAccess segment(int64_t column, ::kvcache::abi::SegmentKind kind, Value head);
  /// The same rows, of each only values [number * width, (number + 1) * width): channels of exact
  /// rows and of codes are counted from there. `whyNotInParts` has to be empty.
  SegmentAccess part(SegmentAccess segment, Value number, int64_t width);
  /// Why rows of a column cannot be read in parts of `width` values; empty when they can.
  static std::string whyNotInParts(const ::kvcache::abi::ColumnLayout &column, int64_t width);
  /// Address of the page that holds `row`.
  Value page(const SegmentAccess &segment, Value row);
  /// Calls `body(lo, hi, page)` for each run of rows [lo, hi) inside [first, end) that shares a
  /// page; `page` is its address.
  void forPages(const SegmentAccess &segment, Value first, Value end,
                llvm::function_ref<void(Value lo, Value hi, Value page)> body);
  /// Calls `body(lo, hi)` for the row blocks of [first, end) that are task `block` of `blocks`:
  /// blocks block, block + blocks, .. of `blockRows` rows each (the last may be shorter).
  void forRowBlocks(Value first, Value end, Value block, Value blocks, int64_t blockRows,
                    llvm::function_ref<void(Value lo, Value hi)> body);

  // ---- addresses
  // ------------------------------------------------------------------------------------------------

  /// Address of the unit (row, or block of `tile` rows) of a plane that holds `row`, which lies in
  /// `page`.
  Value unit(const SegmentAccess &segment, ::kvcache::abi::PlaneRole role, Value row, Value page);
  /// The same, page looked up.
  Value unit(const SegmentAccess &segment, ::kvcache::abi::PlaneRole role, Value row);
  /// Address of `channel` of `row` in the dense plane `Rows`.
  Value element(const SegmentAccess &segment, Value row, Value channel);

  // ---- dense values
  // ---------------------------------------------------------------------------------------------

  /// n values at an address, widened to vector<nxf32>.
  Value loadF32(Value address, ::kvcache::abi::ElementType elem, int64_t n = lanes);
  /// n integers at an address as vector<nxi32>: I8, I16, I32 with sign, U8 without.
  Value loadI32(Value address, ::kvcache::abi::ElementType elem, int64_t n = lanes);
  /// One value at an address as f32 (floats) or i32 (integers up to 32 bits).
  Value loadScalar(Value address, ::kvcache::abi::ElementType elem);
  /// vector<nxf32> rounded to `elem` (nearest even) and stored at any address.
  void storeF32(Value vector, Value address, ::kvcache::abi::ElementType elem);
  /// vector<nxi32>, low bits stored as `elem`.
  void storeI32(Value vector, Value address, ::kvcache::abi::ElementType elem);
  /// One f32 (float elem) or i32 (integer elem).
  void storeScalar(Value scalar, Value address, ::kvcache::abi::ElementType elem);
  /// 16 neighbouring rows of a column of width 1, f32 or i32, as they lie in memory; all in one
  /// page and `row` is the first of them. Lanes behind the page read the slack, then whatever
  /// follows: use only those inside.
  Value loadRows16(const SegmentAccess &segment, Value row, Value page);

  // ---- exact rows
  // -----------------------------------------------------------------------------------------------

  /// Exact rows of a head whatever segment holds them: `Sinks` below its end, `Exact` from there
  /// on.
  struct ExactRows {
    SegmentAccess exact;
    SegmentAccess sinks; ///< layout is null when the column has none
  };
  ExactRows exactRows(int64_t column, Value head);
  /// Address of an exact row.
  Value exactRow(const ExactRows &rows, Value row);

  // ---- affine codes
  // ---------------------------------------------------------------------------------------------

  /// Codes of the lanes of `chunk` of `row`, vector<nxi32> in [0, 2^bits), either tile axis.
  Value loadCodes(const SegmentAccess &segment, Value row, Value page, ChannelChunk chunk);
  /// Scale, and zero as f32 (group minimum or integer zero point; null when there is none), per
  /// lane of `chunk`.
  Value loadScales(const SegmentAccess &segment, Value row, Value page, ChannelChunk chunk);
  Value loadZeros(const SegmentAccess &segment, Value row, Value page, ChannelChunk chunk);
  /// What the codes stand for, in f32, product and sum rounded one after the other: code * scale +
  /// minimum, (code - point) * scale, or without zero (code - symmetricZero) * scale.
  Value decode(const SegmentAccess &segment, Value row, Value page, ChannelChunk chunk);

  /// vector<nxf32> whose lanes are values[(start + lane) / tile - start / tile]: group values
  /// spread over channels.
  Value spreadGroups(ArrayRef<Value> values, ChannelChunk chunk, int64_t tile);
  /// First and one past the last group (tile over channels) that `chunk` touches.
  static std::pair<int64_t, int64_t> groupsOf(ChannelChunk chunk, int64_t tile) {
    return {chunk.start / tile, (chunk.start + chunk.size - 1) / tile + 1};
  }

private:
  Value viewWord(Value index);
  /// `address` moved by `firstValue` values of `bits` bits of a part.
  Value atPart(const SegmentAccess &segment, Value address, int64_t bits);
  Value groupValues(const SegmentAccess &segment, ::kvcache::abi::PlaneRole role, Value row,
                    Value page, ChannelChunk chunk);
  /// Group values, at `base`, of a tile over several axes.
  Value blockGroupValues(Value base, ::kvcache::abi::ElementType elem,
                         const ::kvcache::abi::ColumnLayout &column, ChannelChunk chunk);

  KernelBuilder &k_;
  ArrayRef<::kvcache::abi::ColumnLayout> columns_;
  Value arena_, view_;
  int64_t segments_ = 0;
  std::vector<int64_t> firstSegment_; ///< [columns]: number of the column's first segment
};

} // namespace mlir::kvcache::cpu
