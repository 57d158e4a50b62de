// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operands of a nest in memory: addresses, loads, stores, extents along ragged axes, columns of a
// store.

#include "targets/cpu/NestBody.h"

#include "dialect/CacheOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

// ---- extents
// --------------------------------------------------------------------------------------------------------

Value NestBody::extentValue(const NestExtent &extent) {
  return extent.word.empty() ? k.index(extent.constant) : k.toIndex(words_.at(extent.word));
}

/// `blocks` and `concat` make their axis and pass on the others of their first operand.
static std::pair<Value, std::string> othersOf(Operation *op, StringRef axis) {
  ArrayRef<AxisAttr> from = axesOf(op->getOperand(0)), to = axesOf(op->getResult(0));
  StringRef own = isa<ConcatOp>(op)
                      ? cast<ConcatOp>(op).getAxis()
                      : StringRef(to[*findAxisIndex(from, cast<BlocksOp>(op).getAxis())].getName());
  return axis == own ? std::make_pair(Value(), std::string())
                     : std::make_pair(op->getOperand(0), axis.str());
}

/// The operand through which an op passes on an axis of its result, and the axis' name there; null
/// when the op makes the axis itself.
static std::pair<Value, std::string> axisSource(Operation *op, Value value, StringRef axis) {
  auto firstWith = [&](ValueRange operands) -> std::pair<Value, std::string> {
    for (Value operand : operands) {
      if (findAxis(axesOf(operand), axis)) {
        return {operand, axis.str()};
      }
    }
    return {};
  };
  return llvm::TypeSwitch<Operation *, std::pair<Value, std::string>>(op)
      .Case<MapOp, ReduceOp, ContractOp, PoolOp, SortOp, ScanOp, SelectAllocOp>(
          [&](auto any) { return firstWith(any->getOperands()); })
      .Case([&](GatherOp gather) { return firstWith({gather.getAt(), gather.getInput()}); })
      .Case([&](ScatterOp scatter) { return firstWith(scatter.getInto()); })
      .Case([&](IotaOp iota) { return std::make_pair(Value(iota.getOf()), axis.str()); })
      .Case([&](ColumnOp column) { return firstWith(column.getCache()); })
      .Case([&](EighOp eigh) { return firstWith(eigh.getMatrix()); })
      .Case<BlocksOp, ConcatOp>([&](auto made) { return othersOf(made, axis); })
      .Case([&](SliceOp slice) {
        return slice.getAxis() == axis ? std::make_pair(Value(), std::string())
                                       : firstWith(slice.getInput());
      })
      .Case([&](RelabelOp relabel) {
        unsigned place = *findAxisIndex(axesOf(value), axis);
        return std::make_pair(Value(relabel.getInput()),
                              axesOf(relabel.getInput())[place].getName());
      })
      .Default([](Operation *) { return std::make_pair(Value(), std::string()); });
}

/// The description of an axis of a bound operand; null when the type alone says its extent.
static const NestAxis *describedAxis(const NestOperand &operand, StringRef axis) {
  std::optional<unsigned> place = findAxisIndex(axesOf(operand.value), axis);
  return place && *place < operand.axes.size() ? &operand.axes[*place] : nullptr;
}

static const NestOperand *findOperand(const NestKernel &kernel, Value value) {
  for (const std::vector<NestOperand> *operands : {&kernel.inputs, &kernel.outputs}) {
    for (const NestOperand &operand : *operands) {
      if (operand.value == value) {
        return &operand;
      }
    }
  }
  return nullptr;
}

Value NestBody::lengthNumber(const NestAxis &axis, Value value, const Point &point) {
  Value number = k.index(0);
  for (auto [place, name] : llvm::enumerate(axis.lengthAxes)) {
    const AxisIndex *index = point.find(name);
    bool known = !axis.lengthExtents.empty();
    if (!index) {
      number = known ? k.mul(number, k.index(axis.lengthExtents[place])) : number;
      continue;
    }
    if (!index->isScalar()) {
      Operation *op = value.getDefiningOp() ? value.getDefiningOp() : spec_.ops.front();
      return fail(op, "a ragged extent is needed where axis '" + name + "' has no single index",
                  k.builder().getIndexType(), false);
    }
    Value extent =
        known ? k.index(axis.lengthExtents[place]) : extentValue(capacityOf(value, name));
    number = k.add(k.mul(number, extent), index->value);
  }
  return number;
}

Value NestBody::bound(Value value, StringRef axis, const Point &point) {
  AxisAttr declared = findAxis(axesOf(value), axis);
  if (declared && declared.getInteger()) {
    return k.index(*declared.getInteger());
  }
  const NestOperand *operand = inputs_.lookup(value);
  Operation *op = value.getDefiningOp();
  if (!operand && op) {
    if (auto slice = dyn_cast<SliceOp>(op); slice && slice.getAxis() == axis) {
      return scalarIndex(slice.getSize());
    }
    auto [source, name] = axisSource(op, value, axis);
    if (source) {
      return bound(source, name, point);
    }
    operand = outputs_.lookup(value);
  }
  const NestAxis *described = operand ? describedAxis(*operand, axis) : nullptr;
  if (!described) {
    return fail(op ? op : spec_.ops.front(), "the extent of axis '" + axis + "' is not known",
                k.builder().getIndexType(), false);
  }
  if (!described->lengths.empty()) {
    return k.toIndex(k.load(k.arg(described->lengths), lengthNumber(*described, value, point)));
  }
  if (!described->store.empty()) {
    Value head = lengthNumber(*described, value, point);
    return k.toIndex(
        k.load(k.view(described->store), k.add(head, 2))); // view[2 + h] = rows of head h
  }
  return extentValue(described->capacity);
}

std::vector<std::string> NestBody::boundDependsOn(Value value, StringRef axis) {
  AxisAttr declared = findAxis(axesOf(value), axis);
  if (declared && declared.getInteger()) {
    return {};
  }
  const NestOperand *operand = inputs_.lookup(value);
  if (Operation *op = value.getDefiningOp(); !operand && op) {
    auto [source, name] = axisSource(op, value, axis);
    if (source) {
      return boundDependsOn(source, name);
    }
    operand = outputs_.lookup(value);
  }
  const NestAxis *described = operand ? describedAxis(*operand, axis) : nullptr;
  return described ? described->lengthAxes : std::vector<std::string>();
}

NestExtent mlir::kvcache::cpu::staticCapacity(const NestKernel &kernel, Value value,
                                              StringRef axis) {
  AxisAttr declared = findAxis(axesOf(value), axis);
  if (declared && declared.getInteger()) {
    return NestExtent::of(*declared.getInteger());
  }
  const NestOperand *operand = findOperand(kernel, value);
  const NestAxis *described = operand ? describedAxis(*operand, axis) : nullptr;
  if (described && (described->capacity.constant > 0 || !described->capacity.word.empty())) {
    return described->capacity;
  }
  if (Operation *op = value.getDefiningOp()) {
    auto [source, name] = axisSource(op, value, axis);
    if (source) {
      return staticCapacity(kernel, source, name);
    }
  }
  return NestExtent::of(0);
}

bool mlir::kvcache::cpu::isRagged(const NestKernel &kernel, Value value, StringRef axis) {
  AxisAttr declared = findAxis(axesOf(value), axis);
  if (declared && declared.getInteger()) {
    return false;
  }
  Operation *op = value.getDefiningOp();
  auto [source, name] = op ? axisSource(op, value, axis) : std::make_pair(Value(), std::string());
  const NestOperand *operand = findOperand(kernel, value);
  bool isInput = operand && llvm::any_of(kernel.inputs, [&](const NestOperand &input) {
                   return &input == operand;
                 });
  if (source && !isInput) {
    return isRagged(kernel, source, name);
  }
  const NestAxis *described = operand ? describedAxis(*operand, axis) : nullptr;
  return !described || !described->lengths.empty() || !described->store.empty();
}

NestExtent NestBody::capacityOf(Value value, StringRef axis) {
  NestExtent extent = staticCapacity(spec_, value, axis);
  if (extent.word.empty() && extent.constant == 0) {
    fail(value.getDefiningOp() ? value.getDefiningOp() : spec_.ops.front(),
         "the capacity of axis '" + axis + "' is not known", k.builder().getIndexType(), false);
  }
  return extent;
}

void NestBody::storeLength(const NestOperand &operand, const Point &point, Value length) {
  storeLength(operand, static_cast<unsigned>(operand.axes.size()) - 1, point, length);
}

void NestBody::storeLength(const NestOperand &operand, unsigned place, const Point &point,
                           Value length) {
  const NestAxis &axis = operand.axes[place];
  k.store(k.toI32(length), k.arg(axis.lengths), lengthNumber(axis, operand.value, point));
}

// ---- how memory moves
// -----------------------------------------------------------------------------------------------

static Step worse(Step a, Step b) { return static_cast<int>(a) > static_cast<int>(b) ? a : b; }

Step NestBody::step(Value value, StringRef axis) {
  ArrayRef<AxisAttr> axes = axesOf(value);
  if (!findAxis(axes, axis) || !isa<AxisTensorType, IndexSetType>(value.getType())) {
    return Step::None;
  }
  if (held(value)) {
    const NestOperand &operand = *held(value);
    std::string last = operand.order.empty() ? axes.back().getName() : operand.order.back();
    return last == axis ? Step::One : Step::Other;
  }
  Operation *op = value.getDefiningOp();
  if (!op) {
    return Step::Other;
  }
  if (auto gather = dyn_cast<GatherOp>(op)) {
    Step at = step(gather.getAt(), axis);
    return at == Step::None ? step(gather.getInput(), axis) : Step::Other;
  }
  if (auto relabel = dyn_cast<RelabelOp>(op)) {
    return step(relabel.getInput(), axisSource(op, value, axis).second);
  }
  if (isa<IotaOp>(op)) {
    return Step::One;
  }
  if (isa<ColumnOp>(op)) {
    AxisAttr last = axes.back();
    return last.getName() == axis ? Step::One : Step::Other;
  }
  Step result = Step::None;
  for (Value operand : op->getOperands()) {
    result = worse(result, step(operand, axis));
  }
  return result;
}

// ---- dense operands
// -------------------------------------------------------------------------------------------------

NestBody::Address NestBody::address(const NestOperand &operand, const Point &point) {
  SmallVector<AxisAttr> axes(axesOf(operand.value));
  llvm::stable_sort(axes, [&](AxisAttr a, AxisAttr b) {
    return llvm::find(operand.order, a.getName()) < llvm::find(operand.order, b.getName());
  });
  Address result{k.index(0), Value(), false};
  Value stride = k.index(1);
  for (size_t i = axes.size(); i-- > 0;) {
    const AxisIndex &index = *point.find(axes[i].getName());
    bool last = i + 1 == axes.size();
    switch (index.kind) {
    case AxisIndex::Kind::Scalar:
      result.base = k.add(result.base, k.mul(index.value, stride));
      break;
    case AxisIndex::Kind::Contiguous:
      result.base = k.add(result.base, k.mul(index.value, stride));
      if (last) {
        result.contiguous = true;
        break;
      }
      [[fallthrough]];
    case AxisIndex::Kind::Lanes: {
      Value numbers = index.kind == AxisIndex::Kind::Lanes ? index.value : k.laneNumbers();
      Value offsets = k.mul(numbers, k.broadcast(k.toI32(stride)));
      result.offsets = result.offsets ? k.add(result.offsets, offsets) : offsets;
      break;
    }
    }
    stride =
        i > 0 ? k.mul(stride, extentValue(capacityOf(operand.value, axes[i].getName()))) : stride;
  }
  if (result.contiguous && result.offsets) { // lanes along two axes at once
    result.offsets = k.add(result.offsets, k.laneNumbers());
    result.contiguous = false;
  }
  return result;
}

Value NestBody::fromMemory(Value raw, Type type) {
  Type elem = getElementTypeOrSelf(raw.getType());
  if (type.isF32()) {
    return k.widen(raw);
  }
  if (type.isInteger(1)) {
    Value zero =
        arith::ConstantOp::create(k.builder(), k.loc(), k.builder().getZeroAttr(raw.getType()));
    return k.ne(raw, zero);
  }
  if (elem.isInteger(8)) {
    raw = k.extendU8(raw);
  }
  return type.isInteger(64) ? k.toI64(raw) : type.isIndex() ? k.toIndex(raw) : k.toI32(raw);
}

Value NestBody::loadHeld(const NestOperand &operand, const Point &point) {
  Type type = computeTypeOf(operand.value.getType());
  for (const auto &[axis, index] : grid.axes) {
    const AxisIndex *here = point.find(axis);
    if (!inputs_.count(operand.value) && (!here || here->value != index.value)) {
      return fail(operand.value.getDefiningOp(),
                  "a result is read by another task of the kernel that writes it", type, false);
    }
  }
  return loadOutput(operand, point);
}

Value NestBody::loadOutput(const NestOperand &operand, const Point &point) {
  Type type = computeTypeOf(operand.value.getType());
  Value memref = k.arg(operand.arg);
  Address at = address(operand, point);
  if (at.offsets) {
    return fromMemory(k.gather(memref, at.base, at.offsets, point.mask), type);
  }
  return fromMemory(
      at.contiguous ? k.loadVector(memref, at.base, point.mask) : k.load(memref, at.base), type);
}

void NestBody::storeAt(const NestOperand &operand, const Point &point, Value value) {
  Value memref = k.arg(operand.arg);
  Type elem = cast<MemRefType>(memref.getType()).getElementType();
  Address at = address(operand, point);
  if (at.contiguous) {
    value = lift(value);
  }
  Type type = getElementTypeOrSelf(value.getType());
  if (type.isF32()) {
    value = k.narrow(value, elem);
  } else if (type.isInteger(1)) {
    Type wide = isa<VectorType>(value.getType()) ? Type(k.vec(elem)) : elem;
    value = arith::ExtUIOp::create(k.builder(), k.loc(), wide, value);
  } else if (elem.isInteger(32) || elem.isInteger(64)) {
    value = elem.isInteger(32) ? k.toI32(value) : k.toI64(value);
  } else {
    value = k.narrow(k.intToF32(value), elem);
  }
  if (at.contiguous) {
    k.storeVector(value, memref, at.base, point.mask);
  } else {
    k.store(value, memref, at.base);
  }
}

// ---- columns of a store
// ---------------------------------------------------------------------------------------------

StoreAccess &NestBody::storeFor(const NestOperand &cache) {
  std::unique_ptr<StoreAccess> &access = stores_[cache.arg];
  if (!access) {
    std::vector<abi::ColumnLayout> &layouts = layouts_[cache.arg];
    for (const NestColumn &column : cache.columns) {
      layouts.push_back(column.layout);
    }
    access = std::make_unique<StoreAccess>(k, cache.arg, layouts);
  }
  return *access;
}

Value NestBody::loadColumn(Operation *op, Value cache, StringRef name, const Point &point) {
  Type type = computeTypeOf(op->getResult(0).getType());
  const NestOperand *operand = inputs_.lookup(cache);
  if (!operand) {
    return fail(op, "expected the cache of a column to be an input of the kernel", type, false);
  }
  int64_t number = 0;
  while (number < static_cast<int64_t>(operand->columns.size()) &&
         operand->columns[number].name != name) {
    ++number;
  }
  if (number == static_cast<int64_t>(operand->columns.size())) {
    return fail(op, "no layout for column '" + name + "'", type, false);
  }
  const NestColumn &described = operand->columns[number];
  if (described.layout.coded && !described.allExact) {
    return fail(op,
                "column '" + name +
                    "' may hold codes; expected a phase that reads its rows at the end of the "
                    "prompt, or an uncoded column",
                type, false);
  }
  // The row head counts over the row axes but the last; channels over the feature axes, row-major.
  auto cacheType = cast<CacheType>(cache.getType());
  Value head = k.index(0);
  for (AxisAttr axis : cacheType.getRows().drop_back()) {
    const AxisIndex &index = *point.find(axis.getName());
    if (!index.isScalar()) {
      return lanewise(op->getResult(0), point);
    }
    head = k.add(k.mul(head, *axis.getInteger()), index.value);
  }
  const AxisIndex row = *point.find(cacheType.getRows().back().getName());
  ArrayRef<AxisAttr> features = cacheType.getColumn(name).getAxes();
  Value channel = k.index(0);
  bool vectorChannel = false;
  for (AxisAttr axis : features) {
    const AxisIndex &index = *point.find(axis.getName());
    bool contiguous =
        index.kind == AxisIndex::Kind::Contiguous && axis == features.back() && row.isScalar();
    if (!index.isScalar() && !contiguous) {
      return lanewise(op->getResult(0), point);
    }
    vectorChannel |= contiguous;
    channel = k.add(k.mul(channel, *axis.getInteger()), index.value);
  }
  StoreAccess &store = storeFor(*operand);
  if (row.isScalar()) {
    abi::ElementType elem = described.layout.exactElem;
    Value at = k.add(store.exactRow(store.exactRows(number, head), row.value),
                     k.mul(channel, abi::bytesOf(elem)));
    // Pages end with slack, so a whole vector may be read at the end of a row.
    return !vectorChannel ? store.loadScalar(at, elem)
           : type.isF32() ? store.loadF32(at, elem)
                          : store.loadI32(at, elem);
  }
  if (row.kind == AxisIndex::Kind::Contiguous && row.aligned && described.layout.width == 1 &&
      !described.layout.coded) {
    SegmentAccess segment = store.segment(number, abi::SegmentKind::Exact, head);
    return store.loadRows16(segment, row.value, store.page(segment, row.value));
  }
  return lanewise(op->getResult(0), point);
}
