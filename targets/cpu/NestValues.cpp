// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Values of map, gather, pool, slice, iota, relabel and of operands in memory; extents; scalar
// regions.

#include "targets/cpu/NestBody.h"

#include "dialect/CacheOps.h"
#include "dialect/MethodOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/TypeSwitch.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

// ---- points
// ---------------------------------------------------------------------------------------------------------

const AxisIndex *Point::find(StringRef name) const {
  for (const auto &[axis, index] : axes) {
    if (name == axis) {
      return &index;
    }
  }
  return nullptr;
}

Point Point::with(StringRef name, AxisIndex index) const {
  Point copy = *this;
  for (auto &[axis, old] : copy.axes) {
    if (name == axis) {
      old = index;
      return copy;
    }
  }
  copy.axes.emplace_back(name.str(), index);
  return copy;
}

Point Point::restrictedTo(ArrayRef<AxisAttr> names) const {
  Point point;
  for (AxisAttr axis : names) {
    if (const AxisIndex *index = find(axis.getName())) {
      point.axes.emplace_back(axis.getName(), *index);
    }
  }
  point.mask = point.isScalar() ? Value() : mask;
  return point;
}

bool Point::isScalar() const {
  return llvm::all_of(axes, [](const auto &axis) { return axis.second.isScalar(); });
}

Type mlir::kvcache::cpu::computeTypeOf(Type type) {
  return isa<IndexSetType>(type) ? IntegerType::get(type.getContext(), 32) : scalarTypeOf(type);
}

// ---- start, failure, scopes
// -----------------------------------------------------------------------------------------

void NestBody::begin(ArrayRef<std::string> words) {
  for (size_t i = 0; i < words.size(); ++i) {
    words_[words[i]] = k.scalarI64(k.arg("scalars"), static_cast<int64_t>(i));
  }
  makeStatus();
  for (const NestOperand &input : spec_.inputs) {
    inputs_[input.value] = &input;
  }
  for (const NestOperand &output : spec_.outputs) {
    outputs_[output.value] = &output;
  }
}

Value NestBody::fail(Operation *op, const Twine &message, Type type, bool vector) {
  if (!failed_ && !quiet) {
    op->emitError("cpu: ") << message;
  }
  failed_ = true;
  Attribute zero = k.builder().getZeroAttr(vector ? Type(k.vec(type)) : type);
  return arith::ConstantOp::create(k.builder(), k.loc(), cast<TypedAttr>(zero));
}

SmallVector<const void *, 8> NestBody::memoKey(Value value, const Point &point) {
  SmallVector<const void *, 8> key{value.getAsOpaquePointer(), point.mask.getAsOpaquePointer()};
  for (AxisAttr axis : axesOf(value)) {
    const AxisIndex *index = point.find(axis.getName());
    key.push_back(index ? index->value.getAsOpaquePointer() : nullptr);
    key.push_back(reinterpret_cast<const void *>(
        static_cast<uintptr_t>(index ? static_cast<int>(index->kind) : 0)));
  }
  return key;
}

void NestBody::remember(Value value, const Point &point, Value result) {
  scopes_.back().push_back({memoKey(value, point), result});
}

void NestBody::loop(Value lo, Value hi, Value step, llvm::function_ref<void(Value)> body) {
  loop(lo, hi, step, ValueRange{}, [&](Value iv, ValueRange) {
    body(iv);
    return SmallVector<Value>{};
  });
}

SmallVector<Value> NestBody::loop(Value lo, Value hi, Value step, ValueRange init,
                                  KernelBuilder::CarryBody body) {
  return k.forLoop(lo, hi, step, init, [&](Value iv, ValueRange carried) {
    scopes_.emplace_back();
    SmallVector<Value> results = body(iv, carried);
    scopes_.pop_back();
    return results;
  });
}

SmallVector<Value> NestBody::vectors(Value lo, Value hi, ValueRange init,
                                     KernelBuilder::VectorCarryBody body) {
  return k.forVectors(lo, hi, init, [&](Value start, Value mask, ValueRange carried) {
    scopes_.emplace_back();
    SmallVector<Value> results = body(start, mask, carried);
    scopes_.pop_back();
    return results;
  });
}

void NestBody::when(Value condition, llvm::function_ref<void()> body) {
  k.ifThen(condition, [&] {
    scopes_.emplace_back();
    body();
    scopes_.pop_back();
  });
}

SmallVector<Value> NestBody::choose(Value condition, TypeRange types,
                                    llvm::function_ref<SmallVector<Value>()> then,
                                    llvm::function_ref<SmallVector<Value>()> otherwise) {
  auto scoped = [&](llvm::function_ref<SmallVector<Value>()> body) {
    scopes_.emplace_back();
    SmallVector<Value> results = body();
    scopes_.pop_back();
    return results;
  };
  return k.ifElse(
      condition, types, [&] { return scoped(then); }, [&] { return scoped(otherwise); });
}

void NestBody::hoist(ArrayRef<Value> roots, const Point &point) {
  llvm::DenseSet<Value> cone;
  SmallVector<Value> open(roots);
  while (!open.empty()) {
    Value value = open.pop_back_val();
    if (!value.getDefiningOp() || held(value) || !cone.insert(value).second) {
      continue;
    }
    llvm::append_range(open, value.getDefiningOp()->getOperands());
  }
  for (Operation *op : spec_.ops) {
    for (Value result : op->getResults()) {
      bool known = llvm::all_of(
          axesOf(result), [&](AxisAttr axis) { return point.find(axis.getName()) != nullptr; });
      if (cone.contains(result) && isa<AxisTensorType>(result.getType()) && known) {
        evaluate(result, point);
      }
    }
  }
}

// ---- evaluation
// -----------------------------------------------------------------------------------------------------

const NestOperand *NestBody::held(Value value) const {
  if (const NestOperand *input = inputs_.lookup(value)) {
    return input;
  }
  return written_.contains(value) ? outputs_.lookup(value) : nullptr;
}

const NestOperand *NestBody::outputFor(Value value) const { return outputs_.lookup(value); }

Value NestBody::evaluate(Value value, const Point &given) {
  if (!isa<AxisTensorType, IndexSetType>(value.getType())) {
    return scalar(value);
  }
  Point point = given.restrictedTo(axesOf(value));
  if (point.axes.size() != axesOf(value).size()) {
    return fail(value.getDefiningOp() ? value.getDefiningOp() : spec_.ops.front(),
                "a value is used where its axes have no index", computeTypeOf(value.getType()),
                false);
  }
  auto key = memoKey(value, point);
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    for (const Memo &memo : *scope) {
      if (memo.key == key) {
        return memo.value;
      }
    }
  }
  const NestOperand *operand = held(value);
  Value result = operand ? loadHeld(*operand, point) : compute(value, point);
  remember(value, point, result);
  return result;
}

Value NestBody::compute(Value value, const Point &point) {
  Operation *op = value.getDefiningOp();
  Type type = computeTypeOf(value.getType());
  if (!op || !llvm::is_contained(spec_.ops, op)) {
    return fail(op ? op : spec_.ops.front(),
                "a value is neither an input nor the result of an op of the kernel", type, false);
  }
  return llvm::TypeSwitch<Operation *, Value>(op)
      .Case([&](MapOp map) { return computeMap(map, value, point); })
      .Case<ReduceOp, ContractOp>([&](auto reduce) { return computeReduce(reduce, value, point); })
      .Case([&](PoolOp pool) { return computePool(pool, point); })
      .Case([&](GatherOp gather) { return computeGather(gather, point); })
      .Case([&](IotaOp iota) { return computeIota(iota, point); })
      .Case([&](ColumnOp column) {
        return loadColumn(column, column.getCache(), column.getName(), point);
      })
      .Case([&](RelabelOp relabel) {
        Point from;
        from.mask = point.mask;
        for (auto [old, now] : llvm::zip(axesOf(relabel.getInput()), axesOf(value))) {
          from.axes.emplace_back(old.getName(), *point.find(now.getName()));
        }
        return evaluate(relabel.getInput(), from);
      })
      .Case([&](SliceOp slice) {
        AxisIndex index = *point.find(slice.getAxis());
        Value from = scalarIndex(slice.getFrom());
        index.value = index.kind == AxisIndex::Kind::Lanes
                          ? k.add(index.value, k.broadcast(k.toI32(from)))
                          : k.add(index.value, from);
        index.aligned = false;
        return evaluate(slice.getInput(), point.with(slice.getAxis(), index));
      })
      .Default([&](Operation *other) {
        return fail(other,
                    "cannot compute '" + other->getName().getStringRef() + "' inside a loop nest",
                    type, false);
      });
}

Value NestBody::lift(Value value) {
  return isa<VectorType>(value.getType()) ? value : k.broadcast(value);
}

Value NestBody::scalar(Value value) {
  if (const NestOperand *input = inputs_.lookup(value)) {
    Value word = words_.at(input->arg);
    Type type = value.getType();
    if (type.isF32()) {
      return k.bitcast(k.toI32(word), type);
    }
    if (type.isF64()) {
      return k.bitcast(word, type);
    }
    if (type.isInteger(1)) {
      return k.ne(word, k.i64(0));
    }
    return type.isIndex() ? k.toIndex(word) : type.isInteger(32) ? k.toI32(word) : word;
  }
  Operation *op = value.getDefiningOp();
  if (!op) {
    return fail(spec_.ops.front(), "a scalar is neither an input nor a result", value.getType(),
                false);
  }
  if (auto extent = dyn_cast<ExtentOp>(op)) {
    return bound(extent.getOf(), extent.getAxis(), Point());
  }
  StringRef dialect = op->getName().getDialectNamespace();
  if ((dialect != "arith" && dialect != "math") || op->getNumResults() != 1) {
    return fail(op, "cannot compute '" + op->getName().getStringRef() + "' as a scalar",
                value.getType(), false);
  }
  auto key = memoKey(value, Point());
  for (const auto &scope : scopes_) {
    for (const Memo &memo : scope) {
      if (memo.key == key) {
        return memo.value;
      }
    }
  }
  IRMapping mapping;
  for (Value operand : op->getOperands()) {
    mapping.map(operand, scalar(operand));
  }
  Value result = k.builder().clone(*op, mapping)->getResult(0);
  remember(value, Point(), result);
  return result;
}

// ---- scalar regions
// -------------------------------------------------------------------------------------------------

/// One op of a scalar region on scalars or vectors: same op, wider types. The exponential is the
/// kernel builder's.
static Value applyOp(NestBody &body, Operation &op, ArrayRef<Value> operands, bool vector) {
  KernelBuilder &k = body.k;
  SmallVector<Value> lifted;
  for (Value operand : operands) {
    lifted.push_back(vector ? body.lift(operand) : operand);
  }
  if (isa<math::ExpOp>(op) && getElementTypeOrSelf(lifted[0].getType()).isF32()) {
    return k.exp(lifted[0]);
  }
  Type type = op.getResult(0).getType();
  OperationState state(k.loc(), op.getName().getStringRef(), lifted,
                       {vector ? Type(k.vec(type)) : type}, op.getAttrs());
  state.propertiesAttr = op.getPropertiesAsAttribute();
  return k.builder().create(state)->getResult(0);
}

SmallVector<Value> NestBody::applyRegion(Operation *owner, Block &body, ArrayRef<Value> inputs) {
  llvm::DenseMap<Value, Value> values;
  for (auto [argument, input] : llvm::zip(body.getArguments(), inputs)) {
    values[argument] = input;
  }
  auto lookup = [&](Value value) {
    auto found = values.find(value);
    return found != values.end() ? found->second
                                 : scalar(value); // a scalar from outside the region
  };
  for (Operation &op : body.without_terminator()) {
    StringRef dialect = op.getName().getDialectNamespace();
    if ((dialect != "arith" && dialect != "math") || op.getNumResults() != 1) {
      SmallVector<Value> results;
      for (Value yielded : body.getTerminator()->getOperands()) {
        results.push_back(fail(&op, "expected ops of arith and math in a scalar region",
                               yielded.getType(), false));
      }
      return results;
    }
    SmallVector<Value> operands;
    for (Value operand : op.getOperands()) {
      operands.push_back(lookup(operand));
    }
    bool vector =
        llvm::any_of(operands, [](Value operand) { return isa<VectorType>(operand.getType()); });
    values[op.getResult(0)] = applyOp(*this, op, operands, vector);
  }
  SmallVector<Value> results;
  for (Value yielded : body.getTerminator()->getOperands()) {
    results.push_back(lookup(yielded));
  }
  return results;
}

Value NestBody::computeMap(MapOp op, Value value, const Point &point) {
  SmallVector<Value> inputs;
  for (auto [input, argument] : llvm::zip(op.getInputs(), op.getScalarBody().getArguments())) {
    // An input that only gives the shape is not read.
    inputs.push_back(argument.use_empty() ? Value() : evaluate(input, point));
  }
  SmallVector<Value> results = applyRegion(op, op.getScalarBody(), inputs);
  Value wanted;
  for (auto [output, result] : llvm::zip(op.getOutputs(), results)) {
    if (output == value) {
      wanted = result;
    } else if (axesOf(output) == axesOf(value)) {
      remember(output, point, result);
    }
  }
  return wanted;
}

// ---- data movement
// --------------------------------------------------------------------------------------------------

Value NestBody::computeGather(GatherOp op, const Point &point) {
  auto index = cast<IndexSetType>(op.getAt().getType());
  if (!isa<AxisTensorType>(op.getInput().getType())) {
    return fail(op, "rows of a cache are moved by a kernel of their own",
                computeTypeOf(op.getOutput().getType()), false);
  }
  Value position = evaluate(op.getAt(), point);
  AxisIndex at;
  if (isa<VectorType>(position.getType())) {
    at = {AxisIndex::Kind::Lanes, position, false};
  } else {
    at = {AxisIndex::Kind::Scalar, k.toIndex(position), false};
  }
  return evaluate(op.getInput(), point.with(index.getDomain(), at));
}

Value NestBody::computeIota(IotaOp op, const Point &point) {
  const AxisIndex &index = *point.find(op.getAxis());
  Value number;
  switch (index.kind) {
  case AxisIndex::Kind::Scalar:
    number = k.toI32(index.value);
    break;
  case AxisIndex::Kind::Contiguous:
    number = k.add(k.broadcast(k.toI32(index.value)), k.laneNumbers());
    break;
  case AxisIndex::Kind::Lanes:
    number = index.value;
    break;
  }
  Type type = computeTypeOf(op.getOutput().getType());
  return type.isF32() ? k.intToF32(number) : type.isInteger(64) ? k.toI64(number) : number;
}

Value NestBody::computePool(PoolOp op, const Point &point) {
  bool average = op.getFunction() == "avg";
  StringRef axis = op.getAxis();
  const AxisIndex index = *point.find(axis);
  Value size = scalarIndex(op.getSize());
  Value half = k.floorDiv(size, 2);
  Value upTo = op.getUpto() ? k.min(scalarIndex(op.getUpto()), bound(op.getInput(), axis, point))
                            : bound(op.getInput(), axis, point);
  bool vector = !point.isScalar();
  double identity = average ? 0.0 : -std::numeric_limits<double>::infinity();
  auto constant = [&](double value) { return vector ? k.splatF32(value) : k.f32(value); };
  auto wide = [&](Value number) { return vector ? k.broadcast(k.toI32(number)) : number; };
  // Positions as vector<16xi32>, or as index when the point is scalar.
  auto positions = [&](const AxisIndex &at) {
    if (!vector) {
      return at.value;
    }
    return at.kind == AxisIndex::Kind::Contiguous ? k.add(wide(at.value), k.laneNumbers())
           : at.kind == AxisIndex::Kind::Lanes    ? at.value
                                                  : wide(at.value);
  };
  Value zero = vector ? k.splatI32(0) : k.index(0);
  auto combine = [&](Value a, Value b) { return average ? k.add(a, b) : k.max(a, b); };
  Value pooled = loop(
      k.index(0), size, k.index(1), ValueRange{constant(identity)},
      [&](Value j, ValueRange carried) {
        AxisIndex at = index;
        Value shift = k.sub(j, half);
        at.value = at.kind == AxisIndex::Kind::Lanes ? k.add(at.value, wide(shift))
                                                     : k.add(at.value, shift);
        at.aligned = false;
        Value where = positions(at);
        Value inside = k.andi(k.ge(where, zero), k.lt(where, wide(upTo)));
        if (!vector) {
          return choose(
              inside, carried.getTypes(),
              [&] {
                return SmallVector<Value>{
                    combine(carried[0], evaluate(op.getInput(), point.with(axis, at)))};
              },
              [&] { return SmallVector<Value>{carried[0]}; });
        }
        Point shifted = point.with(axis, at);
        shifted.mask = point.mask ? k.andi(inside, point.mask) : inside;
        Value x = lift(evaluate(op.getInput(), shifted));
        return SmallVector<Value>{combine(carried[0], k.select(inside, x, constant(identity)))};
      })[0];
  if (average) {
    Value divisor = k.intToF32(size);
    pooled = k.div(pooled, vector ? k.broadcast(divisor) : divisor);
  }
  return k.select(k.lt(positions(index), wide(upTo)), pooled, constant(0.0));
}
