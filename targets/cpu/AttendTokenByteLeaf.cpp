// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Keys tiled over tokens, multiplied in integers. The query times the scales of a block of rows
// becomes fixed-point numbers once per block. Words of 16 channels hold neighbouring rows in their
// bytes; brought into groups of four channels, a byte product adds up channels of one row.
//
// Invariant: rows at or behind the last one come from its last word and count for nothing.

#include "targets/cpu/AttendTokenBlocks.h"
#include "targets/cpu/IntegerProducts.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ColumnLayout;

namespace {

constexpr int64_t rowsAtOnce = lanes; ///< their sums are four vectors, whatever the bits

class TokenByteLeaf final : public AttendLogitLeaf, TokenBlocks {
public:
  TokenByteLeaf(AttendContext &ctx, SegmentAccess segment, Value queries)
      : TokenBlocks(ctx, segment), queries_(queries), planes_(8 / column_.bits),
        scaled_(attendScratch(ctx.k, ctx.spec.group() * ctx.spec.paddedDim())),
        factors_(attendScratch(ctx.k, ctx.spec.group() * factorsOfHead())),
        scales_(attendScratch(ctx.k, ctx.spec.group())),
        constants_(attendScratch(ctx.k, ctx.spec.group())) {}

  void emit(Value lo, Value hi, Value tileStart) override {
    int64_t group = ctx_.spec.group();
    int64_t block = std::clamp<int64_t>(ctx_.spec.accumulators / 8, 1, group);
    forBlocks(lo, hi, [&](Value first, Value end, Value page, Value next) {
      prefetchTerms(first, next);
      scaleQueries(first, page);
      k_.forLoop(first, end, k_.index(rowsAtOnce), [&](Value row) {
        for (int64_t head = 0; head < group; head += block) {
          emitRows(row, end, page, head == 0 ? next : Value(), tileStart, head,
                   std::min(block, group - head));
        }
      });
    });
  }

private:
  int64_t factorsOfHead() const {
    return static_cast<int64_t>(channelChunks(column_.width).size()) * 2 * lanes;
  }

  /// scaled_ = q * scale, constants_ = q . constant terms, for the block of `row`; then factors_.
  void scaleQueries(Value row, Value page) {
    int64_t group = ctx_.spec.group();
    SmallVector<Value> sums(group, k_.splatF32(0)), largest(group, k_.splatF32(0));
    for (const ChannelChunk &chunk : channelChunks(column_.width)) {
      auto [scale, term] = loadTerms(row, page, chunk);
      for (int64_t head = 0; head < group; ++head) {
        Value place = k_.index(head * ctx_.spec.paddedDim() + chunk.start);
        Value query = k_.loadVector(queries_, place), scaled = k_.mul(query, scale);
        k_.storeVector(scaled, scaled_, place);
        sums[head] = k_.fma(query, term, sums[head]);
        largest[head] = k_.max(largest[head], k_.abs(scaled));
      }
    }
    for (int64_t head = 0; head < group; ++head) {
      k_.store(k_.reduceAdd(sums[head]), constants_, k_.index(head));
      storeFactors(head, k_.reduceMax(largest[head]));
    }
  }

  /// factors_[chunk][high, low], lane 4 i + b for every b: channels 4 i to 4 i + 3 of the chunk as
  /// fixed-point numbers.
  void storeFactors(int64_t head, Value largest) {
    Value isZero = k_.eq(largest, k_.f32(0));
    Value factor =
        k_.broadcast(k_.div(k_.f32(fixedPointLimit), k_.select(isZero, k_.f32(1), largest)));
    k_.store(k_.mul(largest, k_.f32(1.0 / static_cast<double>(fixedPointLimit))), scales_,
             k_.index(head));
    for (const ChannelChunk &chunk : channelChunks(column_.width)) {
      Value scaled = k_.loadVector(scaled_, k_.index(head * ctx_.spec.paddedDim() + chunk.start));
      auto bytes = VectorType::get({2 * lanes}, k_.builder().getI8Type());
      Value numbers = k_.bitcast(fixedPointBytes(k_, scaled, factor), bytes);
      for (int64_t low = 0; low < 2; ++low) {
        SmallVector<int64_t> which;
        for (int64_t place = 0; place < 4 * lanes; ++place) {
          which.push_back(2 * (place / 16 * 4 + place % 4) + 1 - low);
        }
        Value spread = k_.bitcast(k_.shuffle(numbers, numbers, which), k_.vec(k_.f32Type()));
        k_.storeVector(spread, factors_,
                       k_.index(head * factorsOfHead() + (chunk.start * 2 + low * lanes)));
      }
    }
  }

  /// Byte b of the words of four channels, next to each other: word b of the four.
  Value groupChannels(Value words) {
    auto bytes = VectorType::get({4 * lanes}, k_.builder().getI8Type());
    SmallVector<int64_t> which;
    for (int64_t place = 0; place < 4 * lanes; ++place) {
      which.push_back(place / 16 * 16 + place % 4 * 4 + place / 4 % 4);
    }
    Value source = k_.bitcast(words, bytes);
    return k_.bitcast(k_.shuffle(source, source, which), k_.vec(k_.i32Type()));
  }

  /// Logits of 16 rows.
  void emitRows(Value row, Value end, Value page, Value nextPage, Value tileStart,
                int64_t firstHead, int64_t heads) {
    int64_t wordRows = rowsAtOnce / perWord_;
    Value lastWord = k_.sub(end, k_.index(perWord_));
    SmallVector<Value> addresses;
    for (int64_t i = 0; i < wordRows; ++i) {
      addresses.push_back(wordRow(k_.min(k_.add(row, i * perWord_), lastWord), page));
    }
    // [head][word row][plane][high, low]: 8 vectors of a head.
    SmallVector<Value> sums(heads * 8, k_.splatI32(0));
    for (const ChannelChunk &chunk : channelChunks(column_.width)) {
      for (int64_t i = 0; i < wordRows; ++i) {
        if (nextPage) {
          prefetchBytes(ctx_, k_.add(wordRow(k_.add(row, i * perWord_), nextPage), chunk.start * 4),
                        64);
        }
        // Channels behind the row are those of the next word row, or of the plane behind it: their
        // factors are 0.
        Value words = groupChannels(k_.loadBytesAs(
            ctx_.store.arena(), k_.add(addresses[i], chunk.start * 4), k_.vec(k_.i32Type())));
        for (int64_t plane = 0; plane < planes_; ++plane) {
          addPlane(codeBytes(k_, words, column_.bits, plane), chunk, i * planes_ + plane, firstHead,
                   heads, sums);
        }
      }
    }
    for (int64_t head = 0; head < heads; ++head) {
      storeLogits(ArrayRef(sums).slice(head * 8, 8), k_.sub(row, tileStart), firstHead + head);
    }
  }

  /// sums[head][which] += codes * factors of a chunk of channels.
  void addPlane(Value codes, const ChannelChunk &chunk, int64_t which, int64_t firstHead,
                int64_t heads, SmallVector<Value> &sums) {
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t low = 0; low < 2; ++low) {
        int64_t place = (firstHead + head) * factorsOfHead() + chunk.start * 2 + low * lanes;
        Value factors = k_.bitcast(k_.loadVector(factors_, k_.index(place)), k_.vec(k_.i32Type()));
        Value &sum = sums[head * 8 + which * 2 + low];
        sum = addByteProducts(k_, ctx_.spec.wideRegisters(), sum, codes, factors);
      }
    }
  }

  /// Adds up the four lanes of each byte and brings the rows into order.
  void storeLogits(ArrayRef<Value> sums, Value at, int64_t head) {
    SmallVector<Value> whole;
    for (int64_t i = 0; i < 4; ++i) {
      whole.push_back(k_.add(k_.shl(sums[2 * i], k_.splatI32(8)), sums[2 * i + 1]));
    }
    LaneSums rows(whole);
    rows.halvings = 2; // what is left are lanes 4 apart
    rows.halve(k_);
    rows.halve(k_);
    SmallVector<int64_t> order(lanes, 0);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      int64_t vector = rows.labels[0][lane] / lanes, byte = rows.labels[0][lane] % 4;
      order[vector / planes_ * perWord_ + byte * planes_ + vector % planes_] = lane;
    }
    Value scale = k_.broadcast(k_.load(scales_, k_.index(head)));
    Value constant = k_.broadcast(k_.load(constants_, k_.index(head)));
    Value logits = k_.fma(k_.intToF32(rows.vectors[0]), scale, constant);
    k_.storeVector(spreadLanes(k_, logits, order), ctx_.tile, k_.add(at, head * attendTileStride));
  }

  Value queries_;   ///< f32 [G][Dp]
  int64_t planes_;  ///< codes of a byte
  Value scaled_;    ///< f32 [G][Dp]
  Value factors_;   ///< words [G][chunks][high, low][16]
  Value scales_;    ///< f32 [G]
  Value constants_; ///< f32 [G]
};

} // namespace

bool mlir::kvcache::cpu::multipliesTokenBytes(const AttendSpec &spec, const ColumnLayout &column) {
  int64_t largest = column.width * ((int64_t(1) << column.bits) - 1) * fixedPointLimit;
  return spec.integerProducts && canReadTokenWords(spec, column) &&
         largest <= std::numeric_limits<int32_t>::max();
}

std::unique_ptr<AttendLogitLeaf>
mlir::kvcache::cpu::makeTokenByteLeaf(AttendContext &ctx, SegmentAccess segment, Value queries) {
  return std::make_unique<TokenByteLeaf>(ctx, segment, queries);
}
