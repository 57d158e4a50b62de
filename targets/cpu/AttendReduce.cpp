// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Statistics per row of the store, once the log-sum-exp of the query rows is known: a function of
// exp(logit - lse), reduced over query rows and heads of a group. From the keys (prefill: they are
// read once more and nothing of size rows x T is written unless it is the result) or from the
// logits that decode left.
//
// Invariant: query rows are taken in ascending order within a head and the heads of a group one
// after the other, whatever the tasks.

#include "targets/cpu/AttendReduce.h"

#include "dialect/Axes.h"
#include "targets/cpu/AttendLeaf.h"
#include "targets/cpu/NestBody.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ElementType;
using ::kvcache::abi::SegmentKind;

namespace {

constexpr double minusInfinity = -std::numeric_limits<double>::infinity();
constexpr double plusInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t tileVectors = attendTile / lanes;

/// 16 vectors of 16 lanes, transposed: four rounds that swap the off-diagonal halves of blocks.
void transpose16(KernelBuilder &k, SmallVector<Value> &vectors) {
  for (int64_t half = lanes / 2; half >= 1; half /= 2) {
    SmallVector<int64_t> lower, upper;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      lower.push_back(lane & half ? lanes + (lane ^ half) : lane);
      upper.push_back(lane & half ? lanes + lane : (lane ^ half));
    }
    for (int64_t i = 0; i < lanes; ++i) {
      if ((i & half) == 0) {
        Value a = vectors[i], b = vectors[i | half];
        vectors[i] = k.shuffle(a, b, lower);
        vectors[i | half] = k.shuffle(a, b, upper);
      }
    }
  }
}

/// The probabilities of one tile for one query row and head, and where the row sees the tile.
struct RowTile {
  Value row;               ///< number of the query row
  SmallVector<Value> p;    ///< vectors of 16
  SmallVector<Value> seen; ///< masks
};

class ReduceEmitter {
public:
  ReduceEmitter(KernelBuilder &k, const AttendReduceSpec &spec)
      : k_(k), reduce_(spec), spec_(spec.attend), store_(k, "store", spec.attend.columns),
        nest_(k, spec.inputs) {}

  LogicalResult emit(ArrayRef<std::string> words);

private:
  void emitTile(Value tileStart);
  void emitHead(Value firstHead, Value endHead, Value outHead);
  void transposeTile();
  SmallVector<Value> reduceRows(Value firstHead, Value endHead, Value first, Value end);
  SmallVector<Value> reduceMeans(Value first, Value end);
  SmallVector<Value> productRows(Value row, int64_t height, Value queryHead, Value end);
  RowTile fromKeys(Value row, Value queryHead, ArrayRef<Value> products, Value end);
  RowTile fromLogits(Value row, Value queryHead);
  void fold(const RowTile &tile, Value queryHead, SmallVector<Value> &into);
  SmallVector<Value> apply(const RowTile &tile, Value queryHead);
  void storeTile(ValueRange values, Value outRow);
  SmallVector<Value> identities() {
    return SmallVector<Value>(tileVectors, k_.splatF32(reduce_.max ? minusInfinity : 0));
  }
  Value queryHead(Value g) { return k_.add(k_.mul(head_, spec_.group()), g); }

  KernelBuilder &k_;
  const AttendReduceSpec &reduce_;
  const AttendSpec &spec_;
  StoreAccess store_;
  NestBody nest_;
  Value first_, end_, rows_, capacity_, head_, storeHead_;
  Value tile_, transposed_, tileStart_, count_;
  SmallVector<Value> positions_;
};

LogicalResult ReduceEmitter::emit(ArrayRef<std::string> names) {
  Value words = k_.arg("scalars");
  first_ = k_.scalarIndex(words, 0);
  end_ = rows_ = k_.scalarIndex(words, 1);
  capacity_ = k_.scalarIndex(words, 2);
  Value blocks = k_.scalarIndex(words, 3);
  if (reduce_.op) {
    nest_.begin(names);
  }
  SmallVector<Value> coordinates = k_.splitTask({k_.index(spec_.kvHeads), blocks});
  head_ = coordinates[0];
  storeHead_ = storeHeadOf(k_, spec_, head_);
  if (!reduce_.fromLogits) {
    tile_ = attendScratch(k_, attendTile * spec_.paddedKeyDim());
    transposed_ = attendScratch(k_, attendTile * spec_.paddedKeyDim());
    clearScratch(k_, tile_, attendTile * spec_.paddedKeyDim());
  }
  k_.forLoop(k_.mul(coordinates[1], attendTile), store_.rows(storeHead_),
             k_.mul(blocks, attendTile), [&](Value tileStart) { emitTile(tileStart); });
  return failure(nest_.failed());
}

void ReduceEmitter::emitTile(Value tileStart) {
  tileStart_ = tileStart;
  count_ = k_.min(k_.sub(store_.rows(storeHead_), tileStart), k_.index(attendTile));
  if (!reduce_.fromLogits) {
    widenAttendRows(store_, spec_, spec_.k, head_, tileStart, count_, tile_);
    transposeTile();
  }
  positions_.clear();
  if (reduce_.readsPositions()) {
    SegmentAccess segment = store_.segment(spec_.pos, SegmentKind::Exact, storeHead_);
    Value page = store_.page(segment, tileStart);
    for (int64_t i = 0; i < tileVectors; ++i) {
      positions_.push_back(store_.loadRows16(segment, k_.add(tileStart, i * lanes), page));
    }
  }
  if (reduce_.keepsGroup) {
    k_.forLoop(k_.index(spec_.group()), [&](Value g) { emitHead(g, k_.add(g, 1), queryHead(g)); });
  } else {
    emitHead(k_.index(0), k_.index(spec_.group()), head_);
  }
}

/// The result of query heads [firstHead, endHead) of the group, which is head `outHead` of it.
void ReduceEmitter::emitHead(Value firstHead, Value endHead, Value outHead) {
  auto reduced = [&](Value first, Value end) {
    return reduce_.meanOfGroup ? reduceMeans(first, end)
                               : reduceRows(firstHead, endHead, first, end);
  };
  if (!reduce_.keepsQuery) {
    storeTile(reduced(first_, end_), outHead);
    return;
  }
  k_.forLoop(first_, end_, k_.index(1), [&](Value row) {
    storeTile(reduced(row, k_.add(row, 1)), k_.add(k_.mul(outHead, rows_), row));
  });
}

/// tile [64][Dp] to transposed [Dp][64].
void ReduceEmitter::transposeTile() {
  k_.forLoop(k_.index(0), k_.index(attendTile), k_.index(lanes), [&](Value row) {
    k_.forLoop(k_.index(0), k_.index(spec_.paddedKeyDim()), k_.index(lanes), [&](Value channel) {
      SmallVector<Value> block;
      for (int64_t i = 0; i < lanes; ++i) {
        block.push_back(
            k_.loadVector(tile_, k_.add(k_.mul(k_.add(row, i), spec_.paddedKeyDim()), channel)));
      }
      transpose16(k_, block);
      for (int64_t i = 0; i < lanes; ++i) {
        k_.storeVector(block[i], transposed_, k_.add(k_.mul(k_.add(channel, i), attendTile), row));
      }
    });
  });
}

/// All query rows of some heads, a few rows at a time.
SmallVector<Value> ReduceEmitter::reduceRows(Value firstHead, Value endHead, Value first,
                                             Value end) {
  bool several = !reduce_.fromLogits && !reduce_.keepsQuery;
  int64_t height = several ? std::max<int64_t>(1, spec_.accumulators / tileVectors) : 1;
  return k_.forLoop(firstHead, endHead, k_.index(1), identities(), [&](Value g, ValueRange outer) {
    Value head = queryHead(g);
    return k_.forLoop(first, end, k_.index(height), outer, [&](Value row, ValueRange in) {
      SmallVector<Value> next(in);
      if (reduce_.fromLogits) {
        fold(fromLogits(row, head), head, next);
        return next;
      }
      SmallVector<Value> products = productRows(row, height, head, end);
      for (int64_t i = 0; i < height; ++i) {
        ArrayRef<Value> own = ArrayRef(products).slice(i * tileVectors, tileVectors);
        fold(fromKeys(k_.add(row, i), head, own, end), head, next);
      }
      return next;
    });
  });
}

/// As reduceRows, of the mean over the heads of the group.
SmallVector<Value> ReduceEmitter::reduceMeans(Value first, Value end) {
  Value share = k_.splatF32(1.0 / static_cast<double>(spec_.group()));
  return k_.forLoop(first, end, k_.index(1), identities(), [&](Value row, ValueRange in) {
    // Every head of a group sees the same entries.
    RowTile mean;
    for (int64_t g = 0; g < spec_.group(); ++g) {
      Value head = queryHead(k_.index(g));
      RowTile one = reduce_.fromLogits ? fromLogits(row, head)
                                       : fromKeys(row, head, productRows(row, 1, head, end), end);
      for (int64_t i = 0; i < tileVectors; ++i) {
        Value p = k_.select(one.seen[i], one.p[i], k_.splatF32(0));
        one.p[i] = g == 0 ? p : k_.add(mean.p[i], p);
      }
      mean = one;
    }
    for (Value &p : mean.p) {
      p = k_.mul(p, share);
    }
    SmallVector<Value> next(in);
    fold(mean, queryHead(k_.index(0)), next);
    return next;
  });
}

/// Products of `height` query rows with the tile, before scaling; rows behind the last repeat it.
SmallVector<Value> ReduceEmitter::productRows(Value row, int64_t height, Value queryHead,
                                              Value end) {
  SmallVector<Value> sources;
  Value last = k_.sub(end, k_.index(1));
  for (int64_t i = 0; i < height; ++i) {
    Value clamped = k_.min(k_.add(row, i), last);
    sources.push_back(k_.mul(k_.add(k_.mul(clamped, spec_.queryHeads), queryHead), spec_.keyDim()));
  }
  SmallVector<Value> init(height * tileVectors, k_.splatF32(0));
  return k_.forLoop(
      k_.index(0), k_.index(spec_.keyDim()), k_.index(1), init, [&](Value channel, ValueRange in) {
        SmallVector<Value> keys, next;
        for (int64_t i = 0; i < tileVectors; ++i) {
          keys.push_back(
              k_.loadVector(transposed_, k_.add(k_.mul(channel, attendTile), i * lanes)));
        }
        for (int64_t i = 0; i < height; ++i) {
          Value query = k_.broadcast(k_.load(k_.arg("q"), k_.add(sources[i], channel)));
          for (int64_t j = 0; j < tileVectors; ++j) {
            next.push_back(k_.fma(query, keys[j], in[i * tileVectors + j]));
          }
        }
        return next;
      });
}

/// Probabilities from products; a row behind the last, or one that sees nothing, sees no entry.
RowTile ReduceEmitter::fromKeys(Value row, Value queryHead, ArrayRef<Value> products, Value end) {
  RowTile tile;
  tile.row = k_.min(row, k_.sub(end, k_.index(1)));
  Value lse = k_.load(k_.arg("lse"), k_.add(k_.mul(tile.row, spec_.queryHeads), queryHead));
  Value counts = k_.andi(k_.lt(row, end), k_.ne(lse, k_.f32(minusInfinity)));
  Value reference = k_.broadcast(k_.select(counts, lse, k_.f32(plusInfinity)));
  Value scale = k_.splatF32(1.0 / std::sqrt(static_cast<double>(spec_.headDim)));
  Value position =
      spec_.readsPositions() ? k_.broadcast(k_.load(k_.arg("qpos"), tile.row)) : Value();
  for (int64_t i = 0; i < tileVectors; ++i) {
    tile.p.push_back(k_.expNonPositive(k_.sub(k_.mul(products[i], scale), reference)));
    Value seen = k_.broadcast(counts);
    if (spec_.causal) {
      seen = k_.andi(seen, k_.le(positions_[i], position));
    }
    if (spec_.window > 0) {
      seen = k_.andi(seen, k_.lt(k_.sub(position, positions_[i]), k_.splatI32(spec_.window)));
    }
    tile.seen.push_back(seen);
  }
  return tile;
}

RowTile ReduceEmitter::fromLogits(Value row, Value queryHead) {
  RowTile tile;
  tile.row = row;
  Value headRow = k_.add(k_.mul(row, spec_.queryHeads), queryHead);
  Value lse = k_.load(k_.arg("lse"), headRow);
  Value reference =
      k_.broadcast(k_.select(k_.eq(lse, k_.f32(minusInfinity)), k_.f32(plusInfinity), lse));
  Value place = k_.add(k_.mul(headRow, capacity_), tileStart_);
  for (int64_t i = 0; i < tileVectors; ++i) {
    Value mask = k_.tailMask(k_.index(i * lanes), count_);
    Value logits = k_.loadVector(k_.arg("logits"), k_.add(place, i * lanes), mask);
    tile.p.push_back(k_.expNonPositive(k_.sub(logits, reference)));
    tile.seen.push_back(k_.andi(mask, k_.lt(k_.splatF32(minusInfinity), logits)));
  }
  return tile;
}

/// f(p) of the entries that are seen, folded into what is there.
void ReduceEmitter::fold(const RowTile &tile, Value queryHead, SmallVector<Value> &into) {
  SmallVector<Value> values = reduce_.op ? apply(tile, queryHead) : tile.p;
  for (int64_t i = 0; i < tileVectors; ++i) {
    Value none = k_.splatF32(reduce_.max ? minusInfinity : 0);
    Value value = k_.select(tile.seen[i], values[i], none);
    into[i] = reduce_.max ? k_.max(into[i], value) : k_.add(into[i], value);
  }
}

SmallVector<Value> ReduceEmitter::apply(const RowTile &tile, Value queryHead) {
  ScoreReduceOp op = reduce_.op;
  Block &body = op.getScalarBody();
  auto scalarAt = [](Value value) { return AxisIndex{AxisIndex::Kind::Scalar, value, false}; };
  Point base;
  Value group = k_.index(reduce_.group);
  base = base.with("head", scalarAt(k_.floorDiv(queryHead, group)))
             .with("group", scalarAt(k_.rem(queryHead, group)))
             .with(reduce_.queryAxis, scalarAt(tile.row));
  SmallVector<Value> values;
  nest_.scoped([&] {
    for (int64_t i = 0; i < tileVectors; ++i) {
      Value start = k_.add(tileStart_, i * lanes);
      Point point = base.with(reduce_.tokenAxis, {AxisIndex::Kind::Contiguous, start, true});
      point.mask = k_.tailMask(k_.index(i * lanes), count_);
      SmallVector<Value> inputs{tile.p[i], Value(), Value()};
      if (!body.getArgument(1).use_empty()) {
        inputs[1] = k_.load(k_.arg("qpos"), tile.row);
      }
      if (!body.getArgument(2).use_empty()) {
        inputs[2] = positions_[i];
      }
      for (auto [input, argument] : llvm::zip(op.getInputs(), body.getArguments().drop_front(3))) {
        inputs.push_back(argument.use_empty() ? Value() : nest_.evaluate(input, point));
      }
      values.push_back(nest_.lift(nest_.applyRegion(op, body, inputs).front()));
    }
  });
  return values;
}

void ReduceEmitter::storeTile(ValueRange values, Value outRow) {
  Value place = k_.add(k_.mul(outRow, capacity_), tileStart_);
  for (int64_t i = 0; i < tileVectors; ++i) {
    Value mask = k_.tailMask(k_.index(i * lanes), count_);
    k_.storeVector(values[i], k_.arg("reduced"), k_.add(place, i * lanes), mask);
  }
}

} // namespace

bool AttendReduceSpec::readsPositions() const {
  if (op && !ScoreReduceOp(op).getScalarBody().getArgument(2).use_empty()) {
    return true;
  }
  return !fromLogits && attend.readsPositions();
}

bool AttendReduceSpec::readsQueryPositions() const {
  if (op && !ScoreReduceOp(op).getScalarBody().getArgument(1).use_empty()) {
    return true;
  }
  return !fromLogits && attend.readsPositions();
}

FailureOr<EmittedKernel> mlir::kvcache::cpu::emitAttendReduce(ModuleOp module,
                                                              const AttendReduceSpec &spec) {
  EmittedKernel kernel;
  kernel.name = spec.attend.name + "_reduce";
  auto buffer = [&](StringRef name, ElementType elem = ElementType::F32) {
    kernel.args.push_back(KernelArg::buffer(name.str(), elem));
  };
  if (!spec.fromLogits) {
    buffer("q");
  }
  if (spec.readsQueryPositions()) {
    buffer("qpos", ElementType::I32);
  }
  kernel.args.push_back(KernelArg::store("store"));
  if (!spec.fromLogits && spec.attend.ropeView) {
    buffer("rope");
  }
  if (spec.fromLogits) {
    buffer("logits");
  }
  buffer("lse");
  for (const KernelArg &arg : spec.inputArgs) {
    kernel.args.push_back(arg);
  }
  buffer("reduced");
  kernel.args.push_back(KernelArg::scalars("scalars"));
  kernel.words = {"first", "end", "capacity", "blocks"};
  kernel.words.insert(kernel.words.end(), spec.inputWords.begin(), spec.inputWords.end());
  kernel.grid = {spec.attend.headGrid(), "blocks"};
  kernel.blockRows = attendTile;
  KernelBuilder k(module, kernel.name, kernel.args);
  if (failed(ReduceEmitter(k, spec).emit(kernel.words))) {
    return failure();
  }
  k.finish();
  return kernel;
}
