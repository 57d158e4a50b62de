// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Axes that an op makes: how long the blocks of an axis, or two tensors behind one another, are.

#include "targets/cpu/Scheduler.h"

#include "dialect/Axes.h"
#include "dialect/KernelOps.h"
#include "dialect/PrimitiveOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ElementType;

Extent Scheduler::compute(ArrayRef<Extent> inputs, Formula formula) {
  // Written as IR, like every other number a method needs, and compiled with the rest.
  Location loc = context_.method.getLoc();
  OpBuilder b(context_.method.getContext());
  Block block;
  for (Extent input : inputs) {
    scalars_[block.addArgument(b.getIndexType(), loc)] = input;
  }
  b.setInsertionPointToStart(&block);
  Value result = formula(b, loc, block.getArguments());
  for (Operation &op : block) {
    if (!op.hasTrait<OpTrait::ConstantLike>()) {
      pendingScalars_.push_back(&op);
    }
  }
  (void)flushScalars();
  Extent extent = scalars_[result];
  for (Value input : block.getArguments()) {
    scalars_.erase(input);
  }
  for (Operation &op : block) {
    scalars_.erase(op.getResult(0));
  }
  return extent;
}

Extent Scheduler::lastRows(Extent rows, int64_t n) {
  return compute({rows}, [&](OpBuilder &b, Location loc, ValueRange in) -> Value {
    Value some = arith::ConstantOp::create(b, loc, b.getIndexAttr(n));
    Value most = arith::MinSIOp::create(b, loc, in[0], some);
    return arith::SubIOp::create(b, loc, in[0], most);
  });
}

Extent Scheduler::blocksOf(Extent rows, Extent size) {
  if (rows.isConstant() && size.isConstant()) {
    int64_t n = std::max<int64_t>(size.constant, 1);
    return Extent::of((rows.constant + n - 1) / n);
  }
  return compute({rows, size}, [&](OpBuilder &b, Location loc, ValueRange in) -> Value {
    Value one = arith::ConstantOp::create(b, loc, b.getIndexAttr(1));
    Value n = arith::MaxSIOp::create(b, loc, in[1], one);
    return arith::CeilDivSIOp::create(b, loc, in[0], n);
  });
}

Extent Scheduler::sumOf(Extent a, Extent b) {
  if (a.isConstant() && b.isConstant()) {
    return Extent::of(a.constant + b.constant);
  }
  return compute({a, b}, [&](OpBuilder &builder, Location loc, ValueRange in) -> Value {
    return arith::AddIOp::create(builder, loc, in[0], in[1]);
  });
}

void Scheduler::placeLengths(AxisPlace &place, const TensorPlace &output,
                             ArrayRef<std::string> axes) {
  SmallVector<Extent> dims;
  place.lengthAxes.clear();
  for (const std::string &name : axes) {
    if (AxisAttr axis = findAxis(output.axes, name)) {
      dims.push_back(Extent::of(axis.getInteger().value_or(1)));
      place.lengthAxes.push_back(name);
    }
  }
  if (dims.empty()) {
    dims.push_back(Extent::of(1));
  }
  place.store = -1;
  place.lengths = builder_.newBuffer("lengths", ElementType::I32, dims);
}

std::optional<AxisPlace> Scheduler::placeMadeAxis(KernelOp kernel, Operation *source, AxisAttr axis,
                                                  const TensorPlace &output) {
  auto outer = [&](Value inner) -> Value {
    auto argument = dyn_cast<BlockArgument>(inner);
    return argument ? kernel.getInputs()[argument.getArgNumber()] : inner;
  };
  auto isRagged = [](const AxisPlace &place) { return place.lengths >= 0 || place.store >= 0; };
  if (auto blocks = dyn_cast_or_null<BlocksOp>(source)) {
    ArrayRef<AxisAttr> from = axesOf(blocks.getInput());
    unsigned place = *findAxisIndex(from, blocks.getAxis());
    if (axesOf(blocks.getOutput())[place] != axis) {
      return std::nullopt;
    }
    AxisPlace whole = placeAxis(kernel, from[place], blocks.getInput());
    AxisPlace made{blocksOf(whole.capacity, scalar(outer(blocks.getSize()))), -1, -1, {}};
    if (isRagged(whole)) {
      placeLengths(made, output, whole.lengthAxes);
    }
    return made;
  }
  auto concat = dyn_cast_or_null<ConcatOp>(source);
  if (!concat || concat.getAxis() != axis.getName()) {
    return std::nullopt;
  }
  StringRef kind = StringRef(concat.getAxis()).split('.').first;
  AxisPlace first =
                placeAxis(kernel, findAxisOfKind(axesOf(concat.getLhs()), kind), concat.getLhs()),
            second =
                placeAxis(kernel, findAxisOfKind(axesOf(concat.getRhs()), kind), concat.getRhs());
  AxisPlace made{sumOf(first.capacity, second.capacity), -1, -1, {}};
  if (isRagged(first) || isRagged(second)) {
    placeLengths(made, output, isRagged(first) ? first.lengthAxes : second.lengthAxes);
  }
  return made;
}

} // namespace mlir::kvcache::cpu
