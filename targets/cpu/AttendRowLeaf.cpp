// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Keys and values of any storage that can be read row by row: rows are decoded in registers, 16
// channels at a time, once for all query heads of a group. Dense rows and factor coefficients are
// always read so; codes where no leaf knows better.
//
// Invariant: a register tile of rows x heads (keys) or heads x channels (values) never exceeds
// spec.accumulators, so that nothing spills; the order of additions of a row does not depend on the
// tile.

#include "targets/cpu/AttendRowLoader.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;

AttendRegisterTile mlir::kvcache::cpu::attendRegisterTile(const AttendSpec &spec) {
  int64_t heads = std::min<int64_t>({spec.group(), 8, spec.accumulators});
  return {std::clamp<int64_t>(spec.accumulators / heads, 1, 8), heads};
}

namespace {

/// Calls `body` for the places [lo, hi) of the list whose rows lie in the segment.
void forChosenRows(AttendContext &ctx, const SegmentAccess &segment, Value lo, Value hi,
                   llvm::function_ref<void(const AttendRow &, Value place)> body) {
  KernelBuilder &k = ctx.k;
  k.forLoop(lo, hi, k.index(1), [&](Value place) {
    Value row = ctx.rowAt(place);
    k.ifThen(k.andi(k.le(segment.first, row), k.lt(row, segment.end)), [&] {
      Value page = ctx.store.page(segment, row);
      body({row, page, page}, place);
    });
  });
}

class RowLogitLeaf final : public AttendLogitLeaf {
public:
  RowLogitLeaf(AttendContext &ctx, std::unique_ptr<AttendRowLoader> loader, Value queries,
               Value constants)
      : ctx_(ctx), k_(ctx.k), loader_(std::move(loader)), queries_(queries), constants_(constants) {
  }

  void emit(Value lo, Value hi, Value tileStart) override {
    if (ctx_.rowAt) {
      forChosenRows(ctx_, loader_->segment(), lo, hi, [&](const AttendRow &row, Value place) {
        emitRows(row, k_.sub(place, tileStart), 1);
      });
      return;
    }
    ctx_.store.forPages(loader_->segment(), lo, hi, [&](Value first, Value end, Value page) {
      Value next = nextAttendPage(ctx_, loader_->segment(), first);
      int64_t rows = attendRegisterTile(ctx_.spec).rows;
      Value full = k_.sub(end, k_.rem(k_.sub(end, first), rows));
      k_.forLoop(first, full, k_.index(rows),
                 [&](Value row) { emitRows({row, page, next}, k_.sub(row, tileStart), rows); });
      if (rows > 1) {
        k_.forLoop(full, end, k_.index(1),
                   [&](Value row) { emitRows({row, page, next}, k_.sub(row, tileStart), 1); });
      }
    });
  }

private:
  /// Logits of `rows` rows from `row` on, all query heads, to lanes `at` .. of the tile.
  void emitRows(const AttendRow &row, Value at, int64_t rows) {
    if (!ctx_.rowAt) {
      loader_->prefetch(row, rows, loader_->pieces());
    }
    int64_t group = ctx_.spec.group(), block = attendRegisterTile(ctx_.spec).heads;
    for (int64_t head = 0; head < group; head += block) {
      emitHeads(row, at, rows, head, std::min(block, group - head));
    }
  }

  void emitHeads(const AttendRow &row, Value at, int64_t rows, int64_t firstHead, int64_t heads) {
    SmallVector<Value> sums(lanes, k_.splatF32(0));
    int64_t stride = paddedWidth(loader_->width());
    for (const ChannelChunk &piece : loader_->pieces()) {
      SmallVector<Value> keys;
      for (int64_t i = 0; i < rows; ++i) {
        keys.push_back(loader_->load(row, i, piece));
      }
      for (int64_t head = 0; head < heads; ++head) {
        Value query = k_.loadVector(queries_, k_.index((firstHead + head) * stride + piece.start));
        for (int64_t i = 0; i < rows; ++i) {
          Value &sum = sums[head * rows + i];
          sum = k_.fma(keys[i], query, sum);
        }
      }
    }
    storeAttendLogits(ctx_, sums, at, rows, firstHead, heads, constants_);
  }

  AttendContext &ctx_;
  KernelBuilder &k_;
  std::unique_ptr<AttendRowLoader> loader_;
  Value queries_, constants_;
};

class RowValueLeaf final : public AttendValueLeaf {
public:
  RowValueLeaf(AttendContext &ctx, std::unique_ptr<AttendRowLoader> loader, int64_t offset)
      : ctx_(ctx), k_(ctx.k), loader_(std::move(loader)), offset_(offset) {}

  void emit(Value lo, Value hi, Value tileStart) override {
    int64_t group = ctx_.spec.group(), block = attendRegisterTile(ctx_.spec).heads;
    if (ctx_.rowAt) {
      forChosenRows(ctx_, loader_->segment(), lo, hi, [&](const AttendRow &row, Value place) {
        emitChosen(row, k_.sub(place, tileStart));
      });
      return;
    }
    ctx_.store.forPages(loader_->segment(), lo, hi, [&](Value first, Value end, Value page) {
      Value next = nextAttendPage(ctx_, loader_->segment(), first);
      for (int64_t head = 0; head < group; head += block) {
        int64_t heads = std::min(block, group - head);
        auto atOnce = static_cast<size_t>(std::max<int64_t>(1, ctx_.spec.accumulators / heads));
        for (size_t piece = 0; piece < loader_->pieces().size(); piece += atOnce) {
          emitBlock(first, end, page, next, tileStart, head, heads,
                    ArrayRef(loader_->pieces()).slice(piece).take_front(atOnce));
        }
      }
    });
  }

private:
  /// One row that lies anywhere, its probabilities at lane `at` of the tile.
  void emitChosen(const AttendRow &row, Value at) {
    for (const ChannelChunk &piece : loader_->pieces()) {
      Value values = loader_->load(row, 0, piece);
      k_.forLoop(k_.index(ctx_.spec.group()), [&](Value head) {
        Value p = k_.broadcast(k_.load(ctx_.tile, k_.add(at, k_.mul(head, attendTileStride))));
        Value place = k_.add(k_.mul(head, ctx_.sumsStride), offset_ + piece.start);
        k_.storeVector(k_.fma(p, values, k_.loadVector(ctx_.sums, place)), ctx_.sums, place);
      });
    }
  }

  /// All rows of a page run, some heads, some pieces: the accumulators stay in registers.
  void emitBlock(Value first, Value end, Value page, Value nextPage, Value tileStart,
                 int64_t firstHead, int64_t heads, ArrayRef<ChannelChunk> pieces) {
    SmallVector<Value> sums;
    auto place = [&](int64_t head, const ChannelChunk &piece) {
      return k_.index((firstHead + head) * ctx_.sumsStride + offset_ + piece.start);
    };
    for (int64_t head = 0; head < heads; ++head) {
      for (const ChannelChunk &piece : pieces) {
        sums.push_back(k_.loadVector(ctx_.sums, place(head, piece)));
      }
    }
    sums = k_.forLoop(first, end, k_.index(1), sums, [&](Value row, ValueRange carried) {
      AttendRow source{row, page, nextPage};
      loader_->prefetch(source, 1, pieces);
      SmallVector<Value> values, next;
      for (const ChannelChunk &piece : pieces) {
        values.push_back(loader_->load(source, 0, piece));
      }
      Value at = k_.sub(row, tileStart);
      for (int64_t head = 0; head < heads; ++head) {
        Value p =
            k_.broadcast(k_.load(ctx_.tile, k_.add(at, (firstHead + head) * attendTileStride)));
        for (size_t piece = 0; piece < pieces.size(); ++piece) {
          next.push_back(k_.fma(p, values[piece], carried[head * pieces.size() + piece]));
        }
      }
      return next;
    });
    for (int64_t head = 0; head < heads; ++head) {
      for (size_t piece = 0; piece < pieces.size(); ++piece) {
        k_.storeVector(sums[head * pieces.size() + piece], ctx_.sums, place(head, pieces[piece]));
      }
    }
  }

  AttendContext &ctx_;
  KernelBuilder &k_;
  std::unique_ptr<AttendRowLoader> loader_;
  int64_t offset_;
};

} // namespace

void mlir::kvcache::cpu::storeAttendLogits(AttendContext &ctx, ArrayRef<Value> sums, Value at,
                                           int64_t rows, int64_t firstHead, int64_t heads,
                                           Value constants) {
  KernelBuilder &k = ctx.k;
  Value totals = heads * rows > 1 ? k.reduceAddRows(sums) : k.broadcast(k.reduceAdd(sums[0]));
  for (int64_t head = 0; head < heads; ++head) {
    Value place = k.add(at, (firstHead + head) * attendTileStride);
    Value total = k.extractLanes(totals, head * rows, rows);
    if (constants) {
      total = k.add(total, k.broadcast(k.load(constants, k.index(firstHead + head)), rows));
    }
    k.storeVector(total, ctx.tile, place);
  }
}

std::unique_ptr<AttendLogitLeaf>
mlir::kvcache::cpu::makeRowLogitLeaf(AttendContext &ctx, std::unique_ptr<AttendRowLoader> loader,
                                     Value queries, Value constants) {
  return std::make_unique<RowLogitLeaf>(ctx, std::move(loader), queries, constants);
}

std::unique_ptr<AttendValueLeaf>
mlir::kvcache::cpu::makeRowValueLeaf(AttendContext &ctx, std::unique_ptr<AttendRowLoader> loader,
                                     int64_t offset) {
  return std::make_unique<RowValueLeaf>(ctx, std::move(loader), offset);
}
