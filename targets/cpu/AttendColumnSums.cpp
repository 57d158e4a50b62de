// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Statistics per row of the store, once the log-sum-exp of the query rows is known: sums of
// exp(logit - lse) over query rows and, unless asked otherwise, the heads of a group. From the keys
// (prefill: they are read once more and nothing of size rows x T is written) or from the logits
// that decode left.
//
// Invariant: query rows are added in ascending order, the heads of a group one after the other,
// whatever the tasks.

#include "targets/cpu/AttendLeaf.h"

#include <cmath>
#include <limits>

using namespace mlir;
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

/// What both kernels end with: sums of one tile to the output, added to what is there or in its
/// place.
void storeTileSums(KernelBuilder &k, ValueRange sums, Value place, Value count, Value adds) {
  Value out = k.arg("sums");
  for (int64_t i = 0; i < tileVectors; ++i) {
    Value mask = k.tailMask(k.index(i * lanes), count), at = k.add(place, i * lanes);
    Value before = k.select(adds, k.loadVector(out, at, mask), k.splatF32(0));
    k.storeVector(k.add(before, sums[i]), out, at, mask);
  }
}

class ColumnSumsEmitter {
public:
  ColumnSumsEmitter(KernelBuilder &k, const AttendSpec &spec)
      : k_(k), spec_(spec), store_(k, "store", spec.columns) {}

  void emit() {
    Value words = k_.arg("scalars");
    first_ = k_.scalarIndex(words, 0);
    end_ = k_.scalarIndex(words, 1);
    capacity_ = k_.scalarIndex(words, 2);
    adds_ = k_.ne(k_.scalarIndex(words, 3), k_.index(0));
    Value blocks = k_.scalarIndex(words, 4);
    SmallVector<Value> coordinates = k_.splitTask({k_.index(spec_.kvHeads), blocks});
    head_ = coordinates[0];
    tile_ = attendScratch(k_, attendTile * spec_.paddedDim());
    transposed_ = attendScratch(k_, attendTile * spec_.paddedDim());
    clearScratch(k_, tile_, attendTile * spec_.paddedDim());
    Value rows = store_.rows(head_);
    k_.forLoop(k_.mul(coordinates[1], attendTile), rows, k_.mul(blocks, attendTile),
               [&](Value tileStart) {
                 emitTile(tileStart, k_.min(k_.sub(rows, tileStart), k_.index(attendTile)));
               });
  }

private:
  void emitTile(Value tileStart, Value count) {
    widenAttendRows(store_, spec_, spec_.k, head_, tileStart, count, tile_);
    transposeTile();
    positions_.clear();
    if (spec_.readsPositions()) {
      SegmentAccess segment = store_.segment(spec_.pos, SegmentKind::Exact, head_);
      Value page = store_.page(segment, tileStart);
      for (int64_t i = 0; i < tileVectors; ++i) {
        positions_.push_back(store_.loadRows16(segment, k_.add(tileStart, i * lanes), page));
      }
    }
    SmallVector<Value> zero(tileVectors, k_.splatF32(0));
    Value firstHead = k_.mul(head_, spec_.group());
    if (spec_.sumsPerQueryHead) {
      k_.forLoop(k_.index(spec_.group()), [&](Value g) {
        Value queryHead = k_.add(firstHead, g);
        storeTileSums(k_, sumRows(queryHead, zero), k_.add(k_.mul(queryHead, capacity_), tileStart),
                      count, adds_);
      });
      return;
    }
    SmallVector<Value> sums = k_.forLoop(
        k_.index(0), k_.index(spec_.group()), k_.index(1), zero,
        [&](Value g, ValueRange carried) { return sumRows(k_.add(firstHead, g), carried); });
    storeTileSums(k_, sums, k_.add(k_.mul(head_, capacity_), tileStart), count, adds_);
  }

  /// tile [64][Dp] to transposed [Dp][64].
  void transposeTile() {
    k_.forLoop(k_.index(0), k_.index(attendTile), k_.index(lanes), [&](Value row) {
      k_.forLoop(k_.index(0), k_.index(spec_.paddedDim()), k_.index(lanes), [&](Value channel) {
        SmallVector<Value> block;
        for (int64_t i = 0; i < lanes; ++i) {
          block.push_back(
              k_.loadVector(tile_, k_.add(k_.mul(k_.add(row, i), spec_.paddedDim()), channel)));
        }
        transpose16(k_, block);
        for (int64_t i = 0; i < lanes; ++i) {
          k_.storeVector(block[i], transposed_,
                         k_.add(k_.mul(k_.add(channel, i), attendTile), row));
        }
      });
    });
  }

  /// Adds all query rows of a head to `sums`, a few at a time.
  SmallVector<Value> sumRows(Value queryHead, ValueRange sums) {
    int64_t height = std::max<int64_t>(1, spec_.accumulators / tileVectors);
    return k_.forLoop(first_, end_, k_.index(height), sums, [&](Value row, ValueRange carried) {
      SmallVector<Value> logits = emitLogits(row, height, queryHead), next(carried);
      for (int64_t i = 0; i < height; ++i) {
        addRow(k_.add(row, i), queryHead, ArrayRef(logits).slice(i * tileVectors, tileVectors),
               next);
      }
      return next;
    });
  }

  /// Products of `height` query rows with the tile, before scaling; rows behind the last repeat it.
  SmallVector<Value> emitLogits(Value row, int64_t height, Value queryHead) {
    SmallVector<Value> sources;
    Value last = k_.sub(end_, k_.index(1));
    for (int64_t i = 0; i < height; ++i) {
      Value clamped = k_.min(k_.add(row, i), last);
      sources.push_back(
          k_.mul(k_.add(k_.mul(clamped, spec_.queryHeads), queryHead), spec_.headDim));
    }
    SmallVector<Value> init(height * tileVectors, k_.splatF32(0));
    return k_.forLoop(
        k_.index(0), k_.index(spec_.headDim), k_.index(1), init, [&](Value channel, ValueRange in) {
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

  void addRow(Value row, Value queryHead, ArrayRef<Value> logits, SmallVector<Value> &sums) {
    Value last = k_.sub(end_, k_.index(1)), clamped = k_.min(row, last);
    Value lse = k_.load(k_.arg("lse"), k_.add(k_.mul(clamped, spec_.queryHeads), queryHead));
    // A row behind the last, or one that sees nothing, adds exp(-inf).
    Value counts = k_.andi(k_.lt(row, end_), k_.ne(lse, k_.f32(minusInfinity)));
    Value reference = k_.broadcast(k_.select(counts, lse, k_.f32(plusInfinity)));
    Value scale = k_.splatF32(1.0 / std::sqrt(static_cast<double>(spec_.headDim)));
    Value position =
        spec_.readsPositions() ? k_.broadcast(k_.load(k_.arg("qpos"), clamped)) : Value();
    for (int64_t i = 0; i < tileVectors; ++i) {
      Value p = k_.expNonPositive(k_.sub(k_.mul(logits[i], scale), reference));
      if (spec_.causal) {
        p = k_.select(k_.le(positions_[i], position), p, k_.splatF32(0));
      }
      if (spec_.window > 0) {
        p = k_.select(k_.lt(k_.sub(position, positions_[i]), k_.splatI32(spec_.window)), p,
                      k_.splatF32(0));
      }
      sums[i] = k_.add(sums[i], p);
    }
  }

  KernelBuilder &k_;
  const AttendSpec &spec_;
  StoreAccess store_;
  Value first_, end_, capacity_, adds_, head_;
  Value tile_, transposed_;
  SmallVector<Value> positions_;
};

/// Sums of one tile and head from its logits.
SmallVector<Value> sumLogits(KernelBuilder &k, const AttendSpec &spec, Value queryHead,
                             Value tileStart, Value count, ValueRange sums) {
  Value rows = k.scalarIndex(k.arg("scalars"), 0), capacity = k.scalarIndex(k.arg("scalars"), 1);
  return k.forLoop(k.index(0), rows, k.index(1), sums, [&](Value row, ValueRange carried) {
    Value headRow = k.add(k.mul(row, spec.queryHeads), queryHead),
          lse = k.load(k.arg("lse"), headRow);
    Value reference =
        k.broadcast(k.select(k.eq(lse, k.f32(minusInfinity)), k.f32(plusInfinity), lse));
    Value place = k.add(k.mul(headRow, capacity), tileStart);
    SmallVector<Value> next;
    for (int64_t i = 0; i < tileVectors; ++i) {
      Value mask = k.tailMask(k.index(i * lanes), count);
      Value logits = k.loadVector(k.arg("logits"), k.add(place, i * lanes), mask);
      next.push_back(k.add(carried[i], k.expNonPositive(k.sub(logits, reference))));
    }
    return next;
  });
}

} // namespace

EmittedKernel mlir::kvcache::cpu::emitAttendColumnSums(ModuleOp module, const AttendSpec &spec) {
  EmittedKernel kernel;
  kernel.name = spec.name + "_column_sums";
  kernel.args.push_back(KernelArg::buffer("q", ElementType::F32));
  if (spec.readsPositions()) {
    kernel.args.push_back(KernelArg::buffer("qpos", ElementType::I32));
  }
  kernel.args.push_back(KernelArg::store("store"));
  if (spec.ropeView) {
    kernel.args.push_back(KernelArg::buffer("rope", ElementType::F32));
  }
  kernel.args.push_back(KernelArg::buffer("lse", ElementType::F32));
  kernel.args.push_back(KernelArg::buffer("sums", ElementType::F32));
  kernel.args.push_back(KernelArg::scalars("scalars"));
  kernel.words = {"first", "end", "capacity", "add", "blocks"};
  kernel.grid = {"heads", "blocks"};
  kernel.blockRows = attendTile;
  KernelBuilder k(module, kernel.name, kernel.args);
  ColumnSumsEmitter(k, spec).emit();
  k.finish();
  return kernel;
}

EmittedKernel mlir::kvcache::cpu::emitAttendLogitSums(ModuleOp module, const AttendSpec &spec) {
  EmittedKernel kernel;
  kernel.name = spec.name + "_logit_sums";
  kernel.args = {KernelArg::store("store"), KernelArg::buffer("logits", ElementType::F32),
                 KernelArg::buffer("lse", ElementType::F32),
                 KernelArg::buffer("sums", ElementType::F32), KernelArg::scalars("scalars")};
  kernel.words = {"rows", "capacity", "add", "blocks"};
  kernel.grid = {"heads", "blocks"};
  kernel.blockRows = attendTile;
  KernelBuilder k(module, kernel.name, kernel.args);
  Value words = k.arg("scalars"), capacity = k.scalarIndex(words, 1),
        blocks = k.scalarIndex(words, 3);
  Value adds = k.ne(k.scalarIndex(words, 2), k.index(0));
  SmallVector<Value> coordinates = k.splitTask({k.index(spec.kvHeads), blocks});
  StoreAccess store(k, "store", spec.columns);
  Value rows = store.rows(coordinates[0]), firstHead = k.mul(coordinates[0], spec.group());
  k.forLoop(
      k.mul(coordinates[1], attendTile), rows, k.mul(blocks, attendTile), [&](Value tileStart) {
        Value count = k.min(k.sub(rows, tileStart), k.index(attendTile));
        SmallVector<Value> zero(tileVectors, k.splatF32(0));
        if (spec.sumsPerQueryHead) {
          k.forLoop(k.index(spec.group()), [&](Value g) {
            Value queryHead = k.add(firstHead, g);
            Value place = k.add(k.mul(queryHead, capacity), tileStart);
            storeTileSums(k, sumLogits(k, spec, queryHead, tileStart, count, zero), place, count,
                          adds);
          });
          return;
        }
        SmallVector<Value> sums = k.forLoop(
            k.index(0), k.index(spec.group()), k.index(1), zero, [&](Value g, ValueRange carried) {
              return sumLogits(k, spec, k.add(firstHead, g), tileStart, count, carried);
            });
        storeTileSums(k, sums, k.add(k.mul(coordinates[0], capacity), tileStart), count, adds);
      });
  k.finish();
  return kernel;
}
