// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Selections made of selections: walks of ascending lists that write an ascending list. And items
// that fit into a total.

#include "targets/cpu/NestKeys.h"

#include "runtime/abi/KernelAbi.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;

/// Position number `i` of a selection, i32; the largest number behind its end.
static Value positionAt(NestBody &body, Value index, Value i, Value count, const Point &lead) {
  KernelBuilder &k = body.k;
  std::string instance = axesOf(index).back().getName();
  return body.choose(
      k.lt(i, count), TypeRange{k.i32Type()},
      [&] {
        Point at = lead.restrictedTo(axesOf(index).drop_back());
        return SmallVector<Value>{
            body.evaluate(index, at.with(instance, {AxisIndex::Kind::Scalar, i, false}))};
      },
      [&] { return SmallVector<Value>{k.i32(std::numeric_limits<int32_t>::max())}; })[0];
}

/// Carries the places in both lists and the number of positions written.
void mlir::kvcache::cpu::emitUnion(NestBody &body, SelectUnionOp op, const Point &lead) {
  KernelBuilder &k = body.k;
  const NestOperand &output = *body.outputFor(op.getOutput());
  Value out = k.arg(output.arg), base = rowBase(body, output, lead), one = k.index(1);
  SmallVector<Value> lists{op.getLhs(), op.getRhs()}, counts;
  for (Value list : lists) {
    Point own = lead.restrictedTo(axesOf(list).drop_back());
    counts.push_back(body.bound(list, axesOf(list).back().getName(), own));
  }
  Value none = k.index(0);
  SmallVector<Value> ends = k.whileLoop(
      ValueRange{none, none, none},
      [&](ValueRange at) { return k.ori(k.lt(at[0], counts[0]), k.lt(at[1], counts[1])); },
      [&](ValueRange at) {
        SmallVector<Value> next;
        body.scoped([&] {
          Value left = positionAt(body, lists[0], at[0], counts[0], lead);
          Value right = positionAt(body, lists[1], at[1], counts[1], lead);
          k.store(k.min(left, right), out, k.add(base, at[2]));
          next = {k.add(at[0], k.select(k.le(left, right), one, none)),
                  k.add(at[1], k.select(k.le(right, left), one, none)), k.add(at[2], one)};
        });
        return next;
      });
  body.storeLength(output, lead, ends[2]);
}

void mlir::kvcache::cpu::emitExpand(NestBody &body, SelectExpandOp op, const Point &lead) {
  KernelBuilder &k = body.k;
  auto type = cast<IndexSetType>(op.getOutput().getType());
  std::string instance = axesOf(op.getBlocks()).back().getName();
  const NestOperand &output = *body.outputFor(op.getOutput());
  Value out = k.arg(output.arg), base = rowBase(body, output, lead);
  Value rows = body.bound(op.getOf(), type.getDomain(), lead),
        count = body.bound(op.getBlocks(), instance, lead),
        size = k.max(body.scalarIndex(op.getSize()), k.index(1));
  Value written = body.loop(
      k.index(0), count, k.index(1), ValueRange{k.index(0)}, [&](Value i, ValueRange carried) {
        Value block = k.toIndex(body.evaluate(
            op.getBlocks(), lead.with(instance, {AxisIndex::Kind::Scalar, i, false})));
        Value lo = k.mul(block, size), hi = k.min(k.add(lo, size), rows);
        Value members = k.max(k.sub(hi, lo), k.index(0));
        body.loop(k.index(0), members, k.index(1), [&](Value j) {
          k.store(k.toI32(k.add(lo, j)), out, k.add(k.add(base, carried[0]), j));
        });
        return SmallVector<Value>{k.add(carried[0], members)};
      })[0];
  body.storeLength(output, lead, written);
}

/// The score of item `i` as f32.
static Value scoreAt(NestBody &body, SelectFitOp op, StringRef axis, const Point &lead, Value i) {
  Value x = body.evaluate(op.getScores(), lead.with(axis, {AxisIndex::Kind::Scalar, i, false}));
  return x.getType().isF32() ? x : body.k.intToF32(x);
}

/// The item that comes behind (score, place) in the order of items, and its score.
static SmallVector<Value> nextItem(NestBody &body, SelectFitOp op, StringRef axis,
                                   const Point &lead, Value items, Value score, Value place) {
  KernelBuilder &k = body.k;
  return body.loop(k.index(0), items, k.index(1), ValueRange{k.f32(0), k.i32(-1)},
                   [&](Value i, ValueRange best) {
                     Value x = scoreAt(body, op, axis, lead, i), at = k.toI32(i);
                     Value behind = k.ori(k.lt(x, score), k.andi(k.eq(x, score), k.gt(at, place)));
                     Value better = k.ori(k.lt(best[1], k.i32(0)), k.gt(x, best[0]));
                     Value taken = k.andi(behind, better);
                     return SmallVector<Value>{k.select(taken, x, best[0]),
                                               k.select(taken, at, best[1])};
                   });
}

/// Visits the items in order, with no memory but the output: while they are visited it has 1 at
/// those taken, then their positions, which never overtake what is still to be read.
void mlir::kvcache::cpu::emitFit(NestBody &body, SelectFitOp op, const Point &lead) {
  KernelBuilder &k = body.k;
  std::string axis = cast<IndexSetType>(op.getOutput().getType()).getDomain().str();
  const NestOperand &output = *body.outputFor(op.getOutput());
  Value out = k.arg(output.arg), base = rowBase(body, output, lead);
  Value items = body.bound(op.getScores(), axis, lead), one = k.index(1);
  body.loop(k.index(0), items, one, [&](Value i) {
    Value x = scoreAt(body, op, axis, lead, i);
    body.when(k.ne(x, x), [&] { body.raise(KVCACHE_KERNEL_NAN_SCORE); });
    k.store(k.i32(0), out, k.add(base, i));
  });
  Value total = k.max(k.toI64(body.evaluate(op.getTotal(), lead)), k.i64(0));
  Value first = k.f32(std::numeric_limits<float>::infinity());
  body.loop(
      k.index(0), items, one, ValueRange{first, k.i32(-1), total}, [&](Value, ValueRange carried) {
        SmallVector<Value> next = nextItem(body, op, axis, lead, items, carried[0], carried[1]);
        Value i = k.toIndex(k.max(next[1], k.i32(0))); // none is next only behind a NaN
        Value size = k.toI64(
            body.evaluate(op.getSizes(), lead.with(axis, {AxisIndex::Kind::Scalar, i, false})));
        size = k.max(size, k.i64(0));
        Value fits = k.le(size, carried[2]);
        body.when(fits, [&] { k.store(k.i32(1), out, k.add(base, i)); });
        Value left = k.select(fits, k.sub(carried[2], size), carried[2]);
        return SmallVector<Value>{next[0], next[1], left};
      });
  Value taken =
      body.loop(k.index(0), items, one, ValueRange{k.index(0)}, [&](Value i, ValueRange written) {
        Value isTaken = k.ne(k.load(out, k.add(base, i)), k.i32(0));
        body.when(isTaken, [&] { k.store(k.toI32(i), out, k.add(base, written[0])); });
        return SmallVector<Value>{k.add(written[0], k.select(isTaken, one, k.index(0)))};
      })[0];
  body.storeLength(output, lead, taken);
}
