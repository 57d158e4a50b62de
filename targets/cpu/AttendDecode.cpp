// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Decode attention: a task owns one query row, one KV head and one split of the tokens, and leaves
// the partial result (sum of p v, maximum, sum of p) that AttendMerge.cpp joins. Per tile of 64
// tokens: logits of every key segment, online softmax, values of every value segment.
//
// Invariant: the blocks of the online softmax are the tiles of absolute rows, whatever the storage,
// the register tile and the number of splits in flight.

#include "targets/cpu/AttendClauses.h"
#include "targets/cpu/AttendLeaf.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ElementType;

namespace {

constexpr double minusInfinity = -std::numeric_limits<double>::infinity();
constexpr int64_t tileVectors = attendTile / lanes;

/// One decode kernel under construction.
class DecodeEmitter {
public:
  DecodeEmitter(KernelBuilder &k, const AttendSpec &spec)
      : k_(k), spec_(spec), store_(k, "store", spec.columns),
        ctx_{k, spec, store_, {}, {}, {}, {}, 0, {}}, clauses_(k, spec) {}

  LogicalResult emit(ArrayRef<std::string> words);

private:
  void loadQueries();
  void emitTile(Value tileStart, Value end);
  void emitMasks(Value tileStart, Value end);
  void loadChosenPositions(Value tileStart, Value end);
  Value changedLogit(Value logit, Value g, Value tileStart, int64_t vector);
  void emitSoftmax(Value tileStart);
  void emitRescale();
  void storePartial();
  template <typename Leaf>
  void forLeaf(Leaf &leaf, SegmentAccess segment, Value tileStart, Value end);
  SegmentAccess positions() {
    return store_.segment(spec_.pos, ::kvcache::abi::SegmentKind::Exact,
                          storeHeadOf(k_, spec_, ctx_.head));
  }
  Value queryHead(Value g) { return k_.add(k_.mul(head_, spec_.group()), g); }
  /// Number of this row and a query head, in units of the outputs' head rows.
  Value headRow(Value g) { return k_.add(k_.mul(row_, spec_.queryHeads), queryHead(g)); }

  KernelBuilder &k_;
  const AttendSpec &spec_;
  StoreAccess store_;
  AttendContext ctx_;
  ClauseEmitter clauses_;
  AttendLeaves leaves_;
  Value row_, head_, split_, splits_, capacity_;
  Value chosenPositions_;              ///< f32 [64] of i32 bits: positions of the tile's entries
  Value queryPosition_;                ///< vector<16xi32>
  Value keyPositions_[tileVectors];    ///< vector<16xi32>
  Value state_;   ///< f32 [G][2]: m, l
  Value factors_; ///< f32 [G]: what the sums are to be multiplied by
  Value valid_[tileVectors], visible_[tileVectors];
};

LogicalResult DecodeEmitter::emit(ArrayRef<std::string> names) {
  Value words = k_.arg("scalars");
  splits_ = k_.scalarIndex(words, 1);
  capacity_ = spec_.wantsLogits ? k_.scalarIndex(words, 2) : Value();
  SmallVector<Value> coordinates =
      k_.splitTask({k_.scalarIndex(words, 0), k_.index(spec_.kvHeads), splits_});
  row_ = coordinates[0];
  head_ = coordinates[1];
  ctx_.head = spec_.sharers == 1 ? head_ : k_.floorDiv(head_, spec_.sharers);
  split_ = coordinates[2];
  clauses_.begin(names);
  Value entries = store_.rows(storeHeadOf(k_, spec_, ctx_.head));
  if (spec_.clauses.choosesEntries()) {
    entries = clauses_.chosenCount(queryHead(k_.index(0)), row_);
    ctx_.rowAt = [this](Value place) {
      return clauses_.chosenEntry(queryHead(k_.index(0)), row_, place);
    };
    chosenPositions_ = attendScratch(k_, attendTile);
  }
  int64_t group = spec_.group();
  ctx_.queries =
      attendScratch(k_, group * spec_.paddedKeyDim() + lanes); // pieces of half rows read past the end
  clearScratch(k_, ctx_.queries, group * spec_.paddedKeyDim() + lanes);
  ctx_.tile = attendScratch(k_, group * attendTileStride);
  state_ = attendScratch(k_, group * 2);
  factors_ = attendScratch(k_, group);
  leaves_ = makeAttendLeaves(ctx_);
  if (spec_.wantsOut) {
    ctx_.sums = attendScratch(k_, group * ctx_.sumsStride);
    clearScratch(k_, ctx_.sums, group * ctx_.sumsStride);
  }
  loadQueries();
  for (const std::function<void()> &prepare : leaves_.prepare) {
    prepare();
  }
  k_.forLoop(k_.index(group), [&](Value g) {
    k_.store(k_.f32(minusInfinity), state_, k_.mul(g, 2));
    k_.store(k_.f32(0), state_, k_.add(k_.mul(g, 2), 1));
  });
  Value start = k_.mul(split_, spec_.splitRows);
  Value end = k_.min(k_.add(start, spec_.splitRows), entries);
  k_.forLoop(start, end, k_.index(attendTile), [&](Value tileStart) { emitTile(tileStart, end); });
  storePartial();
  return failure(clauses_.failed());
}

void DecodeEmitter::loadQueries() {
  Value q = k_.arg("q"), scale = k_.splatF32(1.0 / std::sqrt(static_cast<double>(spec_.headDim)));
  for (int64_t g = 0; g < spec_.group(); ++g) {
    Value source = k_.mul(headRow(k_.index(g)), spec_.keyDim());
    for (const ChannelChunk &chunk : channelChunks(spec_.keyDim())) {
      Value mask = chunk.size == lanes ? Value() : k_.tailMask(k_.index(0), k_.index(chunk.size));
      Value query = k_.loadF32(q, k_.add(source, chunk.start), mask);
      k_.storeVector(k_.mul(query, scale), ctx_.queries,
                     k_.index(g * spec_.paddedKeyDim() + chunk.start));
    }
  }
}

template <typename Leaf>
void DecodeEmitter::forLeaf(Leaf &leaf, SegmentAccess segment, Value tileStart, Value end) {
  if (ctx_.rowAt) {
    leaf.emit(tileStart, k_.min(end, k_.add(tileStart, attendTile)), tileStart);
    return;
  }
  Value lo = k_.max(segment.first, tileStart);
  Value hi = k_.min(k_.min(segment.end, end), k_.add(tileStart, attendTile));
  k_.ifThen(k_.lt(lo, hi), [&] { leaf.emit(lo, hi, tileStart); });
}

void DecodeEmitter::emitTile(Value tileStart, Value end) {
  for (AttendLogit &logit : leaves_.logits) {
    forLeaf(*logit.leaf, logit.segment, tileStart, end);
  }
  emitMasks(tileStart, end);
  emitSoftmax(tileStart);
  for (AttendValue &value : leaves_.values) {
    forLeaf(*value.leaf, value.segment, tileStart, end);
  }
}

void DecodeEmitter::emitMasks(Value tileStart, Value end) {
  SegmentAccess positions;
  Value page;
  if (spec_.readsKeyPositions() && ctx_.rowAt) {
    loadChosenPositions(tileStart, end);
  } else if (spec_.readsKeyPositions()) {
    positions = this->positions();
    page = store_.page(positions, tileStart);
  }
  if (spec_.readsQueryPositions()) {
    queryPosition_ = k_.broadcast(k_.load(k_.arg("qpos"), row_));
  }
  for (int64_t i = 0; i < tileVectors; ++i) {
    Value first = k_.add(tileStart, i * lanes);
    valid_[i] = visible_[i] = k_.tailMask(first, end);
    if (!spec_.readsKeyPositions()) {
      continue;
    }
    Value position = ctx_.rowAt ? k_.bitcast(k_.loadVector(chosenPositions_, k_.index(i * lanes)),
                                             k_.vec(k_.i32Type()))
                                : store_.loadRows16(positions, first, page);
    keyPositions_[i] = position;
    if (spec_.causal) {
      visible_[i] = k_.andi(visible_[i], k_.le(position, queryPosition_));
    }
    if (spec_.window > 0) {
      Value distance = k_.sub(queryPosition_, position);
      visible_[i] = k_.andi(visible_[i], k_.lt(distance, k_.splatI32(spec_.window)));
    }
  }
}

void DecodeEmitter::loadChosenPositions(Value tileStart, Value end) {
  SegmentAccess positions = this->positions();
  k_.forLoop(tileStart, k_.min(end, k_.add(tileStart, attendTile)), k_.index(1), [&](Value place) {
    Value address = store_.element(positions, ctx_.rowAt(place), k_.index(0));
    Value position = store_.loadScalar(address, ElementType::I32);
    k_.store(k_.bitcast(position, k_.f32Type()), chosenPositions_, k_.sub(place, tileStart));
  });
}

/// f of the logits of entries 16 i .. of the tile.
Value DecodeEmitter::changedLogit(Value logit, Value g, Value tileStart, int64_t i) {
  Value first = k_.add(tileStart, i * lanes), head = queryHead(g);
  AxisIndex entries{AxisIndex::Kind::Contiguous, first, true};
  if (ctx_.rowAt) {
    entries = {AxisIndex::Kind::Lanes, clauses_.chosenEntries(head, row_, first, valid_[i]), false};
  }
  return clauses_.changed(logit, queryPosition_, keyPositions_[i],
                          {head, {AxisIndex::Kind::Scalar, row_, false}, entries, valid_[i]});
}

/// Per head: m' = max(m, logits), p = exp(logit - m'), l' = l exp(m - m') + sum of p; logits in
/// ctx_.tile become p.
void DecodeEmitter::emitSoftmax(Value tileStart) {
  Value never = k_.splatF32(minusInfinity);
  Value grown = k_.forLoop(
      k_.index(0), k_.index(spec_.group()), k_.index(1), {k_.i1(false)},
      [&](Value g, ValueRange any) {
        Value base = k_.mul(g, attendTileStride), logits[tileVectors], largest;
        for (int64_t i = 0; i < tileVectors; ++i) {
          Value logit = k_.loadVector(ctx_.tile, k_.add(base, i * lanes));
          if (spec_.clauses.changesLogits()) {
            logit = changedLogit(logit, g, tileStart, i);
          }
          logits[i] = k_.select(visible_[i], logit, never);
          if (spec_.wantsLogits) {
            Value place = k_.add(k_.mul(headRow(g), capacity_), k_.add(tileStart, i * lanes));
            k_.storeVector(logits[i], k_.arg("logits"), place, valid_[i]);
          }
          largest = i == 0 ? logits[i] : k_.max(largest, logits[i]);
        }
        Value stateAt = k_.mul(g, 2);
        Value before = k_.load(state_, stateAt), sumBefore = k_.load(state_, k_.add(stateAt, 1));
        Value maximum = k_.max(before, k_.reduceMax(largest));
        // All masked so far: subtracting -inf from -inf would give nan.
        Value reference = k_.select(k_.eq(maximum, k_.f32(minusInfinity)), k_.f32(0), maximum);
        Value grows = k_.lt(before, maximum);
        Value factor =
            k_.extractLane(k_.expNonPositive(k_.broadcast(k_.sub(before, reference))), 0);
        factor = k_.select(grows, factor, k_.f32(1));
        Value offset = k_.broadcast(reference), total;
        for (int64_t i = 0; i < tileVectors; ++i) {
          Value p = k_.expNonPositive(k_.sub(logits[i], offset));
          k_.storeVector(p, ctx_.tile, k_.add(base, i * lanes));
          total = i == 0 ? p : k_.add(total, p);
        }
        k_.store(maximum, state_, stateAt);
        k_.store(k_.fma(sumBefore, factor, k_.reduceAdd(total)), state_, k_.add(stateAt, 1));
        k_.store(factor, factors_, g);
        return SmallVector<Value>{k_.ori(any[0], grows)};
      })[0];
  if (spec_.wantsOut) {
    k_.ifThen(grown, [&] { emitRescale(); });
  }
}

void DecodeEmitter::emitRescale() {
  k_.forLoop(k_.index(spec_.group()), [&](Value g) {
    Value factor = k_.broadcast(k_.load(factors_, g)), base = k_.mul(g, ctx_.sumsStride);
    k_.forLoop(base, k_.add(base, ctx_.sumsStride), k_.index(lanes), [&](Value word) {
      k_.storeVector(k_.mul(k_.loadVector(ctx_.sums, word), factor), ctx_.sums, word);
    });
  });
}

void DecodeEmitter::storePartial() {
  k_.forLoop(k_.index(spec_.group()), [&](Value g) {
    Value record = k_.add(k_.mul(headRow(g), splits_), split_);
    for (int64_t i = 0; i < 2; ++i) {
      k_.store(k_.load(state_, k_.add(k_.mul(g, 2), i)), k_.arg("maxima"),
               k_.add(k_.mul(record, 2), i));
    }
    if (spec_.wantsOut) {
      Value from = k_.mul(g, ctx_.sumsStride), to = k_.mul(record, spec_.partialWidth());
      k_.forLoop(k_.index(0), k_.index(spec_.partialWidth()), k_.index(lanes), [&](Value word) {
        k_.storeVector(k_.loadVector(ctx_.sums, k_.add(from, word)), k_.arg("partial"),
                       k_.add(to, word));
      });
    }
  });
}

} // namespace

FailureOr<EmittedKernel> mlir::kvcache::cpu::emitAttendDecode(ModuleOp module,
                                                              const AttendSpec &spec) {
  EmittedKernel kernel;
  kernel.name = spec.name + "_decode";
  auto buffer = [&](const char *name, ElementType elem = ElementType::F32) {
    kernel.args.push_back(KernelArg::buffer(name, elem));
  };
  buffer("q");
  if (spec.readsQueryPositions()) {
    buffer("qpos", ElementType::I32);
  }
  kernel.args.push_back(KernelArg::store("store"));
  if (spec.ropeView) {
    buffer("rope");
  }
  if (spec.keys().rank > 0) {
    buffer("kBasis");
    buffer("kMean");
  }
  if (spec.wantsOut) {
    buffer("partial");
  }
  buffer("maxima");
  if (spec.wantsLogits) {
    buffer("logits");
  }
  llvm::append_range(kernel.args, spec.clauses.args);
  kernel.args.push_back(KernelArg::scalars("scalars"));
  kernel.words = {"rows", "splits"};
  if (spec.wantsLogits) {
    kernel.words.push_back("capacity");
  }
  llvm::append_range(kernel.words, spec.clauses.words);
  kernel.grid = {"rows", spec.headGrid(), "splits"};
  KernelBuilder k(module, kernel.name, kernel.args);
  if (failed(DecodeEmitter(k, spec).emit(kernel.words))) {
    return failure();
  }
  k.finish();
  return kernel;
}
