// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Affine codes tiled over tokens: a word holds the codes of neighbouring rows for one channel.
// Keys: 16 rows in the lanes (words of a channel broadcast, codes masked in place), so that no sum
// crosses lanes; scales are folded into the query and zeros into one product once per block of
// rows. Values: 16 channels in the lanes, scaled once per block.

#include "targets/cpu/AttendTokenBlocks.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::PlaneLayout;
using ::kvcache::abi::PlaneRole;
using ::kvcache::abi::TileAxis;

bool mlir::kvcache::cpu::canReadTokenWords(const AttendSpec &spec, const ColumnLayout &column) {
  return !spec.sharesRows && column.tileAxis == TileAxis::Token &&
         (column.bits == 2 || column.bits == 4 || column.bits == 8);
}

namespace {

class TokenLogitLeaf final : public AttendLogitLeaf, TokenBlocks {
public:
  TokenLogitLeaf(AttendContext &ctx, SegmentAccess segment, Value queries)
      : TokenBlocks(ctx, segment), queries_(queries),
        scaled_(attendScratch(ctx.k, ctx.spec.group() * ctx.spec.paddedDim())),
        constants_(attendScratch(ctx.k, ctx.spec.group())) {}

  void emit(Value lo, Value hi, Value tileStart) override {
    int64_t group = ctx_.spec.group(), block = attendRegisterTile(ctx_.spec).heads;
    int64_t vectors = column_.tile > lanes && ctx_.spec.accumulators >= 2 * block ? 2 : 1;
    forBlocks(lo, hi, [&](Value first, Value end, Value page, Value next) {
      prefetchTerms(first, next);
      scaleQueries(first, page);
      k_.forLoop(first, end, k_.index(vectors * lanes), [&](Value row) {
        for (int64_t head = 0; head < group; head += block) {
          emitRows(row, end, page, head == 0 ? next : Value(), tileStart, vectors, head,
                   std::min(block, group - head));
        }
      });
    });
  }

private:
  /// scaled_ = q * scale, constants_ = q . constant terms, for the block of `row`.
  void scaleQueries(Value row, Value page) {
    SmallVector<Value> sums(ctx_.spec.group(), k_.splatF32(0));
    for (const ChannelChunk &chunk : channelChunks(column_.width)) {
      auto [scale, term] = loadTerms(row, page, chunk);
      for (int64_t head = 0; head < ctx_.spec.group(); ++head) {
        Value place = k_.index(head * ctx_.spec.paddedDim() + chunk.start),
              query = k_.loadVector(queries_, place);
        k_.storeVector(k_.mul(query, scale), scaled_, place);
        sums[head] = k_.fma(query, term, sums[head]);
      }
    }
    for (int64_t head = 0; head < ctx_.spec.group(); ++head) {
      k_.store(k_.reduceAdd(sums[head]), constants_, k_.index(head));
    }
  }

  /// Per lane the code's place in its word: masks, and the weights to take back.
  std::pair<Value, Value> laneMasks() {
    SmallVector<int32_t> masks;
    SmallVector<float> weights;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      int64_t j = lane % perWord_;
      masks.push_back(
          static_cast<int32_t>(((int64_t(1) << column_.bits) - 1) << (column_.bits * j)));
      weights.push_back(
          static_cast<float>(1.0 / static_cast<double>(int64_t(1) << (column_.bits * j))));
    }
    OpBuilder &b = k_.builder();
    return {
        arith::ConstantOp::create(
            b, k_.loc(), DenseElementsAttr::get(k_.vec(k_.i32Type()), ArrayRef<int32_t>(masks))),
        arith::ConstantOp::create(
            b, k_.loc(), DenseElementsAttr::get(k_.vec(k_.f32Type()), ArrayRef<float>(weights)))};
  }

  /// Logits of 16 * vectors rows; those at or behind `end` come from its last word and count for
  /// nothing.
  void emitRows(Value row, Value end, Value page, Value nextPage, Value tileStart, int64_t vectors,
                int64_t firstHead, int64_t heads) {
    auto [masks, weights] = laneMasks();
    int64_t wordsPerVector = std::max<int64_t>(1, lanes / perWord_);
    Value lastWord = k_.sub(end, k_.index(perWord_));
    SmallVector<Value> addresses; // of the words of the lanes, channel 0
    for (int64_t i = 0; i < vectors * wordsPerVector; ++i) {
      Value address = wordRow(k_.min(k_.add(row, i * perWord_), lastWord), page);
      addresses.push_back(
          k_.typedAt(ctx_.store.arena(), address, ::kvcache::abi::ElementType::I32));
    }
    // So many channels at a time that their codes of these rows are one cache line.
    int64_t channelBytes = vectors * lanes * column_.bits / 8,
            unroll = std::max<int64_t>(1, 64 / channelBytes);
    unroll = column_.width % unroll == 0 ? unroll : 1;
    Value ahead = nextPage ? wordRow(row, nextPage) : Value();
    SmallVector<Value> sums(vectors * heads, k_.splatF32(0));
    sums = k_.forLoop(k_.index(0), k_.index(column_.width), k_.index(unroll), sums,
                      [&](Value channel, ValueRange in) {
                        if (ahead) {
                          prefetchBytes(ctx_, k_.add(ahead, k_.mul(channel, channelBytes)),
                                        unroll * channelBytes);
                        }
                        SmallVector<Value> next(in);
                        for (int64_t i = 0; i < unroll; ++i) {
                          addChannel(k_.add(channel, i), addresses, masks, vectors, firstHead,
                                     heads, next);
                        }
                        return next;
                      });
    for (int64_t i = 0; i < vectors * heads; ++i) {
      int64_t head = firstHead + i % heads;
      Value place =
          k_.add(k_.add(k_.sub(row, tileStart), head * attendTileStride), i / heads * lanes);
      Value constant = k_.broadcast(k_.load(constants_, k_.index(head)));
      k_.storeVector(k_.fma(sums[i], weights, constant), ctx_.tile, place);
    }
  }

  /// sums[vector][head] += codes of `channel` * query.
  void addChannel(Value channel, ArrayRef<Value> addresses, Value masks, int64_t vectors,
                  int64_t firstHead, int64_t heads, SmallVector<Value> &sums) {
    int64_t wordsPerVector = static_cast<int64_t>(addresses.size()) / vectors;
    SmallVector<Value> codes;
    for (int64_t i = 0; i < vectors; ++i) {
      Value words = k_.broadcast(k_.load(addresses[i * wordsPerVector], channel));
      for (int64_t word = 1; word < wordsPerVector; ++word) {
        Value behind = k_.lt(k_.laneNumbers(), k_.splatI32(word * perWord_));
        words = k_.select(behind, words,
                          k_.broadcast(k_.load(addresses[i * wordsPerVector + word], channel)));
      }
      codes.push_back(unsignedToF32(k_.andi(words, masks)));
    }
    for (int64_t head = 0; head < heads; ++head) {
      Value query = k_.broadcast(
          k_.load(scaled_, k_.add(channel, (firstHead + head) * ctx_.spec.paddedDim())));
      for (int64_t i = 0; i < vectors; ++i) {
        Value &sum = sums[i * heads + head];
        sum = k_.fma(codes[i], query, sum);
      }
    }
  }

  Value unsignedToF32(Value words) {
    return arith::UIToFPOp::create(k_.builder(), k_.loc(), k_.vec(k_.f32Type()), words);
  }

  Value queries_;   ///< f32 [G][Dp]
  Value scaled_;    ///< f32 [G][Dp]
  Value constants_; ///< f32 [G]
};

class TokenValueLeaf final : public AttendValueLeaf, TokenBlocks {
public:
  TokenValueLeaf(AttendContext &ctx, SegmentAccess segment, int64_t offset)
      : TokenBlocks(ctx, segment), offset_(offset),
        totals_(attendScratch(ctx.k, ctx.spec.group())) {}

  void emit(Value lo, Value hi, Value tileStart) override {
    int64_t group = ctx_.spec.group(), block = attendRegisterTile(ctx_.spec).heads;
    std::vector<ChannelChunk> chunks = channelChunks(column_.width);
    forBlocks(lo, hi, [&](Value first, Value end, Value page, Value next) {
      prefetchTerms(first, next);
      sumWeights(k_.sub(first, tileStart), k_.sub(end, tileStart));
      for (int64_t head = 0; head < group; head += block) {
        int64_t heads = std::min(block, group - head);
        auto atOnce = static_cast<size_t>(std::max<int64_t>(1, ctx_.spec.accumulators / heads));
        for (size_t chunk = 0; chunk < chunks.size(); chunk += atOnce) {
          emitChunks(first, end, page, head == 0 ? next : Value(), tileStart, head, heads,
                     ArrayRef(chunks).slice(chunk).take_front(atOnce));
        }
      }
    });
  }

private:
  /// totals_[head] = sum of p over lanes [first, end) of the tile.
  void sumWeights(Value first, Value end) {
    k_.forLoop(k_.index(ctx_.spec.group()), [&](Value head) {
      Value base = k_.mul(head, attendTileStride);
      Value sum =
          k_.forVectors(first, end, {k_.splatF32(0)}, [&](Value at, Value mask, ValueRange in) {
            return SmallVector<Value>{
                k_.add(in[0], k_.loadVector(ctx_.tile, k_.add(base, at), mask))};
          })[0];
      k_.store(k_.reduceAdd(sum), totals_, head);
    });
  }

  void emitChunks(Value first, Value end, Value page, Value nextPage, Value tileStart,
                  int64_t firstHead, int64_t heads, ArrayRef<ChannelChunk> chunks) {
    auto n = static_cast<int64_t>(chunks.size());
    SmallVector<Value> init(heads * n, k_.splatF32(0));
    SmallVector<Value> sums =
        k_.forLoop(first, end, k_.index(perWord_), init, [&](Value row, ValueRange in) {
          SmallVector<Value> words, next(in);
          Value address = wordRow(row, page), at = k_.sub(row, tileStart);
          if (nextPage) {
            prefetchBytes(ctx_, k_.add(wordRow(row, nextPage), chunks[0].start * 4), n * lanes * 4);
          }
          for (const ChannelChunk &chunk : chunks) {
            Value place = k_.add(address, chunk.start * 4);
            // Channels behind the row are those of the next word row, or of the plane behind it:
            // finite, and never used.
            words.push_back(k_.loadBytesAs(ctx_.store.arena(), place, k_.vec(k_.i32Type())));
          }
          for (int64_t j = 0; j < perWord_; ++j) {
            Value weight = k_.f32(1.0 / unpacker_.weight(j));
            SmallVector<Value> weights;
            for (int64_t head = 0; head < heads; ++head) {
              Value p = k_.load(ctx_.tile, k_.add(at, (firstHead + head) * attendTileStride + j));
              weights.push_back(k_.broadcast(k_.mul(p, weight)));
            }
            for (int64_t i = 0; i < n; ++i) {
              Value codes = unpacker_.unpack(words[i], j);
              for (int64_t head = 0; head < heads; ++head) {
                next[head * n + i] = k_.fma(codes, weights[head], next[head * n + i]);
              }
            }
          }
          return next;
        });
    for (int64_t i = 0; i < n; ++i) {
      auto [scale, term] = loadTerms(first, page, chunks[i]);
      for (int64_t head = 0; head < heads; ++head) {
        Value place = k_.index((firstHead + head) * ctx_.sumsStride + offset_ + chunks[i].start);
        Value total = k_.broadcast(k_.load(totals_, k_.index(firstHead + head)));
        Value sum = k_.fma(total, term, k_.loadVector(ctx_.sums, place));
        k_.storeVector(k_.fma(sums[head * n + i], scale, sum), ctx_.sums, place);
      }
    }
  }

  int64_t offset_;
  Value totals_; ///< f32 [G]
};

} // namespace

std::unique_ptr<AttendLogitLeaf>
mlir::kvcache::cpu::makeTokenLogitLeaf(AttendContext &ctx, SegmentAccess segment, Value queries) {
  return std::make_unique<TokenLogitLeaf>(ctx, segment, queries);
}

std::unique_ptr<AttendValueLeaf>
mlir::kvcache::cpu::makeTokenValueLeaf(AttendContext &ctx, SegmentAccess segment, int64_t offset) {
  return std::make_unique<TokenValueLeaf>(ctx, segment, offset);
}
