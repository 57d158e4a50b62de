// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reductions and contractions of the nest emitter, in one of four forms:
//   scalar      the point has no vector axis: lanes run along one reduced axis, leaf blocks of 1024
//   sequential  lanes run along an axis of the result: every lane adds up its own elements in index
//   order transposed  lanes run along an axis of the result, but memory is contiguous along a
//   reduced one: 16 rows are
//               summed side by side, lane by lane as in the scalar form, and end up in one vector
//   lanewise    the scalar form, 16 times
// Reductions of one value over the same axes share one loop.

#include "targets/cpu/NestBody.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;

/// Elements of a leaf block.
constexpr int64_t leaf = 1024;
constexpr int64_t noIndex = std::numeric_limits<int32_t>::max();

/// One result of a reduction: the function's name, what it reduces, the op's value.
struct ReduceMember {
  StringRef fn;
  Value input, output;
};

/// Reductions that run in one loop: either reduce ops of one input, or a contraction.
struct NestBody::Reduction {
  NestBody &body;
  KernelBuilder &k;
  SmallVector<ReduceMember> members;
  ContractOp contract;
  std::vector<std::string> axes; ///< in the order of the input's axes
  /// Where the reduced axis begins and ends, when there is one and it is not taken as a whole.
  Value lo, hi;

  Value source() { return contract ? Value(contract.getLhs()) : Value(members.front().input); }
  SmallVector<Value> sources() {
    return contract ? SmallVector<Value>{contract.getLhs(), contract.getRhs()}
                    : SmallVector<Value>{source()};
  }
  bool sumsFloats(ReduceMember op) {
    return (op.fn == "sum" || op.fn == "mean") && computeTypeOf(op.output.getType()).isF32();
  }
  Type stateType(ReduceMember op) {
    return op.fn == "argmax" ? computeTypeOf(op.input.getType())
                             : computeTypeOf(op.output.getType());
  }
  Value constant(Type type, double value, int64_t integer, bool vector) {
    if (type.isF32()) {
      return vector ? k.splatF32(value) : k.f32(value);
    }
    Attribute number = k.builder().getIntegerAttr(type, integer);
    Value scalar = arith::ConstantOp::create(k.builder(), k.loc(), cast<TypedAttr>(number));
    return vector ? k.broadcast(scalar) : scalar;
  }

  SmallVector<Value> start(bool vector) {
    if (contract) {
      return {constant(k.f32Type(), 0, 0, vector)};
    }
    SmallVector<Value> state;
    for (ReduceMember op : members) {
      Type type = stateType(op);
      double inf = std::numeric_limits<double>::infinity();
      int64_t least = type.isInteger(64) ? std::numeric_limits<int64_t>::min()
                                         : std::numeric_limits<int32_t>::min();
      if (op.fn == "max" || op.fn == "argmax") {
        state.push_back(constant(type, -inf, least, vector));
      } else if (op.fn == "min") {
        state.push_back(constant(type, inf, -1 - least, vector));
      } else {
        state.push_back(constant(type, 0, 0, vector));
      }
      if (op.fn == "argmax") {
        state.push_back(vector ? k.splatI32(noIndex) : k.i32(noIndex));
      }
    }
    return state;
  }

  /// x as a term of a sum or count: conditions become 0 or 1.
  Value term(ReduceMember op, Value x) {
    Type elem = getElementTypeOrSelf(x.getType());
    Type type = computeTypeOf(op.output.getType());
    if (op.fn == "count" && !elem.isInteger(1)) {
      Value zero = arith::ConstantOp::create(k.builder(), k.loc(),
                                             cast<TypedAttr>(k.builder().getZeroAttr(x.getType())));
      x = k.ne(x, zero);
      elem = getElementTypeOrSelf(x.getType());
    }
    if (elem.isInteger(1)) {
      Type i32 = isa<VectorType>(x.getType()) ? Type(k.vec(k.i32Type())) : k.i32Type();
      x = arith::ExtUIOp::create(k.builder(), k.loc(), i32, x);
    }
    if (type.isF32()) {
      return getElementTypeOrSelf(x.getType()).isF32() ? x : k.intToF32(x);
    }
    return type.isInteger(64) ? k.toI64(x) : x;
  }

  /// Of (best, at) and (x, position) the larger value; of equal ones the lower position.
  void betterOf(Value &best, Value &at, Value x, Value position) {
    Value better = k.ori(k.gt(x, best), k.andi(k.eq(x, best), k.lt(position, at)));
    best = k.select(better, x, best);
    at = k.select(better, position, at);
  }

  /// Combines two states of one member, `i` its first value.
  void combine(ReduceMember op, MutableArrayRef<Value> state, ArrayRef<Value> other) {
    StringRef fn = op.fn;
    if (fn == "max") {
      state[0] = k.max(state[0], other[0]);
    } else if (fn == "min") {
      state[0] = k.min(state[0], other[0]);
    } else if (fn == "argmax") {
      betterOf(state[0], state[1], other[0], other[1]);
    } else {
      state[0] = k.add(state[0], other[0]);
    }
  }
  int64_t width(ReduceMember op) { return op.fn == "argmax" ? 2 : 1; }

  /// One more vector of elements at `point`. `position` counts along the reduced axis (argmax).
  SmallVector<Value> update(ValueRange state, const Point &point, Value mask, Value position) {
    if (contract) {
      Value a = body.lift(body.evaluate(contract.getLhs(), point)),
            b = body.lift(body.evaluate(contract.getRhs(), point));
      Value sum = k.fma(floatOf(a), floatOf(b), state[0]);
      return {mask ? k.select(mask, sum, state[0]) : sum};
    }
    Value x = body.lift(body.evaluate(members.front().input, point));
    SmallVector<Value> next(state);
    size_t at = 0;
    for (ReduceMember op : members) {
      SmallVector<Value> element{
          op.fn == "max" || op.fn == "min" || op.fn == "argmax" ? x : term(op, x)};
      if (op.fn == "argmax") {
        element.push_back(position);
      }
      combine(op, MutableArrayRef<Value>(next).slice(at, width(op)), element);
      at += width(op);
    }
    for (size_t i = 0; mask && i < next.size(); ++i) {
      next[i] = k.select(mask, next[i], state[i]);
    }
    return next;
  }
  Value floatOf(Value x) { return getElementTypeOrSelf(x.getType()).isF32() ? x : k.intToF32(x); }

  /// Lanes of a state to one state of scalars, in tree order.
  SmallVector<Value> acrossLanes(ArrayRef<Value> state) {
    if (contract) {
      return {k.reduceAdd(state[0])};
    }
    SmallVector<Value> result;
    size_t at = 0;
    for (ReduceMember op : members) {
      SmallVector<Value> part(state.slice(at, width(op)));
      for (int64_t half = lanes / 2; half >= 1; half /= 2) {
        SmallVector<Value> low, high;
        for (Value value : part) {
          low.push_back(k.extractLanes(value, 0, half));
          high.push_back(k.extractLanes(value, half, half));
        }
        combine(op, low, high);
        part = low;
      }
      for (Value value : part) {
        result.push_back(k.extractLane(value, 0));
      }
      at += width(op);
    }
    return result;
  }
  SmallVector<Value> merge(ArrayRef<Value> a, ArrayRef<Value> b) {
    if (contract) {
      return {k.add(a[0], b[0])};
    }
    SmallVector<Value> result(a);
    size_t at = 0;
    for (ReduceMember op : members) {
      combine(op, MutableArrayRef<Value>(result).slice(at, width(op)), b.slice(at, width(op)));
      at += width(op);
    }
    return result;
  }

  /// Results of the members from their states and the number of elements (i32).
  SmallVector<Value> finish(ArrayRef<Value> state, Value count) {
    if (contract) {
      return {state[0]};
    }
    SmallVector<Value> results;
    size_t at = 0;
    for (ReduceMember op : members) {
      Value value = state[at];
      bool vector = isa<VectorType>(value.getType());
      if (op.fn == "mean") {
        Value n = k.intToF32(count);
        Value mean = k.div(value, vector ? k.broadcast(n) : n);
        value = k.select(k.gt(count, k.i32(0)), mean, vector ? k.splatF32(0) : k.f32(0));
      } else if (op.fn == "argmax") {
        value = state[at + 1];
        Value none = vector ? k.splatI32(noIndex) : k.i32(noIndex),
              zero = vector ? k.splatI32(0) : k.i32(0);
        value = k.select(k.eq(value, none), zero, value);
      }
      results.push_back(value);
      at += width(op);
    }
    return results;
  }

  /// Scalar loops over `over`, carrying `init`; the innermost calls `inside`.
  SmallVector<Value>
  nest(ArrayRef<std::string> over, const Point &point, ValueRange init,
       llvm::function_ref<SmallVector<Value>(const Point &, ValueRange)> inside) {
    if (over.empty()) {
      return inside(point, init);
    }
    auto [from, to] = limits(over.front(), point);
    return body.loop(from, to, k.index(1), init, [&](Value iv, ValueRange carried) {
      return nest(over.drop_front(), point.with(over.front(), {AxisIndex::Kind::Scalar, iv, false}),
                  carried, inside);
    });
  }
  /// Leaf blocks of [from, to), carrying `init`; one block when `to` is known to be small.
  SmallVector<Value>
  blocks(Value from, Value to, ValueRange init,
         llvm::function_ref<SmallVector<Value>(Value lo, Value hi, ValueRange carried)> inside) {
    if (std::optional<int64_t> constant = getConstantIntValue(to); constant && *constant <= leaf) {
      return inside(from, to, init);
    }
    return body.loop(from, to, k.index(leaf), init, [&](Value start, ValueRange carried) {
      return inside(start, k.min(k.add(start, leaf), to), carried);
    });
  }
  /// The positions of a reduced axis.
  std::pair<Value, Value> limits(StringRef axis, const Point &point) {
    return lo ? std::make_pair(lo, hi)
              : std::make_pair(k.index(0), body.bound(source(), axis, point));
  }
  std::vector<std::string> axesBut(StringRef axis) {
    std::vector<std::string> rest;
    for (const std::string &name : axes) {
      if (name != axis) {
        rest.push_back(name);
      }
    }
    return rest;
  }
  /// How memory moves along a reduced axis, both factors of a contraction taken together.
  Step stepAlong(StringRef axis) {
    Step first = body.step(source(), axis);
    Step second = contract ? body.step(contract.getRhs(), axis) : first;
    return static_cast<int>(first) > static_cast<int>(second) ? first : second;
  }
};

Point NestBody::atLane(Value value, const Point &point, Value lane, int64_t constantLane) {
  Point result = point;
  result.mask = {};
  for (auto &[name, index] : result.axes) {
    if (index.isScalar()) {
      continue;
    }
    Value at;
    if (index.kind == AxisIndex::Kind::Contiguous) {
      at = k.add(index.value, lane ? lane : k.index(constantLane));
    } else if (lane) {
      at =
          k.toIndex(vector::ExtractOp::create(k.builder(), k.loc(), index.value, lane).getResult());
    } else {
      at = k.toIndex(k.extractLane(index.value, constantLane));
    }
    index = {AxisIndex::Kind::Scalar, at, false};
    if (point.mask && findAxis(axesOf(value), name)) {
      Value last = k.sub(bound(value, name, result), k.index(1));
      index.value = k.max(k.min(at, last), k.index(0));
    }
  }
  return result;
}

Value NestBody::lanewise(Value value, const Point &point) {
  Type type = computeTypeOf(value.getType());
  Value none = arith::ConstantOp::create(k.builder(), k.loc(),
                                         cast<TypedAttr>(k.builder().getZeroAttr(k.vec(type))));
  Value numbers = k.laneNumbers();
  return loop(k.index(0), k.index(lanes), k.index(1), ValueRange{none},
              [&](Value lane, ValueRange carried) {
                Value one = evaluate(value, atLane(value, point, lane, 0));
                return SmallVector<Value>{k.select(k.eq(numbers, k.broadcast(k.toI32(lane))),
                                                   k.broadcast(one), carried[0])};
              })[0];
}

SmallVector<Value> NestBody::reduceScalar(Reduction &r, const Point &point) {
  hoist(r.sources(), point);
  // Lanes run along the contiguous axis, or else the last, on which no other extent depends.
  std::string along;
  for (const std::string &axis : r.axes) {
    bool free = llvm::none_of(r.axes, [&](const std::string &other) {
      return other != axis && llvm::is_contained(boundDependsOn(r.source(), other), axis);
    });
    if (free && (along.empty() || r.stepAlong(axis) <= r.stepAlong(along))) {
      along = axis;
    }
  }
  SmallVector<Value> init = r.start(false);
  init.push_back(k.i32(0));
  SmallVector<Value> total =
      r.nest(r.axesBut(along), point, init, [&](const Point &at, ValueRange carried) {
        auto [from, to] = r.limits(along, at);
        SmallVector<Value> sums =
            r.blocks(from, to, carried.drop_back(), [&](Value lo, Value hi, ValueRange before) {
              SmallVector<Value> state =
                  vectors(lo, hi, r.start(true), [&](Value start, Value mask, ValueRange state) {
                    Point element = at.with(along, {AxisIndex::Kind::Contiguous, start, !r.lo});
                    element.mask = mask;
                    return r.update(state, element, mask,
                                    k.add(k.broadcast(k.toI32(start)), k.laneNumbers()));
                  });
              return r.merge(SmallVector<Value>(before), r.acrossLanes(state));
            });
        sums.push_back(k.add(carried.back(), k.toI32(k.sub(to, from))));
        return sums;
      });
  return r.finish(ArrayRef<Value>(total).drop_back(), total.back());
}

SmallVector<Value> NestBody::reduceSequential(Reduction &r, const Point &point) {
  hoist(r.sources(), point);
  SmallVector<Value> init = r.start(true);
  init.push_back(k.i32(0));
  SmallVector<Value> total = r.nest(r.axes, point, init, [&](const Point &at, ValueRange carried) {
    Value position = k.broadcast(k.toI32(at.find(r.axes.back())->value));
    SmallVector<Value> next = r.update(carried.drop_back(), at, Value(), position);
    next.push_back(k.add(carried.back(), k.i32(1)));
    return next;
  });
  return r.finish(ArrayRef<Value>(total).drop_back(), total.back());
}

SmallVector<Value> NestBody::reduceTransposed(Reduction &r, const Point &point, StringRef along) {
  Value result = r.contract ? Value(r.contract.getOutput()) : Value(r.members.front().output);
  SmallVector<Point> rows;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    rows.push_back(atLane(result, point, Value(), lane));
  }
  SmallVector<Value> init{k.splatF32(0), k.i32(0)};
  // The loops over the other axes are scalar: their indices are the same in every row.
  SmallVector<Value> total =
      r.nest(r.axesBut(along), point, init, [&](const Point &at, ValueRange carried) {
        Value n = bound(r.source(), along, at);
        SmallVector<Value> sums =
            r.blocks(k.index(0), n, carried.front(), [&](Value lo, Value hi, ValueRange before) {
              SmallVector<Value> zeros(lanes, k.splatF32(0));
              SmallVector<Value> state =
                  vectors(lo, hi, zeros, [&](Value start, Value mask, ValueRange state) {
                    SmallVector<Value> next;
                    for (int64_t lane = 0; lane < lanes; ++lane) {
                      Point element = rows[lane];
                      for (const std::string &axis : r.axes) {
                        element =
                            axis == along
                                ? element.with(axis, {AxisIndex::Kind::Contiguous, start, true})
                                : element.with(axis, *at.find(axis));
                      }
                      element.mask = mask;
                      next.push_back(r.update(state[lane], element, mask, Value())[0]);
                    }
                    return next;
                  });
              return SmallVector<Value>{k.add(before[0], k.reduceAddRows(state))};
            });
        sums.push_back(k.add(carried.back(), k.toI32(n)));
        return sums;
      });
  return r.finish(ArrayRef<Value>(total).drop_back(), total.back());
}

/// The reduce ops of the kernel that can share the loop of `op`.
static SmallVector<ReduceOp> siblings(ArrayRef<Operation *> ops, ReduceOp op) {
  SmallVector<ReduceOp> result;
  for (Operation *other : ops) {
    auto reduce = dyn_cast<ReduceOp>(other);
    if (reduce && reduce.getInput() == op.getInput() && reduce.getAxes() == op.getAxes() &&
        reduce.getFn() != "quantile") {
      result.push_back(reduce);
    }
  }
  return result;
}

Value NestBody::computeReduce(Operation *op, Value value, const Point &point) {
  auto reduce = dyn_cast<ReduceOp>(op);
  if (reduce && reduce.getFn() == "quantile") {
    return point.isScalar() ? computeQuantile(reduce, point) : lanewise(value, point);
  }
  Reduction r{*this, k, {}, dyn_cast<ContractOp>(op), {}, {}, {}};
  if (reduce) {
    for (ReduceOp member : siblings(spec_.ops, reduce)) {
      r.members.push_back({member.getFn(), member.getInput(), member.getOutput()});
    }
  }
  ArrayAttr names = reduce ? reduce.getAxes() : r.contract.getAxes();
  for (AxisAttr axis : axesOf(r.source())) {
    if (llvm::is_contained(names, StringAttr::get(op->getContext(), axis.getName()))) {
      r.axes.push_back(axis.getName());
    }
  }
  SmallVector<Value> results;
  if (point.isScalar()) {
    results = reduceScalar(r, point);
  } else {
    std::string contiguous;
    bool ragged = false;
    for (const std::string &axis : r.axes) {
      contiguous = r.stepAlong(axis) == Step::One ? axis : contiguous;
      for (const std::string &other : boundDependsOn(r.source(), axis)) {
        const AxisIndex *index = point.find(other);
        ragged |= index && !index->isScalar();
      }
    }
    bool besides = llvm::any_of(point.axes, [&](const auto &axis) {
      bool along =
          axis.second.kind == AxisIndex::Kind::Contiguous && step(value, axis.first) == Step::One;
      return !axis.second.isScalar() && !along;
    });
    bool sums = r.contract || (r.members.size() == 1 && r.sumsFloats(r.members.front()));
    if (ragged || (besides && !contiguous.empty() && !sums)) {
      return lanewise(value, point);
    }
    results = besides && !contiguous.empty() ? reduceTransposed(r, point, contiguous)
                                             : reduceSequential(r, point);
  }
  for (auto [member, result] : llvm::zip(r.members, results)) {
    if (member.output != value) {
      remember(member.output, point, result);
    }
  }
  for (auto [member, result] : llvm::zip(r.members, results)) {
    if (member.output == value) {
      return result;
    }
  }
  return results.front();
}

Value NestBody::computeBlock(BlocksOp op, Value lo, Value hi, const Point &point) {
  Reduction r{*this, k, {}, ContractOp(), {op.getAxis().str()}, lo, hi};
  r.members.push_back({op.getFn(), op.getInput(), op.getOutput()});
  return (point.isScalar() ? reduceScalar(r, point) : reduceSequential(r, point)).front();
}
