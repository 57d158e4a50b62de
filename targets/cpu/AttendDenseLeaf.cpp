// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Dense rows as keys and as values: f32, f16 or bf16, read once for all query heads of a group.
//
// Invariant: a register tile of rows x heads (keys) or channels x heads (values) never exceeds spec.accumulators, so that
// nothing spills; the order of additions of a row does not depend on the tile.

#include "targets/cpu/AttendLeaf.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::PlaneRole;

AttendRegisterTile mlir::kvcache::cpu::attendRegisterTile(const AttendSpec &spec) {
  int64_t heads = std::min<int64_t>({spec.group(), 8, spec.accumulators});
  return {std::clamp<int64_t>(spec.accumulators / heads, 1, 8), heads};
}

namespace {

int64_t padded(int64_t width) { return (width + lanes - 1) / lanes * lanes; }

/// Loads one chunk of a dense row as 16 f32; channels behind the row read as 0.
Value loadChunk(KernelBuilder &k, Value typed, Value index, ChannelChunk chunk) {
  Value mask = chunk.size == lanes ? Value() : k.tailMask(k.index(0), k.index(chunk.size));
  return k.loadF32(typed, index, mask);
}

class DenseLogitLeaf final : public AttendLogitLeaf {
public:
  DenseLogitLeaf(AttendContext &ctx, SegmentAccess segment, int64_t width, Value queries, Value constants)
      : ctx_(ctx), k_(ctx.k), segment_(segment), width_(width), queries_(queries), constants_(constants) {}

  void emit(Value lo, Value hi, Value tileStart) override {
    ctx_.store.forPages(segment_, lo, hi, [&](Value first, Value end, Value page) {
      int64_t rows = attendRegisterTile(ctx_.spec).rows;
      Value count = k_.sub(end, first);
      Value full = k_.sub(end, k_.rem(count, rows));
      k_.forLoop(first, full, k_.index(rows), [&](Value row) { emitRows(row, rows, page, tileStart); });
      if (rows > 1) {
        k_.forLoop(full, end, k_.index(1), [&](Value row) { emitRows(row, 1, page, tileStart); });
      }
    });
  }

private:
  /// Logits of `rows` rows from `row` on, all query heads.
  void emitRows(Value row, int64_t rows, Value page, Value tileStart) {
    Value typed = k_.typedAt(ctx_.store.arena(), ctx_.store.unit(segment_, PlaneRole::Rows, row, page),
                             segment_.layout->plane(PlaneRole::Rows)->elem);
    Value at = k_.sub(row, tileStart);
    int64_t group = ctx_.spec.group(), block = attendRegisterTile(ctx_.spec).heads;
    for (int64_t head = 0; head < group; head += block) {
      emitHeads(typed, at, rows, head, std::min(block, group - head));
    }
  }

  void emitHeads(Value typed, Value at, int64_t rows, int64_t firstHead, int64_t heads) {
    SmallVector<Value> sums(lanes, k_.splatF32(0));
    for (const ChannelChunk &chunk : channelChunks(width_)) {
      SmallVector<Value> keys;
      for (int64_t row = 0; row < rows; ++row) {
        keys.push_back(loadChunk(k_, typed, k_.index(row * width_ + chunk.start), chunk));
      }
      for (int64_t head = 0; head < heads; ++head) {
        Value query = k_.loadVector(queries_, k_.index((firstHead + head) * padded(width_) + chunk.start));
        for (int64_t row = 0; row < rows; ++row) {
          Value &sum = sums[head * rows + row];
          sum = k_.fma(keys[row], query, sum);
        }
      }
    }
    Value totals = heads * rows > 1 ? k_.reduceAddRows(sums) : Value();
    for (int64_t head = 0; head < heads; ++head) {
      Value place = k_.add(at, (firstHead + head) * attendTileStride);
      if (rows == 1) {
        Value total = totals ? k_.extractLane(totals, head) : k_.reduceAdd(sums[0]);
        k_.store(addConstant(total, firstHead + head, 1), ctx_.tile, place);
      } else {
        k_.storeVector(addConstant(k_.extractLanes(totals, head * rows, rows), firstHead + head, rows), ctx_.tile, place);
      }
    }
  }

  Value addConstant(Value total, int64_t head, int64_t rows) {
    if (!constants_) {
      return total;
    }
    Value constant = k_.load(constants_, k_.index(head));
    return k_.add(total, rows == 1 ? constant : k_.broadcast(constant, rows));
  }

  AttendContext &ctx_;
  KernelBuilder &k_;
  SegmentAccess segment_;
  int64_t width_;
  Value queries_, constants_;
};

class DenseValueLeaf final : public AttendValueLeaf {
public:
  DenseValueLeaf(AttendContext &ctx, SegmentAccess segment, int64_t width, int64_t offset)
      : ctx_(ctx), k_(ctx.k), segment_(segment), width_(width), offset_(offset) {}

  void emit(Value lo, Value hi, Value tileStart) override {
    int64_t group = ctx_.spec.group(), block = attendRegisterTile(ctx_.spec).heads;
    std::vector<ChannelChunk> chunks = channelChunks(width_);
    ctx_.store.forPages(segment_, lo, hi, [&](Value first, Value end, Value page) {
      for (int64_t head = 0; head < group; head += block) {
        int64_t heads = std::min(block, group - head);
        int64_t atOnce = std::max<int64_t>(1, ctx_.spec.accumulators / heads);
        for (size_t chunk = 0; chunk < chunks.size(); chunk += atOnce) {
          emitBlock(first, end, page, tileStart, head, heads, ArrayRef(chunks).slice(chunk).take_front(atOnce));
        }
      }
    });
  }

private:
  /// All rows of a page run, some heads, some chunks: the accumulators stay in registers.
  void emitBlock(Value first, Value end, Value page, Value tileStart, int64_t firstHead, int64_t heads,
                 ArrayRef<ChannelChunk> chunks) {
    SmallVector<Value> sums;
    auto place = [&](int64_t head, const ChannelChunk &chunk) {
      return k_.index((firstHead + head) * ctx_.sumsStride + offset_ + chunk.start);
    };
    for (int64_t head = 0; head < heads; ++head) {
      for (const ChannelChunk &chunk : chunks) {
        sums.push_back(k_.loadVector(ctx_.sums, place(head, chunk)));
      }
    }
    sums = k_.forLoop(first, end, k_.index(1), sums, [&](Value row, ValueRange carried) {
      Value typed = k_.typedAt(ctx_.store.arena(), ctx_.store.unit(segment_, PlaneRole::Rows, row, page),
                               segment_.layout->plane(PlaneRole::Rows)->elem);
      SmallVector<Value> values, next;
      for (const ChannelChunk &chunk : chunks) {
        values.push_back(loadChunk(k_, typed, k_.index(chunk.start), chunk));
      }
      Value at = k_.sub(row, tileStart);
      for (int64_t head = 0; head < heads; ++head) {
        Value p = k_.broadcast(k_.load(ctx_.tile, k_.add(at, (firstHead + head) * attendTileStride)));
        for (size_t chunk = 0; chunk < chunks.size(); ++chunk) {
          next.push_back(k_.fma(p, values[chunk], carried[head * chunks.size() + chunk]));
        }
      }
      return next;
    });
    for (int64_t head = 0; head < heads; ++head) {
      for (size_t chunk = 0; chunk < chunks.size(); ++chunk) {
        k_.storeVector(sums[head * chunks.size() + chunk], ctx_.sums, place(head, chunks[chunk]));
      }
    }
  }

  AttendContext &ctx_;
  KernelBuilder &k_;
  SegmentAccess segment_;
  int64_t width_, offset_;
};

} // namespace

std::unique_ptr<AttendLogitLeaf> mlir::kvcache::cpu::makeDenseLogitLeaf(AttendContext &ctx, SegmentAccess segment, int64_t width,
                                                                        Value queries, Value constants) {
  return std::make_unique<DenseLogitLeaf>(ctx, segment, width, queries, constants);
}

std::unique_ptr<AttendValueLeaf> mlir::kvcache::cpu::makeDenseValueLeaf(AttendContext &ctx, SegmentAccess segment, int64_t width,
                                                                        int64_t offset) {
  return std::make_unique<DenseValueLeaf>(ctx, segment, width, offset);
}
