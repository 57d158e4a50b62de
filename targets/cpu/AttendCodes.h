// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the leaves of affine codes share: codes of 32-bit words to f32 lanes, group values to lanes, sums of lane segments.

#pragma once

#include "targets/cpu/AttendLeaf.h"

namespace mlir::kvcache::cpu {

/// Turns code number j of each of 16 words into f32.
class CodeUnpacker {
public:
  /// To be made outside loops. `column` has affine codes of 2, 4 or 8 bits.
  CodeUnpacker(AttendContext &ctx, const ::kvcache::abi::ColumnLayout &column);

  /// Codes in a word.
  int64_t codesPerWord() const { return 32 / bits_; }
  /// Code j of each lane's word, less `offset()`.
  Value unpack(Value words, int64_t j);
  /// The same with the code number of each lane in `shifts` = number * bits.
  Value unpack(Value words, Value shifts);
  /// What a code of value c still has to get: value = scale * (unpacked + offset) in storages without zero, and
  /// scale * (unpacked) + zero otherwise. Offsets are 0 where the table holds centred codes.
  double missingOffset() const;
  /// Whether values are scale * unpacked, without a term that does not depend on the code.
  bool isPureScale() const { return column_.zero == ::kvcache::abi::ZeroKind::None && missingOffset() == 0; }
  /// The term that does not depend on the code, given scale and zero as they are stored (zero null without one).
  Value constantTerm(Value scale, Value zero);

private:
  KernelBuilder &k_;
  const ::kvcache::abi::ColumnLayout &column_;
  int64_t bits_;
  int64_t centre_; ///< the code that stands for 0 in storage without zeros
  Value table_; ///< 16 values for the low four bits; null where codes are converted instead
};

/// n stored group values from `address` on, as f32.
Value loadGroupValues(AttendContext &ctx, Value address, ::kvcache::abi::ElementType elem, int64_t n);
/// lane l of the result = values[which[l]].
Value spreadLanes(KernelBuilder &k, Value values, ArrayRef<int64_t> which);
/// Sums of segments of 16 / n lanes of n = 16, 8, 4, 2 or 1 vectors: lane i * n + s ... of the result is the sum of
/// segment s of vector i, where each vector has 16 / n segments of n lanes.
Value reduceSegments(KernelBuilder &k, SmallVector<Value> vectors);

/// Keys and values tiled over channels, whose rows are whole words and whose groups are whole words.
bool canReadWords(const ::kvcache::abi::ColumnLayout &column);
std::unique_ptr<AttendLogitLeaf> makeWordLogitLeaf(AttendContext &ctx, SegmentAccess segment, Value queries,
                                                   std::vector<std::function<void()>> &prepare);
/// Accumulates in words of its own behind ctx.sumsStride, which it moves, and finishes to word `offset` of each head.
std::unique_ptr<AttendValueLeaf> makeWordValueLeaf(AttendContext &ctx, SegmentAccess segment, int64_t offset);

} // namespace mlir::kvcache::cpu
