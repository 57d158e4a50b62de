// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Prefill attention: a task owns one KV head and blocks of query rows. Query rows of all heads of a
// group lie in the lanes (queries transposed once per block), rows of the store are widened to f32
// scratch once per block, 64 at a time; then logits, online softmax and values are register-blocked
// products of the scratch.
//
// Invariant: the blocks of the online softmax are the tiles of 64 absolute rows; a tile that no row
// of the block sees is skipped, which changes nothing.

#include "targets/cpu/AttendClauses.h"
#include "targets/cpu/AttendLeaf.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include "llvm/ADT/bit.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ElementType;
using ::kvcache::abi::SegmentKind;

int64_t AttendSpec::prefillRows() const { return lanes * std::max<int64_t>(1, 4 / group()); }

namespace {

constexpr double minusInfinity = -std::numeric_limits<double>::infinity();

/// The largest number of heads, at most 8, that divides the group: heads of one block.
int64_t headsOfBlock(int64_t group) {
  int64_t heads = std::min<int64_t>(group, 8);
  while (group % heads != 0) {
    --heads;
  }
  return heads;
}

class PrefillEmitter {
public:
  PrefillEmitter(KernelBuilder &k, const AttendSpec &spec)
      : k_(k), spec_(spec), store_(k, "store", spec.columns),
        rowVectors_(spec.prefillRows() / lanes), heads_(headsOfBlock(spec.group())),
        vectors_(heads_ * rowVectors_), width_(vectors_ * lanes), clauses_(k, spec) {}

  LogicalResult emit(ArrayRef<std::string> words);

private:
  void emitBlock(Value firstRow, Value firstHead);
  void emitTile(Value tileStart);
  void transposeQueries(Value firstRow, Value firstHead);
  void emitLogits(Value count);
  void emitSoftmax(Value tileStart, Value count);
  void emitValues(Value count);
  void storeResults(Value firstRow, Value firstHead);
  Value isNeeded(Value tileStart, Value count);
  Value visible(Value position, int64_t rowVector);
  Value changedLogit(Value logit, Value position, Value entry, int64_t vector);
  /// Register block of `height` broadcast values by `width` vectors; the height divides 16.
  int64_t blockWidth(int64_t vectors) {
    return std::min<int64_t>(spec_.accumulators >= 16 ? 4 : 2, vectors);
  }
  int64_t blockHeight(int64_t width) {
    return std::min<int64_t>(llvm::bit_floor<uint64_t>(spec_.accumulators / width), 8);
  }
  Value clampedRow(Value firstRow, Value i) {
    return k_.min(k_.add(firstRow, i), k_.sub(rows_, k_.index(1)));
  }
  /// Word of q, out and lse rows: query row, then query head.
  Value headRow(Value row, Value head) {
    return k_.add(k_.mul(row, spec_.queryHeads), k_.add(k_.mul(head_, spec_.group()), head));
  }

  KernelBuilder &k_;
  const AttendSpec &spec_;
  StoreAccess store_;
  int64_t rowVectors_; ///< vectors of query rows per head
  int64_t heads_;      ///< query heads of a block
  int64_t vectors_;    ///< heads_ * rowVectors_
  int64_t width_;      ///< lanes of a block: vector head * rowVectors_ + i, 16 query rows each
  ClauseEmitter clauses_;
  Value firstRow_, firstHead_; ///< of the block
  Value rows_, head_, storeHead_, stored_;
  Value queries_;                     ///< f32 [Dkp][width]: q / sqrt(D)
  Value tile_;                        ///< f32 [64][Dp]: keys, then values, of the tile
  Value p_;                           ///< f32 [64][width]: logits, then probabilities
  Value sums_;                        ///< f32 [width][Dp]
  Value maxima_, totals_, factors_;   ///< f32 [width]
  SmallVector<Value> queryPositions_; ///< per row vector, vector<16xi32>
  Value leastPosition_, largestPosition_;
};

LogicalResult PrefillEmitter::emit(ArrayRef<std::string> names) {
  Value words = k_.arg("scalars");
  clauses_.begin(names);
  rows_ = k_.scalarIndex(words, 0);
  Value blocks = k_.scalarIndex(words, 1);
  SmallVector<Value> coordinates = k_.splitTask({k_.index(spec_.kvHeads), blocks});
  head_ = coordinates[0];
  storeHead_ = storeHeadOf(k_, spec_, head_);
  stored_ = store_.rows(storeHead_);
  int64_t dim = spec_.paddedDim();
  queries_ = attendScratch(k_, spec_.paddedKeyDim() * width_);
  tile_ = attendScratch(k_, attendTile * std::max(dim, spec_.paddedKeyDim()));
  p_ = attendScratch(k_, attendTile * width_);
  sums_ = spec_.wantsOut ? attendScratch(k_, width_ * dim) : Value();
  maxima_ = attendScratch(k_, width_);
  totals_ = attendScratch(k_, width_);
  factors_ = attendScratch(k_, width_);
  Value first = k_.mul(coordinates[1], spec_.prefillRows());
  k_.forLoop(first, rows_, k_.mul(blocks, spec_.prefillRows()), [&](Value firstRow) {
    k_.forLoop(k_.index(0), k_.index(spec_.group()), k_.index(heads_),
               [&](Value firstHead) { emitBlock(firstRow, firstHead); });
  });
  return failure(clauses_.failed());
}

void PrefillEmitter::emitBlock(Value firstRow, Value firstHead) {
  firstRow_ = firstRow;
  firstHead_ = firstHead;
  transposeQueries(firstRow, firstHead);
  queryPositions_.clear();
  if (spec_.readsQueryPositions()) {
    Value last = k_.sub(k_.sub(rows_, firstRow), k_.index(1)), least, largest;
    for (int64_t i = 0; i < rowVectors_; ++i) {
      // Rows behind the last one repeat it.
      Value lane =
          k_.min(k_.add(k_.laneNumbers(), k_.splatI32(i * lanes)), k_.broadcast(k_.toI32(last)));
      Value position = k_.gather(k_.arg("qpos"), firstRow, lane);
      queryPositions_.push_back(position);
      least = i == 0 ? position : k_.min(least, position);
      largest = i == 0 ? position : k_.max(largest, position);
    }
    leastPosition_ = k_.reduceMin(least);
    largestPosition_ = k_.reduceMax(largest);
  }
  if (spec_.wantsOut) {
    clearScratch(k_, sums_, width_ * spec_.paddedDim());
  }
  clearScratch(k_, totals_, width_);
  k_.forLoop(k_.index(0), k_.index(width_), k_.index(lanes),
             [&](Value lane) { k_.storeVector(k_.splatF32(minusInfinity), maxima_, lane); });
  k_.forLoop(k_.index(0), stored_, k_.index(attendTile), [&](Value tileStart) {
    Value count = k_.min(k_.sub(stored_, tileStart), k_.index(attendTile));
    if (!spec_.readsPositions()) {
      emitTile(tileStart);
      return;
    }
    k_.ifThen(isNeeded(tileStart, count), [&] { emitTile(tileStart); });
  });
  storeResults(firstRow, firstHead);
}

void PrefillEmitter::transposeQueries(Value firstRow, Value firstHead) {
  Value scale = k_.f32(1.0 / std::sqrt(static_cast<double>(spec_.headDim)));
  k_.forLoop(k_.index(heads_), [&](Value head) {
    k_.forLoop(k_.index(spec_.prefillRows()), [&](Value i) {
      Value source =
          k_.mul(headRow(clampedRow(firstRow, i), k_.add(firstHead, head)), spec_.keyDim());
      Value lane = k_.add(k_.mul(head, spec_.prefillRows()), i);
      k_.forLoop(k_.index(spec_.keyDim()), [&](Value channel) {
        Value q = k_.mul(k_.load(k_.arg("q"), k_.add(source, channel)), scale);
        k_.store(q, queries_, k_.add(k_.mul(channel, width_), lane));
      });
    });
  });
}

/// Whether a row of the block sees a row of the tile.
Value PrefillEmitter::isNeeded(Value tileStart, Value count) {
  SegmentAccess segment = store_.segment(spec_.pos, SegmentKind::Exact, storeHead_);
  Value page = store_.page(segment, tileStart), least, largest;
  for (int64_t i = 0; i < attendTile / lanes; ++i) {
    Value at = k_.add(tileStart, i * lanes);
    Value position = store_.loadRows16(segment, at, page);
    Value inside = k_.tailMask(k_.index(i * lanes), count);
    Value low = k_.select(inside, position, k_.splatI32(std::numeric_limits<int32_t>::max()));
    Value high = k_.select(inside, position, k_.splatI32(std::numeric_limits<int32_t>::min()));
    least = i == 0 ? low : k_.min(least, low);
    largest = i == 0 ? high : k_.max(largest, high);
  }
  Value needed = spec_.causal ? k_.le(k_.reduceMin(least), largestPosition_) : k_.i1(true);
  if (spec_.window > 0) {
    Value oldest = k_.sub(leastPosition_, k_.i32(spec_.window));
    needed = k_.andi(needed, k_.lt(oldest, k_.reduceMax(largest)));
  }
  return needed;
}

void PrefillEmitter::emitTile(Value tileStart) {
  Value count = k_.min(k_.sub(stored_, tileStart), k_.index(attendTile));
  widenAttendRows(store_, spec_, spec_.k, head_, tileStart, count, tile_);
  emitLogits(count);
  emitSoftmax(tileStart, count);
  if (spec_.wantsOut) {
    widenAttendRows(store_, spec_, spec_.v, head_, tileStart, count, tile_);
    emitValues(count);
  }
}

/// p[t][lane] = sum over channels of tile[t][channel] * queries[channel][lane]; rows behind `count`
/// come out as anything.
void PrefillEmitter::emitLogits(Value count) {
  int64_t wide = blockWidth(vectors_), tall = blockHeight(wide);
  k_.forLoop(k_.index(0), count, k_.index(tall), [&](Value t) {
    for (int64_t vector = 0; vector < vectors_; vector += wide) {
      int64_t n = std::min(wide, vectors_ - vector);
      SmallVector<Value> init(tall * n, k_.splatF32(0));
      SmallVector<Value> sums = k_.forLoop(
          k_.index(0), k_.index(spec_.keyDim()), k_.index(1), init,
          [&](Value channel, ValueRange in) {
            SmallVector<Value> queries, next;
            for (int64_t i = 0; i < n; ++i) {
              queries.push_back(
                  k_.loadVector(queries_, k_.add(k_.mul(channel, width_), (vector + i) * lanes)));
            }
            Value keys = k_.add(k_.mul(t, spec_.paddedKeyDim()), channel);
            for (int64_t row = 0; row < tall; ++row) {
              Value key = k_.broadcast(k_.load(tile_, k_.add(keys, row * spec_.paddedKeyDim())));
              for (int64_t i = 0; i < n; ++i) {
                next.push_back(k_.fma(key, queries[i], in[row * n + i]));
              }
            }
            return next;
          });
      for (int64_t row = 0; row < tall; ++row) {
        for (int64_t i = 0; i < n; ++i) {
          Value place = k_.add(k_.mul(k_.add(t, row), width_), (vector + i) * lanes);
          k_.storeVector(sums[row * n + i], p_, place);
        }
      }
    }
  });
}

Value PrefillEmitter::visible(Value position, int64_t rowVector) {
  Value seen, query = queryPositions_[rowVector], key = k_.broadcast(position);
  if (spec_.causal) {
    seen = k_.le(key, query);
  }
  if (spec_.window > 0) {
    Value inside = k_.lt(k_.sub(query, key), k_.splatI32(spec_.window));
    seen = seen ? k_.andi(seen, inside) : inside;
  }
  return seen;
}

/// f of the logits of 16 query rows of one head for one entry of the tile.
Value PrefillEmitter::changedLogit(Value logit, Value position, Value entry, int64_t vector) {
  int64_t rowVector = vector % rowVectors_;
  Value head = k_.add(k_.mul(head_, spec_.group()), k_.add(firstHead_, vector / rowVectors_));
  Value row = k_.add(firstRow_, rowVector * lanes);
  return clauses_.changed(logit, queryPositions_.empty() ? Value() : queryPositions_[rowVector],
                          position,
                          {head,
                           {AxisIndex::Kind::Contiguous, row, true},
                           {AxisIndex::Kind::Scalar, entry, false},
                           k_.tailMask(row, rows_)});
}

void PrefillEmitter::emitSoftmax(Value tileStart, Value count) {
  Value positions;
  if (spec_.readsKeyPositions()) {
    SegmentAccess segment = store_.segment(spec_.pos, SegmentKind::Exact, storeHead_);
    positions =
        k_.typedAt(store_.arena(), store_.unit(segment, ::kvcache::abi::PlaneRole::Rows, tileStart),
                   ElementType::I32);
  }
  SmallVector<Value> init(vectors_, k_.splatF32(minusInfinity));
  SmallVector<Value> largest =
      k_.forLoop(k_.index(0), count, k_.index(1), init, [&](Value t, ValueRange in) {
        SmallVector<Value> next, seen;
        Value position = positions ? k_.load(positions, t) : Value();
        for (int64_t i = 0; spec_.readsPositions() && i < rowVectors_; ++i) {
          seen.push_back(visible(position, i));
        }
        for (int64_t vector = 0; vector < vectors_; ++vector) {
          Value place = k_.add(k_.mul(t, width_), vector * lanes), logit = k_.loadVector(p_, place);
          if (spec_.clauses.changesLogits()) {
            logit = changedLogit(logit, position, k_.add(tileStart, t), vector);
          }
          if (!seen.empty()) {
            logit = k_.select(seen[vector % rowVectors_], logit, k_.splatF32(minusInfinity));
          }
          if (!seen.empty() || spec_.clauses.changesLogits()) {
            k_.storeVector(logit, p_, place);
          }
          next.push_back(k_.max(in[vector], logit));
        }
        return next;
      });
  for (int64_t vector = 0; vector < vectors_; ++vector) {
    Value lane = k_.index(vector * lanes), before = k_.loadVector(maxima_, lane);
    Value maximum = k_.max(before, largest[vector]);
    Value nothing = k_.eq(maximum, k_.splatF32(minusInfinity));
    Value reference = k_.select(nothing, k_.splatF32(0), maximum);
    Value factor = k_.expNonPositive(k_.sub(before, reference));
    Value total =
        k_.forLoop(k_.index(0), count, k_.index(1), {k_.splatF32(0)}, [&](Value t, ValueRange in) {
          Value place = k_.add(k_.mul(t, width_), vector * lanes);
          Value p = k_.expNonPositive(k_.sub(k_.loadVector(p_, place), reference));
          k_.storeVector(p, p_, place);
          return SmallVector<Value>{k_.add(in[0], p)};
        })[0];
    k_.storeVector(maximum, maxima_, lane);
    k_.storeVector(factor, factors_, lane);
    k_.storeVector(k_.fma(k_.loadVector(totals_, lane), factor, total), totals_, lane);
  }
}

/// sums[lane][channel] = sums * factor[lane] + sum over t of p[t][lane] * tile[t][channel]
void PrefillEmitter::emitValues(Value count) {
  int64_t dim = spec_.paddedDim(), chunks = dim / lanes;
  int64_t wide = blockWidth(chunks), tall = blockHeight(wide);
  k_.forLoop(k_.index(0), k_.index(width_), k_.index(tall), [&](Value lane) {
    for (int64_t chunk = 0; chunk < chunks; chunk += wide) {
      int64_t n = std::min(wide, chunks - chunk);
      SmallVector<Value> init;
      auto place = [&](int64_t row, int64_t i) {
        return k_.add(k_.mul(k_.add(lane, row), dim), (chunk + i) * lanes);
      };
      for (int64_t row = 0; row < tall; ++row) {
        Value factor = k_.broadcast(k_.load(factors_, k_.add(lane, row)));
        for (int64_t i = 0; i < n; ++i) {
          init.push_back(k_.mul(k_.loadVector(sums_, place(row, i)), factor));
        }
      }
      SmallVector<Value> sums =
          k_.forLoop(k_.index(0), count, k_.index(1), init, [&](Value t, ValueRange in) {
            SmallVector<Value> values, next;
            for (int64_t i = 0; i < n; ++i) {
              values.push_back(k_.loadVector(tile_, k_.add(k_.mul(t, dim), (chunk + i) * lanes)));
            }
            for (int64_t row = 0; row < tall; ++row) {
              Value p = k_.broadcast(k_.load(p_, k_.add(k_.add(k_.mul(t, width_), lane), row)));
              for (int64_t i = 0; i < n; ++i) {
                next.push_back(k_.fma(p, values[i], in[row * n + i]));
              }
            }
            return next;
          });
      for (int64_t row = 0; row < tall; ++row) {
        for (int64_t i = 0; i < n; ++i) {
          k_.storeVector(sums[row * n + i], sums_, place(row, i));
        }
      }
    }
  });
}

void PrefillEmitter::storeResults(Value firstRow, Value firstHead) {
  Value rowsOfBlock = k_.min(k_.sub(rows_, firstRow), k_.index(spec_.prefillRows()));
  k_.forLoop(k_.index(heads_), [&](Value head) {
    k_.forLoop(rowsOfBlock, [&](Value i) {
      Value lane = k_.add(k_.mul(head, spec_.prefillRows()), i);
      Value to = headRow(k_.add(firstRow, i), k_.add(firstHead, head));
      Value maximum = k_.load(maxima_, lane), total = k_.load(totals_, lane);
      Value nothing = k_.eq(maximum, k_.f32(minusInfinity));
      if (spec_.wantsLse) {
        Value lse = k_.add(maximum, math::LogOp::create(k_.builder(), k_.loc(),
                                                        k_.select(nothing, k_.f32(1), total)));
        k_.store(lse, k_.arg("lse"), to);
      }
      if (spec_.wantsOut) {
        Value factor = k_.broadcast(k_.select(nothing, k_.f32(0), k_.div(k_.f32(1), total)));
        for (const ChannelChunk &chunk : channelChunks(spec_.headDim)) {
          Value mask =
              chunk.size == lanes ? Value() : k_.tailMask(k_.index(0), k_.index(chunk.size));
          Value sum = k_.loadVector(sums_, k_.add(k_.mul(lane, spec_.paddedDim()), chunk.start));
          k_.storeVector(k_.mul(sum, factor), k_.arg("out"),
                         k_.add(k_.mul(to, spec_.headDim), chunk.start), mask);
        }
      }
    });
  });
}

} // namespace

FailureOr<EmittedKernel> mlir::kvcache::cpu::emitAttendPrefill(ModuleOp module,
                                                               const AttendSpec &spec) {
  EmittedKernel kernel;
  kernel.name = spec.name + "_prefill";
  kernel.args.push_back(KernelArg::buffer("q", ElementType::F32));
  if (spec.readsQueryPositions()) {
    kernel.args.push_back(KernelArg::buffer("qpos", ElementType::I32));
  }
  kernel.args.push_back(KernelArg::store("store"));
  if (spec.ropeView) {
    kernel.args.push_back(KernelArg::buffer("rope", ElementType::F32));
  }
  if (spec.wantsOut) {
    kernel.args.push_back(KernelArg::buffer("out", ElementType::F32));
  }
  if (spec.wantsLse) {
    kernel.args.push_back(KernelArg::buffer("lse", ElementType::F32));
  }
  llvm::append_range(kernel.args, spec.clauses.args);
  kernel.args.push_back(KernelArg::scalars("scalars"));
  kernel.words = {"rows", "blocks"};
  llvm::append_range(kernel.words, spec.clauses.words);
  kernel.grid = {spec.headGrid(), "blocks"};
  kernel.blockRows = spec.prefillRows();
  KernelBuilder k(module, kernel.name, kernel.args);
  if (failed(PrefillEmitter(k, spec).emit(kernel.words))) {
    return failure();
  }
  k.finish();
  return kernel;
}
