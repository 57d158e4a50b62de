// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The function of a kernel, its arguments, integer and float arithmetic and control. Memory and
// vector idioms are in KernelIdioms.cpp.

#include "targets/cpu/KernelBuilder.h"

#include "runtime/abi/KernelAbi.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

static bool isFloat(Value value) { return isa<FloatType>(getElementTypeOrSelf(value.getType())); }

/// `elem`, or a vector of it as long as `shape`'s type.
static Type withElement(Type shape, Type elem) {
  if (auto vector = dyn_cast<VectorType>(shape)) {
    return VectorType::get(vector.getShape(), elem);
  }
  return elem;
}

KernelBuilder::KernelBuilder(ModuleOp module, StringRef name, ArrayRef<KernelArg> args)
    : b_(module.getContext()), loc_(UnknownLoc::get(module.getContext())), module_(module) {
  b_.setInsertionPointToEnd(module.getBody());
  auto memrefOf = [](Type elem) { return MemRefType::get({ShapedType::kDynamic}, elem); };
  SmallVector<Type> types{b_.getIndexType()};
  std::vector<std::string> names;
  for (const KernelArg &arg : args) {
    switch (arg.kind) {
    case KernelArg::Kind::Buffer:
      types.push_back(memrefOf(elemType(arg.elem)));
      names.push_back(arg.name);
      break;
    case KernelArg::Kind::Scalars:
      types.push_back(memrefOf(b_.getI64Type()));
      names.push_back(arg.name);
      break;
    case KernelArg::Kind::Store:
      types.push_back(memrefOf(b_.getI8Type()));
      names.push_back(arg.name + ".arena");
      types.push_back(memrefOf(b_.getI64Type()));
      names.push_back(arg.name + ".view");
      break;
    }
  }
  auto function = func::FuncOp::create(b_, loc_, name, b_.getFunctionType(types, b_.getI32Type()));
  Block *entry = function.addEntryBlock();
  b_.setInsertionPointToEnd(entry);
  task_ = entry->getArgument(0);
  for (size_t i = 0; i < names.size(); ++i) {
    args_.emplace_back(names[i], entry->getArgument(i + 1));
  }
}

void KernelBuilder::finish(Value status) {
  func::ReturnOp::create(b_, loc_, status ? status : i32(KVCACHE_KERNEL_OK));
}

Value KernelBuilder::arg(StringRef name) const {
  for (const auto &[known, value] : args_) {
    if (name == known) {
      return value;
    }
  }
  llvm::report_fatal_error("kernel has no argument '" + name + "'");
}

// ---- constants and types
// --------------------------------------------------------------------------------------------

Value KernelBuilder::index(int64_t value) {
  return arith::ConstantIndexOp::create(b_, loc_, value);
}
Value KernelBuilder::i1(bool value) {
  return arith::ConstantOp::create(b_, loc_, b_.getBoolAttr(value));
}
Value KernelBuilder::i32(int64_t value) {
  return arith::ConstantOp::create(b_, loc_, b_.getI32IntegerAttr(static_cast<int32_t>(value)));
}
Value KernelBuilder::i64(int64_t value) {
  return arith::ConstantOp::create(b_, loc_, b_.getI64IntegerAttr(value));
}
Value KernelBuilder::f32(double value) {
  return arith::ConstantOp::create(b_, loc_, b_.getF32FloatAttr(static_cast<float>(value)));
}
Value KernelBuilder::splatF32(double value, int64_t n) {
  return arith::ConstantOp::create(
      b_, loc_, DenseElementsAttr::get(vec(f32Type(), n), static_cast<float>(value)));
}
Value KernelBuilder::splatI32(int64_t value, int64_t n) {
  return arith::ConstantOp::create(
      b_, loc_, DenseElementsAttr::get(vec(i32Type(), n), static_cast<int32_t>(value)));
}
Value KernelBuilder::broadcast(Value scalar, int64_t n) {
  return vector::BroadcastOp::create(b_, loc_, vec(scalar.getType(), n), scalar);
}

Type KernelBuilder::elemType(abi::ElementType elem) {
  switch (elem) {
  case abi::ElementType::F32:
    return b_.getF32Type();
  case abi::ElementType::F16:
    return b_.getF16Type();
  case abi::ElementType::BF16:
    return b_.getBF16Type();
  case abi::ElementType::I8:
  case abi::ElementType::U8:
    return b_.getI8Type();
  case abi::ElementType::I16:
    return b_.getI16Type();
  case abi::ElementType::I32:
    return b_.getI32Type();
  case abi::ElementType::I64:
    return b_.getI64Type();
  }
  llvm_unreachable("unknown element type");
}

// ---- arithmetic
// -----------------------------------------------------------------------------------------------------

/// Creates the float or the integer op, whichever fits the operands, folded when constant.
template <typename FloatOp, typename IntegerOp>
static Value arithmetic(OpBuilder &b, Location loc, Value x, Value y) {
  return isFloat(x) ? b.createOrFold<FloatOp>(loc, x, y) : b.createOrFold<IntegerOp>(loc, x, y);
}

Value KernelBuilder::add(Value x, Value y) {
  return arithmetic<arith::AddFOp, arith::AddIOp>(b_, loc_, x, y);
}
Value KernelBuilder::sub(Value x, Value y) {
  return arithmetic<arith::SubFOp, arith::SubIOp>(b_, loc_, x, y);
}
Value KernelBuilder::mul(Value x, Value y) {
  return arithmetic<arith::MulFOp, arith::MulIOp>(b_, loc_, x, y);
}
Value KernelBuilder::floorDiv(Value x, Value y) {
  return b_.createOrFold<arith::DivUIOp>(loc_, x, y);
}
Value KernelBuilder::rem(Value x, Value y) { return b_.createOrFold<arith::RemUIOp>(loc_, x, y); }
Value KernelBuilder::div(Value x, Value y) { return b_.createOrFold<arith::DivFOp>(loc_, x, y); }
Value KernelBuilder::neg(Value x) { return b_.createOrFold<arith::NegFOp>(loc_, x); }
Value KernelBuilder::fma(Value x, Value y, Value z) {
  return b_.createOrFold<math::FmaOp>(loc_, x, y, z);
}
Value KernelBuilder::andi(Value x, Value y) { return b_.createOrFold<arith::AndIOp>(loc_, x, y); }
Value KernelBuilder::ori(Value x, Value y) { return b_.createOrFold<arith::OrIOp>(loc_, x, y); }
Value KernelBuilder::xori(Value x, Value y) { return b_.createOrFold<arith::XOrIOp>(loc_, x, y); }
Value KernelBuilder::shl(Value x, Value y) { return b_.createOrFold<arith::ShLIOp>(loc_, x, y); }
Value KernelBuilder::shru(Value x, Value y) { return b_.createOrFold<arith::ShRUIOp>(loc_, x, y); }

Value KernelBuilder::min(Value x, Value y) {
  return isFloat(x) ? select(lt(x, y), x, y) : b_.createOrFold<arith::MinSIOp>(loc_, x, y);
}
Value KernelBuilder::max(Value x, Value y) {
  return isFloat(x) ? select(gt(x, y), x, y) : b_.createOrFold<arith::MaxSIOp>(loc_, x, y);
}
static Value compare(OpBuilder &b, Location loc, arith::CmpFPredicate onFloats,
                     arith::CmpIPredicate onIntegers, Value x, Value y) {
  return isFloat(x) ? b.createOrFold<arith::CmpFOp>(loc, onFloats, x, y)
                    : b.createOrFold<arith::CmpIOp>(loc, onIntegers, x, y);
}
Value KernelBuilder::lt(Value x, Value y) {
  return compare(b_, loc_, arith::CmpFPredicate::OLT, arith::CmpIPredicate::slt, x, y);
}
Value KernelBuilder::le(Value x, Value y) {
  return compare(b_, loc_, arith::CmpFPredicate::OLE, arith::CmpIPredicate::sle, x, y);
}
Value KernelBuilder::eq(Value x, Value y) {
  return compare(b_, loc_, arith::CmpFPredicate::OEQ, arith::CmpIPredicate::eq, x, y);
}
Value KernelBuilder::ne(Value x, Value y) {
  return compare(b_, loc_, arith::CmpFPredicate::UNE, arith::CmpIPredicate::ne, x, y);
}
Value KernelBuilder::select(Value condition, Value x, Value y) {
  return b_.createOrFold<arith::SelectOp>(loc_, condition, x, y);
}

/// Converts an integer scalar or vector, signed, to `elem`.
static Value convertInteger(OpBuilder &b, Location loc, Value value, Type elem) {
  Type from = getElementTypeOrSelf(value.getType());
  Type to = withElement(value.getType(), elem);
  if (from == elem) {
    return value;
  }
  if (from.isIndex() || elem.isIndex()) {
    return b.createOrFold<arith::IndexCastOp>(loc, to, value);
  }
  if (from.getIntOrFloatBitWidth() < elem.getIntOrFloatBitWidth()) {
    return b.createOrFold<arith::ExtSIOp>(loc, to, value);
  }
  return b.createOrFold<arith::TruncIOp>(loc, to, value);
}
Value KernelBuilder::toIndex(Value integer) {
  return convertInteger(b_, loc_, integer, b_.getIndexType());
}
Value KernelBuilder::toI32(Value integer) {
  return convertInteger(b_, loc_, integer, b_.getI32Type());
}
Value KernelBuilder::toI64(Value integer) {
  return convertInteger(b_, loc_, integer, b_.getI64Type());
}
Value KernelBuilder::intToF32(Value integer) {
  if (getElementTypeOrSelf(integer.getType()).isIndex()) {
    integer = toI64(integer);
  }
  return b_.createOrFold<arith::SIToFPOp>(loc_, withElement(integer.getType(), f32Type()), integer);
}
Value KernelBuilder::f32ToInt(Value number) {
  return b_.createOrFold<arith::FPToSIOp>(loc_, withElement(number.getType(), i32Type()),
                                          roundEven(number));
}
Value KernelBuilder::bitcast(Value value, Type type) {
  if (value.getType() == type) {
    return value;
  }
  if (isa<VectorType>(type)) {
    return b_.createOrFold<vector::BitCastOp>(loc_, cast<VectorType>(type), value);
  }
  return b_.createOrFold<arith::BitcastOp>(loc_, type, value);
}
Value KernelBuilder::extendU8(Value value) {
  return b_.createOrFold<arith::ExtUIOp>(loc_, withElement(value.getType(), i32Type()), value);
}

// ---- control
// --------------------------------------------------------------------------------------------------------

void KernelBuilder::forLoop(Value lo, Value hi, Value step, LoopBody body) {
  forLoop(lo, hi, step, ValueRange{}, [&](Value iv, ValueRange) {
    body(iv);
    return SmallVector<Value>{};
  });
}

SmallVector<Value> KernelBuilder::forLoop(Value lo, Value hi, Value step, ValueRange init,
                                          CarryBody body) {
  auto loop = scf::ForOp::create(b_, loc_, lo, hi, step, init,
                                 [&](OpBuilder &, Location, Value iv, ValueRange carried) {
                                   OpBuilder::InsertionGuard guard(b_);
                                   b_.setInsertionPointToEnd(iv.getParentBlock());
                                   SmallVector<Value> results = body(iv, carried);
                                   scf::YieldOp::create(b_, loc_, results);
                                 });
  return SmallVector<Value>(loop.getResults());
}

void KernelBuilder::forVectors(Value count, VectorBody body) {
  forVectors(count, ValueRange{}, [&](Value start, Value mask, ValueRange) {
    body(start, mask);
    return SmallVector<Value>{};
  });
}

SmallVector<Value> KernelBuilder::forVectors(Value count, ValueRange init, VectorCarryBody body) {
  return forVectors(index(0), count, init, body);
}

SmallVector<Value> KernelBuilder::forVectors(Value lo, Value hi, ValueRange init,
                                             VectorCarryBody body) {
  Value count = max(sub(hi, lo), index(0));
  Value left = rem(count, lanes);
  Value fullEnd = add(lo, sub(count, left));
  SmallVector<Value> carried =
      forLoop(lo, fullEnd, index(lanes), init,
              [&](Value start, ValueRange values) { return body(start, Value(), values); });
  if (std::optional<int64_t> constant = getConstantIntValue(left); constant && *constant == 0) {
    return carried;
  }
  return ifElse(
      gt(left, index(0)), TypeRange(ValueRange(carried)),
      [&] { return body(fullEnd, tailMask(fullEnd, hi), carried); }, [&] { return carried; });
}

void KernelBuilder::ifThen(Value condition, llvm::function_ref<void()> then) {
  auto branch = scf::IfOp::create(b_, loc_, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b_);
  b_.setInsertionPointToStart(branch.thenBlock());
  then();
}

SmallVector<Value> KernelBuilder::ifElse(Value condition, TypeRange types,
                                         llvm::function_ref<SmallVector<Value>()> then,
                                         llvm::function_ref<SmallVector<Value>()> otherwise) {
  if (types.empty()) {
    ifThen(condition, [&] { then(); });
    return {};
  }
  auto branch = scf::IfOp::create(b_, loc_, types, condition, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b_);
  b_.setInsertionPointToEnd(branch.thenBlock());
  SmallVector<Value> results = then();
  scf::YieldOp::create(b_, loc_, results);
  b_.setInsertionPointToEnd(branch.elseBlock());
  results = otherwise();
  scf::YieldOp::create(b_, loc_, results);
  return SmallVector<Value>(branch.getResults());
}

SmallVector<Value>
KernelBuilder::whileLoop(ValueRange init, llvm::function_ref<Value(ValueRange)> condition,
                         llvm::function_ref<SmallVector<Value>(ValueRange)> body) {
  auto inside = [&](Block *block, llvm::function_ref<void()> emit) {
    OpBuilder::InsertionGuard guard(b_);
    b_.setInsertionPointToEnd(block);
    emit();
  };
  auto loop = scf::WhileOp::create(
      b_, loc_, TypeRange(init), init,
      [&](OpBuilder &nested, Location, ValueRange carried) {
        inside(nested.getInsertionBlock(),
               [&] { scf::ConditionOp::create(b_, loc_, condition(carried), carried); });
      },
      [&](OpBuilder &nested, Location, ValueRange carried) {
        inside(nested.getInsertionBlock(), [&] { scf::YieldOp::create(b_, loc_, body(carried)); });
      });
  return SmallVector<Value>(loop.getResults());
}

SmallVector<Value> KernelBuilder::splitTask(ArrayRef<Value> grid) {
  return delinearize(task_, grid);
}

SmallVector<Value> KernelBuilder::delinearize(Value linear, ArrayRef<Value> dims) {
  SmallVector<Value> indices(dims.size());
  for (size_t i = dims.size(); i-- > 0;) {
    indices[i] = i == 0 ? linear : rem(linear, dims[i]);
    linear = i == 0 ? linear : floorDiv(linear, dims[i]);
  }
  return indices;
}

Value KernelBuilder::laneNumbers(int64_t n) {
  SmallVector<int32_t> numbers;
  for (int64_t lane = 0; lane < n; ++lane) {
    numbers.push_back(static_cast<int32_t>(lane));
  }
  return arith::ConstantOp::create(
      b_, loc_, DenseElementsAttr::get(vec(i32Type(), n), ArrayRef<int32_t>(numbers)));
}

Value KernelBuilder::tailMask(Value start, Value end, int64_t n) {
  return lt(laneNumbers(n), broadcast(toI32(sub(end, start)), n));
}
