// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ops along one axis, a row at a time: sort (merges of integer keys between two halves of a
// scratch), scan (in index order), concat (one operand behind the other), blocks (reductions of
// sub-ranges).

#include "targets/cpu/NestKeys.h"

#include "runtime/abi/KernelAbi.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;

/// Visits [0, count) of `axis` of an output: with lanes where they lie side by side in memory, or
/// one by one. `inside` gets the point, and the index of its first lane.
static void alongAxis(NestBody &body, Value output, StringRef axis, Value count, const Point &lead,
                      llvm::function_ref<void(const Point &, Value start, Value mask)> inside) {
  KernelBuilder &k = body.k;
  if (axesOf(output).back().getName() != axis) {
    body.loop(k.index(0), count, k.index(1), [&](Value i) {
      inside(lead.with(axis, {AxisIndex::Kind::Scalar, i, false}), i, Value());
    });
    return;
  }
  body.vectors(k.index(0), count, ValueRange{}, [&](Value start, Value mask, ValueRange) {
    Point at = lead.with(axis, {AxisIndex::Kind::Contiguous, start, true});
    at.mask = mask;
    inside(at, start, mask);
    return SmallVector<Value>{};
  });
}

// ---- sort
// -----------------------------------------------------------------------------------------------------------

/// Merges the ascending runs [lo, mid) and [mid, hi) of keys[from ..] into keys[to ..]; of equal
/// keys those of the first run come first.
static void mergeRuns(NestBody &body, Value keys, Value from, Value to, Value lo, Value mid,
                      Value hi) {
  KernelBuilder &k = body.k;
  Value one = k.index(1);
  body.loop(lo, hi, one, ValueRange{lo, mid}, [&](Value place, ValueRange next) {
    Value left = next[0], right = next[1];
    // Of a run that is used up, some key of it is read and not taken.
    Value leftKey = k.load(keys, k.add(from, k.min(left, k.sub(mid, one))));
    Value rightKey = k.load(keys, k.add(from, k.min(right, k.sub(hi, one))));
    Value fits = k.ori(k.ge(right, hi), k.le(leftKey, rightKey));
    Value takeLeft = k.andi(k.lt(left, mid), fits);
    k.store(k.select(takeLeft, leftKey, rightKey), keys, k.add(to, place));
    return SmallVector<Value>{k.add(left, k.select(takeLeft, one, k.index(0))),
                              k.add(right, k.select(takeLeft, k.index(0), one))};
  });
}

void mlir::kvcache::cpu::emitSort(NestBody &body, SortOp op, const Point &lead, StringRef keysArg) {
  KernelBuilder &k = body.k;
  Value x = op.getInput(), keys = k.arg(keysArg);
  StringRef axis = op.getAxis();
  Type type = computeTypeOf(x.getType());
  if (type != computeTypeOf(op.getOutput().getType()) || !(type.isF32() || type.isInteger(32))) {
    body.fail(op, "expected values and results of f32, or both of i32", k.f32Type(), false);
    return;
  }
  Value rows = body.bound(x, axis, lead), capacity = body.extentValue(body.capacityOf(x, axis));
  Value first = k.mul(keysBase(body, x, axis, lead), 2), second = k.add(first, capacity);
  writeKeys(body, x, axis, lead, rows, keys, first);
  bool descending = op.getOrder() == "descending";
  const NestOperand &output = *body.outputFor(op.getOutput());
  Value most = k.max(rows, k.index(1));
  Value size = op.getSize() ? k.min(k.max(body.scalarIndex(op.getSize()), k.index(1)), most) : most;
  body.loop(k.index(0), rows, size, [&](Value start) {
    Value count = k.min(size, k.sub(rows, start));
    // Runs of 1, 2, 4 .. keys become one; every round moves them to the other half.
    SmallVector<Value> end = k.whileLoop(
        ValueRange{k.index(1), k.add(first, start), k.add(second, start)},
        [&](ValueRange carried) { return k.lt(carried[0], count); },
        [&](ValueRange carried) {
          Value width = carried[0], from = carried[1], to = carried[2];
          Value both = k.add(width, width);
          body.loop(k.index(0), count, both, [&](Value lo) {
            mergeRuns(body, keys, from, to, lo, k.min(k.add(lo, width), count),
                      k.min(k.add(lo, both), count));
          });
          return SmallVector<Value>{both, to, from};
        });
    body.loop(k.index(0), count, k.index(1), [&](Value i) {
      Value place = descending ? k.sub(k.sub(count, k.index(1)), i) : i;
      Value key = k.load(keys, k.add(end[1], place));
      body.storeAt(output, lead.with(axis, {AxisIndex::Kind::Scalar, k.add(start, i), false}),
                   type.isF32() ? numberOf(k, key) : key);
    });
  });
}

// ---- scan
// -----------------------------------------------------------------------------------------------------------

/// A scalar as one of the type that a scan computes with.
static Value converted(KernelBuilder &k, Value x, Type type) {
  if (x.getType().isInteger(1)) {
    x = arith::ExtUIOp::create(k.builder(), k.loc(), k.i32Type(), x);
  }
  if (type.isF32()) {
    return x.getType().isF32() ? x : k.intToF32(x);
  }
  return type.isInteger(64) ? k.toI64(x) : x;
}

void mlir::kvcache::cpu::emitScan(NestBody &body, ScanOp op, const Point &lead) {
  KernelBuilder &k = body.k;
  StringRef axis = op.getAxis();
  Type from = computeTypeOf(op.getInput().getType()),
       type = computeTypeOf(op.getOutput().getType());
  if (from.isF32() && !type.isF32()) {
    body.fail(op, "expected a result of floats for an operand of floats", type, false);
    return;
  }
  bool largest = op.getFn() == "max";
  Attribute none = k.builder().getZeroAttr(type);
  if (largest && type.isF32()) {
    none = k.builder().getF32FloatAttr(-std::numeric_limits<float>::infinity());
  } else if (largest) {
    none = k.builder().getIntegerAttr(type, APInt::getSignedMinValue(type.getIntOrFloatBitWidth()));
  }
  Value init = arith::ConstantOp::create(k.builder(), k.loc(), cast<TypedAttr>(none));
  Value rows = body.bound(op.getInput(), axis, lead);
  const NestOperand &output = *body.outputFor(op.getOutput());
  body.loop(k.index(0), rows, k.index(1), ValueRange{init}, [&](Value i, ValueRange carried) {
    Value place = op.getReverse() ? k.sub(k.sub(rows, k.index(1)), i) : i;
    Point at = lead.with(axis, {AxisIndex::Kind::Scalar, place, false});
    Value x = converted(k, body.evaluate(op.getInput(), at), type);
    Value next = largest ? k.max(carried[0], x) : k.add(carried[0], x);
    body.storeAt(output, at, next);
    return SmallVector<Value>{next};
  });
}

/// Refuses a result whose type says another extent than the op makes.
static bool checkExtent(NestBody &body, Operation *op, AxisAttr axis, Value made) {
  std::optional<int64_t> declared = axis.getInteger(), known = getConstantIntValue(made);
  if (declared && declared != known) {
    body.fail(op,
              "expected an extent of axis '" + axis.getName() + "' that follows from the operands",
              body.k.f32Type(), false);
    return false;
  }
  return true;
}

// ---- concat
// ---------------------------------------------------------------------------------------------------------

void mlir::kvcache::cpu::emitConcat(NestBody &body, ConcatOp op, const Point &lead) {
  KernelBuilder &k = body.k;
  StringRef axis = op.getAxis(), kind = axis.split('.').first;
  const NestOperand &output = *body.outputFor(op.getOutput());
  unsigned place = *findAxisIndex(axesOf(op.getOutput()), axis);
  Value written = k.index(0);
  for (Value operand : {op.getLhs(), op.getRhs()}) {
    if (computeTypeOf(operand.getType()) != computeTypeOf(op.getOutput().getType())) {
      body.fail(op, "expected operands and a result of one element type", k.f32Type(), false);
      return;
    }
    std::string own = findAxisOfKind(axesOf(operand), kind).getName();
    Value count = body.bound(operand, own, lead);
    alongAxis(body, op.getOutput(), axis, count, lead, [&](const Point &at, Value start, Value) {
      AxisIndex from = *at.find(axis);
      AxisIndex to = from;
      to.value = k.add(written, start);
      to.aligned = false;
      body.storeAt(output, at.with(axis, to), body.evaluate(operand, at.with(own, from)));
    });
    written = k.add(written, count);
  }
  if (!checkExtent(body, op, axesOf(op.getOutput())[place], written)) {
    return;
  }
  if (!output.axes[place].lengths.empty()) {
    body.storeLength(output, place, lead, written);
  }
}

// ---- blocks
// ---------------------------------------------------------------------------------------------------------

void mlir::kvcache::cpu::emitBlocks(NestBody &body, BlocksOp op, const Point &lead) {
  KernelBuilder &k = body.k;
  ArrayRef<AxisAttr> axes = axesOf(op.getOutput());
  const NestOperand &output = *body.outputFor(op.getOutput());
  unsigned place = *findAxisIndex(axesOf(op.getInput()), op.getAxis());
  std::string name = axes[place].getName();
  Value extent = body.bound(op.getInput(), op.getAxis(), lead);
  Value size = k.max(body.scalarIndex(op.getSize()), k.index(1));
  Value count = k.floorDiv(k.add(extent, k.sub(size, k.index(1))), size);
  if (!checkExtent(body, op, axes[place], count)) {
    return;
  }
  body.loop(k.index(0), count, k.index(1), [&](Value block) {
    Value lo = k.mul(block, size), hi = k.min(k.add(lo, size), extent);
    Point at = lead.with(name, {AxisIndex::Kind::Scalar, block, false});
    if (place + 1 == axes.size()) {
      body.storeAt(output, at, body.computeBlock(op, lo, hi, at));
      return;
    }
    std::string last = axes.back().getName();
    alongAxis(body, op.getOutput(), last, body.bound(op.getInput(), last, at), at,
              [&](const Point &lane, Value, Value) {
                body.storeAt(output, lane, body.computeBlock(op, lo, hi, lane));
              });
  });
  if (!output.axes[place].lengths.empty()) {
    body.storeLength(output, place, lead, count);
  }
}
