// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the leaves of affine codes share: codes of 32-bit words to f32 lanes, group values to lanes,
// sums of lane segments.

#pragma once

#include "targets/cpu/AttendLeaf.h"

namespace mlir::kvcache::cpu {

/// Turns code number j of each of 16 words into f32 without moving it to the low bits: what comes
/// out is code * weight(j), a power of two that the other factor of the product takes back,
/// exactly.
class CodeUnpacker {
public:
  /// `column` has affine codes of 2, 4 or 8 bits.
  CodeUnpacker(KernelBuilder &k, const ::kvcache::abi::ColumnLayout &column)
      : k_(k), column_(column), bits_(column.bits) {}

  /// Codes in a word.
  int64_t codesPerWord() const { return 32 / bits_; }
  /// Code j of each lane's word, times weight(j).
  Value unpack(Value words, int64_t j);
  /// 2^(bits * j), but 1 for the last code, whose conversion would need an unsigned one.
  double weight(int64_t j) const;
  /// The term of a value that does not depend on its code, given scale and zero as they are stored
  /// (zero null without one): value = scale * code + this.
  Value constantTerm(Value scale, Value zero);

private:
  KernelBuilder &k_;
  const ::kvcache::abi::ColumnLayout &column_;
  int64_t bits_;
};

/// n stored group values from `address` on, as f32; at least four are read (and returned) of types
/// narrower than that.
Value loadGroupValues(AttendContext &ctx, Value address, ::kvcache::abi::ElementType elem,
                      int64_t n);
/// lane l of the result = values[which[l]].
Value spreadLanes(KernelBuilder &k, Value values, ArrayRef<int64_t> which);
/// Vectors whose neighbouring lanes are being added up, several vectors at once: after halve() has
/// been called s times, a lane is the sum of 2^s neighbouring lanes of one of the original vectors.
struct LaneSums {
  explicit LaneSums(SmallVector<Value> originals);

  /// Adds pairs of neighbouring lanes and packs pairs of vectors into one.
  void halve(KernelBuilder &k);

  SmallVector<Value> vectors;
  /// Per vector and lane: 16 * original vector + its first lane; -1 where there is none.
  std::vector<SmallVector<int64_t>> labels;
  int64_t halvings = 0;
};

/// Keys and values tiled over channels, whose rows are whole words and whose groups are whole
/// words; not in parts of rows, as of rows that heads share.
bool canReadWords(const AttendSpec &spec, const ::kvcache::abi::ColumnLayout &column);
std::unique_ptr<AttendLogitLeaf> makeWordLogitLeaf(AttendContext &ctx, SegmentAccess segment,
                                                   Value queries,
                                                   std::vector<std::function<void()>> &prepare);
/// f32 words of one head that the value leaf accumulates: [parts][codes of a word][16] of weighted
/// codes, [parts][16] of constant terms.
int64_t wordSumsWidth(const ::kvcache::abi::ColumnLayout &column);
/// Accumulates from word `offset` of each head of ctx.sums on.
std::unique_ptr<AttendValueLeaf> makeWordValueLeaf(AttendContext &ctx, SegmentAccess segment,
                                                   int64_t offset);
/// Brings such sums, at word `from` of `memref`, into channel order and adds them to the f32 [D] at
/// word `to`.
void orderWordSums(KernelBuilder &k, const ::kvcache::abi::ColumnLayout &column, Value memref,
                   int64_t from, int64_t to);

/// The same with integer products, where the spec has them: the same words of sums, in an order of
/// their own.
bool weighsInBytes(const AttendSpec &spec, const ::kvcache::abi::ColumnLayout &column);
std::unique_ptr<AttendValueLeaf> makeWordByteLeaf(AttendContext &ctx, SegmentAccess segment,
                                                  int64_t offset);
void orderByteSums(KernelBuilder &k, const ::kvcache::abi::ColumnLayout &column, Value memref,
                   int64_t from, int64_t to);

/// Codes tiled over tokens, of whole rows.
bool canReadTokenWords(const AttendSpec &spec, const ::kvcache::abi::ColumnLayout &column);
std::unique_ptr<AttendLogitLeaf> makeTokenLogitLeaf(AttendContext &ctx, SegmentAccess segment,
                                                    Value queries);
/// The same with integer products, where the spec has them.
bool multipliesTokenBytes(const AttendSpec &spec, const ::kvcache::abi::ColumnLayout &column);
std::unique_ptr<AttendLogitLeaf> makeTokenByteLeaf(AttendContext &ctx, SegmentAccess segment,
                                                   Value queries);
/// Accumulates in channel order from word `offset` of each head of ctx.sums on.
std::unique_ptr<AttendValueLeaf> makeTokenValueLeaf(AttendContext &ctx, SegmentAccess segment,
                                                    int64_t offset);

} // namespace mlir::kvcache::cpu
