// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Selection by threshold: values become i32 keys of the same order, 32 steps of a bitwise search
// find the n-th largest key, one ascending pass writes the positions above it and as many of the
// equal ones as are left, lowest first. Everything is integer arithmetic on the keys, so selections
// are the same on every target and in any task order.

#include "targets/cpu/NestKeys.h"

#include "runtime/abi/KernelAbi.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;

Value mlir::kvcache::cpu::keysOf(KernelBuilder &k, Value x) {
  if (getElementTypeOrSelf(x.getType()).isInteger(32)) {
    return x;
  }
  Value bits = k.bitcast(k.add(x, k.splatF32(0)), k.vec(k.i32Type()));
  Value sign = k.builder().createOrFold<arith::ShRSIOp>(k.loc(), bits, k.splatI32(31));
  return k.xori(bits, k.andi(sign, k.splatI32(0x7fffffff)));
}

Value mlir::kvcache::cpu::numberOf(KernelBuilder &k, Value key) {
  auto vector = dyn_cast<VectorType>(key.getType());
  auto constant = [&](int64_t value) { return vector ? k.splatI32(value) : k.i32(value); };
  Value sign = k.builder().createOrFold<arith::ShRSIOp>(k.loc(), key, constant(31));
  return k.bitcast(k.xori(key, k.andi(sign, constant(0x7fffffff))),
                   vector ? Type(k.vec(k.f32Type())) : k.f32Type());
}

/// An unsigned pattern of the search as a signed key.
static Value asKey(KernelBuilder &k, Value pattern) {
  return k.xori(pattern, k.i32(std::numeric_limits<int32_t>::min()));
}

/// The largest pattern t (as a key) for which `holds(key of t)`, which is true for the smallest key
/// and monotone.
static Value searchBits(NestBody &body, llvm::function_ref<Value(Value key)> holds) {
  KernelBuilder &k = body.k;
  Value pattern = body.loop(k.index(0), k.index(32), k.index(1), ValueRange{k.i32(0)},
                            [&](Value step, ValueRange carried) {
                              Value bit = k.shl(k.i32(1), k.sub(k.i32(31), k.toI32(step)));
                              Value candidate = k.ori(carried[0], bit);
                              return SmallVector<Value>{
                                  k.select(holds(asKey(k, candidate)), candidate, carried[0])};
                            })[0];
  return asKey(k, pattern);
}

/// Number of elements of [0, n) for which `condition(start, mask)` holds, i32.
static Value countWhere(NestBody &body, Value n,
                        llvm::function_ref<Value(Value start, Value mask)> condition) {
  KernelBuilder &k = body.k;
  Value counts = body.vectors(
      k.index(0), n, ValueRange{k.splatI32(0)}, [&](Value start, Value mask, ValueRange carried) {
        Value holds = condition(start, mask);
        holds = mask ? k.andi(holds, mask) : holds;
        return SmallVector<Value>{k.add(carried[0], k.select(holds, k.splatI32(1), k.splatI32(0)))};
      })[0];
  return k.reduceAdd(counts);
}

/// The 16 bits of a mask as i32, and back.
static Value maskBits(KernelBuilder &k, Value mask) {
  auto type = VectorType::get({1}, k.builder().getIntegerType(16));
  Value packed = vector::BitCastOp::create(k.builder(), k.loc(), type, mask);
  return arith::ExtUIOp::create(k.builder(), k.loc(), k.i32Type(), k.extractLane(packed, 0));
}
static Value bitsToMask(KernelBuilder &k, Value bits) {
  Value narrow =
      arith::TruncIOp::create(k.builder(), k.loc(), k.builder().getIntegerType(16), bits);
  return vector::BitCastOp::create(k.builder(), k.loc(), k.vec(k.builder().getI1Type()),
                                   k.broadcast(narrow, 1));
}
static Value popcount(KernelBuilder &k, Value bits) {
  return math::CtPopOp::create(k.builder(), k.loc(), bits);
}

/// The lowest `n` set bits of `bits` (i32).
static Value lowestBits(NestBody &body, Value bits, Value n) {
  KernelBuilder &k = body.k;
  Value rest = body.loop(
      k.index(0), k.toIndex(n), k.index(1), ValueRange{bits}, [&](Value, ValueRange carried) {
        return SmallVector<Value>{k.andi(carried[0], k.sub(carried[0], k.i32(1)))};
      })[0];
  return k.xori(bits, rest);
}

/// Writes the positions of [0, n) whose bit is set, ascending, from element `base` of `out` on.
/// `select` gives the bits (i32) of 16 positions and the next value of one carried i32. Returns how
/// many were written (index).
static Value compact(
    NestBody &body, Value n, Value out, Value base, Value carriedInit,
    llvm::function_ref<std::pair<Value, Value>(Value start, Value mask, Value carried)> select) {
  KernelBuilder &k = body.k;
  return body.vectors(
      k.index(0), n, ValueRange{k.index(0), carriedInit},
      [&](Value start, Value mask, ValueRange carried) {
        auto [bits, next] = select(start, mask, carried[1]);
        Value count = k.toIndex(popcount(k, bits));
        body.when(k.ne(bits, k.i32(0)), [&] {
          Value positions = k.add(k.broadcast(k.toI32(start)), k.laneNumbers());
          vector::CompressStoreOp::create(
              k.builder(), k.loc(), out, ValueRange{k.add(base, carried[0])}, bitsToMask(k, bits),
              positions,
              IntegerAttr()); // without it, a builder that swaps mask and value is taken
        });
        return SmallVector<Value>{k.add(carried[0], count), next};
      })[0];
}

Value mlir::kvcache::cpu::rowBase(NestBody &body, const NestOperand &output, const Point &lead) {
  Point first = lead.with(axesOf(output.value).back().getName(),
                          {AxisIndex::Kind::Scalar, body.k.index(0), false});
  return body.address(output, first.restrictedTo(axesOf(output.value))).base;
}

void mlir::kvcache::cpu::writeKeys(NestBody &body, Value x, StringRef axis, const Point &lead,
                                   Value n, Value keys, Value base) {
  KernelBuilder &k = body.k;
  Value none = arith::ConstantOp::create(
      k.builder(), k.loc(),
      cast<TypedAttr>(k.builder().getZeroAttr(k.vec(k.builder().getI1Type()))));
  Value nan = body.vectors(
      k.index(0), n, ValueRange{none}, [&](Value start, Value mask, ValueRange carried) {
        Point at = lead.with(axis, {AxisIndex::Kind::Contiguous, start, true});
        at.mask = mask;
        Value value = body.lift(body.evaluate(x, at));
        k.storeVector(keysOf(k, value), keys, k.add(base, start), mask);
        Value isNan = k.ne(value, value);
        return SmallVector<Value>{k.ori(carried[0], mask ? k.andi(isNan, mask) : isNan)};
      })[0];
  body.when(k.ne(maskBits(k, nan), k.i32(0)), [&] { body.raise(KVCACHE_KERNEL_NAN_SCORE); });
}

/// A kept-bits function for `compact`: keys above the threshold, and equal ones while the carried
/// count lasts.
static std::pair<Value, Value> aboveThreshold(NestBody &body, Value keys, Value base,
                                              Value threshold, Value start, Value mask,
                                              Value left) {
  KernelBuilder &k = body.k;
  Value key = k.loadVector(keys, k.add(base, start), mask), cut = k.broadcast(threshold);
  Value above = k.gt(key, cut), equal = k.eq(key, cut);
  Value aboveBits = maskBits(k, mask ? k.andi(above, mask) : above),
        equalBits = maskBits(k, mask ? k.andi(equal, mask) : equal);
  Value equals = popcount(k, equalBits);
  Value taken = body.choose(
      k.le(equals, left), TypeRange{k.i32Type()}, [&] { return SmallVector<Value>{equalBits}; },
      [&] { return SmallVector<Value>{lowestBits(body, equalBits, left)}; })[0];
  return {k.ori(aboveBits, taken), k.sub(left, popcount(k, taken))};
}

/// How many keys are at least (or above) a threshold.
static Value countKeys(NestBody &body, Value keys, Value base, Value n, Value threshold,
                       bool orEqual) {
  KernelBuilder &k = body.k;
  return countWhere(body, n, [&](Value start, Value mask) {
    Value key = k.loadVector(keys, k.add(base, start), mask);
    return orEqual ? k.ge(key, k.broadcast(threshold)) : k.gt(key, k.broadcast(threshold));
  });
}

Value mlir::kvcache::cpu::keysBase(NestBody &body, Value x, StringRef axis, const Point &lead) {
  KernelBuilder &k = body.k;
  Value number = k.index(0);
  for (AxisAttr other : axesOf(x)) {
    if (other.getName() != axis) {
      number = k.add(k.mul(number, body.extentValue(body.capacityOf(x, other.getName()))),
                     lead.find(other.getName())->value);
    }
  }
  return k.mul(number, body.extentValue(body.capacityOf(x, axis)));
}

void mlir::kvcache::cpu::emitTopk(NestBody &body, TopkOp op, const Point &lead, StringRef keysArg) {
  KernelBuilder &k = body.k;
  Value x = op.getInput(), keys = k.arg(keysArg);
  StringRef axis = op.getAxis();
  const NestOperand &output = *body.outputFor(op.getOutput());
  Value rows = body.bound(x, axis, lead), base = keysBase(body, x, axis, lead);
  // A selection whose type says how many it keeps has room for no other number.
  std::optional<int64_t> fixed = axesOf(op.getOutput()).back().getInteger();
  std::optional<int64_t> most = getConstantIntValue(rows),
                         given = getConstantIntValue(op.getCount());
  if (fixed && (given != fixed || !most || *most < *fixed)) {
    body.fail(op,
              "expected the count " + Twine(*fixed) + " of the type, of at least as many '" + axis +
                  "'",
              k.f32Type(), false);
    return;
  }
  writeKeys(body, x, axis, lead, rows, keys, base);
  Value wanted = k.toI32(body.evaluate(op.getCount(), lead));
  Value count = k.min(k.max(wanted, k.i32(0)), k.toI32(rows));
  Value threshold = searchBits(
      body, [&](Value key) { return k.ge(countKeys(body, keys, base, rows, key, true), count); });
  // With count = 0 the search ends at the largest key; with fewer keys above than wanted the rest
  // are ties.
  Value ties = k.max(k.sub(count, countKeys(body, keys, base, rows, threshold, false)), k.i32(0));
  compact(body, rows, k.arg(output.arg), rowBase(body, output, lead), ties,
          [&](Value start, Value mask, Value left) {
            return aboveThreshold(body, keys, base, threshold, start, mask, left);
          });
  body.storeLength(output, lead, count);
}

/// Loops over `axes` of x in order, carrying `init`, over no more than `limit` points of one of
/// them.
static SmallVector<Value>
forLeads(NestBody &body, Value x, ArrayRef<AxisAttr> axes, const Point &lead,
         std::pair<std::string, Value> limit, ValueRange init,
         llvm::function_ref<SmallVector<Value>(const Point &, ValueRange)> inside) {
  if (axes.empty()) {
    return inside(lead, init);
  }
  KernelBuilder &k = body.k;
  std::string axis = axes.front().getName();
  Value extent = body.bound(x, axis, lead);
  extent = limit.second && axis == limit.first ? k.min(extent, limit.second) : extent;
  return body.loop(k.index(0), extent, k.index(1), init, [&](Value iv, ValueRange carried) {
    return forLeads(body, x, axes.drop_front(),
                    lead.with(axis, {AxisIndex::Kind::Scalar, iv, false}), limit, carried, inside);
  });
}

namespace {

/// select.alloc global_topk: the keys of all scores once, then a search in the prefix of each
/// split.
class GlobalTopk {
public:
  GlobalTopk(NestBody &body, SelectAllocOp op, Value keys)
      : body_(body), k(body.k), op_(op), x_(op.getScores()), keys_(keys),
        points_(without(axesOf(x_), ArrayRef<StringRef>{"token"})) {}

  void emit() {
    forRows({}, k.i32(0), [&](const Point &point, Value rows, Value base, Value none) {
      writeKeys(body_, x_, "token", point, rows, keys_, base);
      return none;
    });
    ArrayRef<AxisAttr> each = op_.getUpto() ? axesOf(op_.getUpto()) : ArrayRef<AxisAttr>();
    forLeads(body_, op_.getUpto(), each, Point(), {}, ValueRange(),
             [&](const Point &split, ValueRange) {
               emitSplit(split);
               return SmallVector<Value>{};
             });
  }

private:
  using Limit = std::pair<std::string, Value>;
  using Row = llvm::function_ref<Value(const Point &, Value rows, Value base, Value carried)>;

  /// Visits the rows of a prefix in flat order, carrying one value.
  Value forRows(const Limit &limit, Value init, Row inside) {
    return forLeads(body_, x_, points_, Point(), limit, ValueRange{init},
                    [&](const Point &point, ValueRange carried) {
                      return SmallVector<Value>{inside(point, body_.bound(x_, "token", point),
                                                       keysBase(body_, x_, "token", point),
                                                       carried[0])};
                    })[0];
  }
  Value count(const Limit &limit, Value key, bool orEqual) {
    return forRows(limit, k.i32(0), [&](const Point &, Value rows, Value base, Value carried) {
      return k.add(carried, countKeys(body_, keys_, base, rows, key, orEqual));
    });
  }
  /// A count of the operands at a split, not below 0.
  Value atSplit(Value value, const Point &split) {
    return k.max(k.toI32(body_.evaluate(value, split.restrictedTo(axesOf(value)))), k.i32(0));
  }
  void store(const Point &split, Point point, Value value) {
    for (const auto &[axis, index] : split.axes) {
      point = point.with(axis, index);
    }
    body_.storeAt(*body_.outputFor(op_.getOutput()), point, value);
  }

  void emitSplit(const Point &split) {
    Limit limit;
    if (op_.getUpto()) {
      limit = {op_.getAlong()->str(), k.toIndex(atSplit(op_.getUpto(), split))};
      forRows({}, k.i32(0), [&](const Point &point, Value, Value, Value none) { // outside of it
        store(split, point, k.i32(0));
        return none;
      });
    }
    Value all = forRows(limit, k.i32(0), [&](const Point &, Value rows, Value, Value carried) {
      return k.add(carried, k.toI32(rows));
    });
    Value total = k.min(atSplit(op_.getTotal(), split), all);
    Value threshold =
        searchBits(body_, [&](Value key) { return k.ge(count(limit, key, true), total); });
    Value ties = k.max(k.sub(total, count(limit, threshold, false)), k.i32(0));
    forRows(limit, ties, [&](const Point &point, Value rows, Value base, Value left) {
      Value above = countKeys(body_, keys_, base, rows, threshold, false);
      Value equal = k.sub(countKeys(body_, keys_, base, rows, threshold, true), above);
      Value taken = k.min(equal, left);
      store(split, point, k.add(above, taken));
      return k.sub(left, taken);
    });
  }

  NestBody &body_;
  KernelBuilder &k;
  SelectAllocOp op_;
  Value x_, keys_;
  SmallVector<AxisAttr> points_;
};

} // namespace

void mlir::kvcache::cpu::emitAlloc(NestBody &body, SelectAllocOp op, StringRef keysArg) {
  GlobalTopk(body, op, body.k.arg(keysArg)).emit();
}

void mlir::kvcache::cpu::emitWhere(NestBody &body, SelectWhereOp op, const Point &lead) {
  KernelBuilder &k = body.k;
  StringRef axis = op.getAxis();
  Value along;
  for (Value input : op.getInputs()) {
    along = findAxis(axesOf(input), axis) ? input : along;
  }
  const NestOperand &output = *body.outputFor(op.getOutput());
  Value rows = body.bound(along, axis, lead);
  Value count =
      compact(body, rows, k.arg(output.arg), rowBase(body, output, lead), k.i32(0),
              [&](Value start, Value mask, Value carried) {
                Point at = lead.with(axis, {AxisIndex::Kind::Contiguous, start, true});
                at.mask = mask;
                SmallVector<Value> inputs;
                for (Value input : op.getInputs()) {
                  inputs.push_back(body.evaluate(input, at));
                }
                Value holds = body.lift(body.applyRegion(op, op.getScalarBody(), inputs).front());
                return std::make_pair(maskBits(k, mask ? k.andi(holds, mask) : holds), carried);
              });
  body.storeLength(output, lead, count);
}

void mlir::kvcache::cpu::emitComplement(NestBody &body, SelectComplementOp op, const Point &lead) {
  KernelBuilder &k = body.k;
  auto kept = cast<IndexSetType>(op.getKept().getType());
  std::string instance = kept.getAxes().back().getName();
  const NestOperand &output = *body.outputFor(op.getOutput());
  Value out = k.arg(output.arg), base = rowBase(body, output, lead);
  Value rows = body.bound(op.getOf(), kept.getDomain(), lead),
        keptRows = body.bound(op.getKept(), instance, lead);
  // Both lists ascend: walk them side by side.
  SmallVector<Value> ends = body.loop(
      k.index(0), rows, k.index(1), ValueRange{k.index(0), k.index(0)},
      [&](Value row, ValueRange carried) {
        Value isKept = body.choose(
            k.lt(carried[0], keptRows), TypeRange{k.builder().getI1Type()},
            [&] {
              Value next = body.evaluate(
                  op.getKept(), lead.with(instance, {AxisIndex::Kind::Scalar, carried[0], false}));
              return SmallVector<Value>{k.eq(next, k.toI32(row))};
            },
            [&] { return SmallVector<Value>{k.i1(false)}; })[0];
        Value dropped = k.xori(isKept, k.i1(true));
        body.when(dropped, [&] { k.store(k.toI32(row), out, k.add(base, carried[1])); });
        return SmallVector<Value>{k.add(carried[0], k.select(isKept, k.index(1), k.index(0))),
                                  k.add(carried[1], k.select(isKept, k.index(0), k.index(1)))};
      });
  body.storeLength(output, lead, ends[1]);
}

Value NestBody::computeQuantile(ReduceOp op, const Point &point) {
  Value x = op.getInput();
  std::string axis = cast<StringAttr>(op.getAxes()[0]).getValue().str();
  hoist(x, point);
  Value n = bound(x, axis, point);
  Value q = evaluate(op.getAt(), point);
  Type f64 = k.builder().getF64Type();
  if (!q.getType().isF64()) {
    q = arith::ExtFOp::create(k.builder(), k.loc(), f64, q);
  }
  Value rows = arith::SIToFPOp::create(k.builder(), k.loc(), f64, k.toI64(n));
  Value one = arith::ConstantOp::create(k.builder(), k.loc(), k.builder().getF64FloatAttr(1.0));
  Value position = k.mul(q, k.sub(rows, one));
  Value whole = math::FloorOp::create(k.builder(), k.loc(), position);
  Value fraction =
      arith::TruncFOp::create(k.builder(), k.loc(), k.f32Type(), k.sub(position, whole));
  Value rank = arith::FPToSIOp::create(k.builder(), k.loc(), k.i32Type(), whole);
  auto keysAt = [&](Value start, Value mask) {
    Point at = point.with(axis, {AxisIndex::Kind::Contiguous, start, true});
    at.mask = mask;
    return keysOf(k, lift(evaluate(x, at)));
  };
  auto countBelow = [&](Value key, bool orEqual) {
    return countWhere(*this, n, [&](Value start, Value mask) {
      Value keys = keysAt(start, mask), cut = k.broadcast(key);
      return orEqual ? k.le(keys, cut) : k.lt(keys, cut);
    });
  };
  Value low = searchBits(*this, [&](Value key) { return k.le(countBelow(key, false), rank); });
  // The next value in order: the same one again, or the smallest above it.
  Value most = k.splatI32(std::numeric_limits<int32_t>::max());
  Value above =
      vectors(k.index(0), n, ValueRange{most}, [&](Value start, Value mask, ValueRange carried) {
        Value keys = keysAt(start, mask);
        Value larger = k.gt(keys, k.broadcast(low));
        larger = mask ? k.andi(larger, mask) : larger;
        return SmallVector<Value>{k.min(carried[0], k.select(larger, keys, most))};
      })[0];
  Value again = k.gt(countBelow(low, true), k.add(rank, k.i32(1)));
  Value last = k.ge(k.add(rank, k.i32(1)), k.toI32(n));
  Value lowNumber = numberOf(k, low);
  Value highNumber = k.select(k.ori(again, last), lowNumber, numberOf(k, k.reduceMin(above)));
  Value between = k.add(lowNumber, k.mul(fraction, k.sub(highNumber, lowNumber)));
  Value result = k.select(k.eq(lowNumber, highNumber), lowNumber, between); // also of infinities
  double nothing = std::numeric_limits<double>::infinity();
  return k.select(k.gt(n, k.index(0)), result, k.f32(nothing));
}
