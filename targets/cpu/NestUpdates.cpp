// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Nest ops that update memory in place or call out: scatter and the eigensolver.

#include "targets/cpu/NestBody.h"

#include "runtime/abi/KernelAbi.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace mlir::kvcache;
using namespace mlir::kvcache::cpu;

/// Loops over `axes` from `point` on, the last one with lanes; `inside` stores at the point it is
/// given.
static void forDense(NestBody &body, Value shape, ArrayRef<AxisAttr> axes, const Point &point,
                     llvm::function_ref<void(const Point &)> inside) {
  KernelBuilder &k = body.k;
  if (axes.empty()) {
    inside(point);
    return;
  }
  std::string axis = axes.front().getName();
  Value count = body.bound(shape, axis, point);
  if (axes.size() > 1) {
    body.loop(k.index(0), count, k.index(1), [&](Value iv) {
      forDense(body, shape, axes.drop_front(),
               point.with(axis, {AxisIndex::Kind::Scalar, iv, false}), inside);
    });
    return;
  }
  body.vectors(k.index(0), count, ValueRange{}, [&](Value start, Value mask, ValueRange) {
    Point at = point.with(axis, {AxisIndex::Kind::Contiguous, start, true});
    at.mask = mask;
    inside(at);
    return SmallVector<Value>{};
  });
}

/// Axes of `axes` that `point` has no index for.
static SmallVector<AxisAttr> openAxes(ArrayRef<AxisAttr> axes, const Point &point) {
  SmallVector<AxisAttr> open;
  for (AxisAttr axis : axes) {
    if (!point.find(axis.getName())) {
      open.push_back(axis);
    }
  }
  return open;
}

/// One source row (all indices of the index set known): into[.., at, ..] (+)= x over the remaining
/// axes.
static void scatterRow(NestBody &body, ScatterOp op, const Point &source) {
  KernelBuilder &k = body.k;
  auto index = cast<IndexSetType>(op.getAt().getType());
  const NestOperand &output = *body.outputFor(op.getOutput());
  Value at = body.evaluate(op.getAt(), source);
  body.when(k.ge(at, k.i32(0)), [&] {
    AxisIndex row{AxisIndex::Kind::Scalar, k.toIndex(at), false};
    forDense(body, op.getInput(), openAxes(axesOf(op.getInput()), source), source,
             [&](const Point &element) {
               Value value = body.evaluate(op.getInput(), element);
               Point target =
                   element.with(index.getDomain(), row).restrictedTo(axesOf(op.getOutput()));
               if (op.getFn() == "add") {
                 Value before = body.loadOutput(output, target);
                 value =
                     k.add(before, isa<VectorType>(before.getType()) ? body.lift(value) : value);
               }
               body.storeAt(output, target, value);
             });
  });
}

void mlir::kvcache::cpu::emitScatter(NestBody &body, ScatterOp op, const Point &lead) {
  KernelBuilder &k = body.k;
  const NestOperand &output = *body.outputFor(op.getOutput());
  const NestOperand *into = body.held(op.getInto());
  if (!into || into->arg != output.arg) { // else in place
    forDense(body, op.getInto(), openAxes(axesOf(op.getInto()), lead), lead,
             [&](const Point &point) {
               body.storeAt(output, point, body.evaluate(op.getInto(), point));
             });
  }
  // The index set's own axes, in order; sources meet a destination in ascending order.
  std::function<void(ArrayRef<AxisAttr>, const Point &)> rows = [&](ArrayRef<AxisAttr> axes,
                                                                    const Point &point) {
    if (axes.empty()) {
      scatterRow(body, op, point);
      return;
    }
    std::string axis = axes.front().getName();
    body.loop(k.index(0), body.bound(op.getAt(), axis, point), k.index(1), [&](Value iv) {
      rows(axes.drop_front(), point.with(axis, {AxisIndex::Kind::Scalar, iv, false}));
    });
  };
  rows(openAxes(axesOf(op.getAt()), lead), lead);
}

void mlir::kvcache::cpu::emitEigh(NestBody &body, EighOp op, const Point &lead) {
  KernelBuilder &k = body.k;
  OpBuilder &b = k.builder();
  const NestOperand *matrix = body.held(op.getMatrix());
  if (!matrix || matrix->elem != ::kvcache::abi::ElementType::F32 || !matrix->order.empty()) {
    body.fail(op, "expected the matrix of eigh row-major in an f32 buffer", k.f32Type(), false);
    return;
  }
  auto pointer = LLVM::LLVMPointerType::get(b.getContext());
  auto module = b.getBlock()->getParentOp()->getParentOfType<ModuleOp>();
  module = module ? module : cast<ModuleOp>(b.getBlock()->getParentOp());
  const char *name = "kvcache_symmetric_eigen";
  if (!module.lookupSymbol(name)) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module.getBody());
    auto type = b.getFunctionType({b.getI64Type(), pointer, pointer, pointer}, b.getI32Type());
    func::FuncOp::create(b, k.loc(), name, type).setPrivate();
  }
  auto pointerAt = [&](const NestOperand &operand) {
    Point origin = lead.restrictedTo(axesOf(operand.value));
    for (AxisAttr axis : openAxes(axesOf(operand.value), origin)) {
      origin = origin.with(axis.getName(), {AxisIndex::Kind::Scalar, k.index(0), false});
    }
    Value offset = k.toI64(body.address(operand, origin).base);
    return LLVM::GEPOp::create(b, k.loc(), pointer, b.getF32Type(), k.pointerTo(k.arg(operand.arg)),
                               ArrayRef<LLVM::GEPArg>{offset})
        .getResult();
  };
  Value n = k.toI64(body.bound(op.getMatrix(), axesOf(op.getMatrix()).back().getName(), lead));
  SmallVector<Value> operands{n, pointerAt(*matrix),
                              pointerAt(*body.outputFor(op.getEigenvalues())),
                              pointerAt(*body.outputFor(op.getEigenvectors()))};
  Value status =
      func::CallOp::create(b, k.loc(), name, TypeRange{k.i32Type()}, operands).getResult(0);
  body.when(k.ne(status, k.i32(0)), [&] { body.raise(KVCACHE_KERNEL_EIGEN_FAILED); });
}
