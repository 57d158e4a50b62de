// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Walking a region: which ops are needed, dispatch by name, scf.if, and errors that say where.

#include "targets/reference/Interpreter.h"

#include "targets/reference/Scalars.h"

#include "dialect/Axes.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Location.h"

namespace mlir::kvcache::reference {

static const OpTable &opTable() {
  static const OpTable table = [] {
    OpTable all;
    addPrimitiveFunctions(all);
    addRowFunctions(all);
    addCacheFunctions(all);
    addAttentionFunctions(all);
    addSelectFunctions(all);
    addFamilyFunctions(all);
    return all;
  }();
  return table;
}

std::vector<std::string> axisNames(Type type) {
  std::vector<std::string> names;
  for (AxisAttr axis : axesOf(type)) {
    names.push_back(axis.getName());
  }
  return names;
}

std::vector<std::string> strings(ArrayAttr names) {
  std::vector<std::string> result;
  for (StringAttr name : names.getAsRange<StringAttr>()) {
    result.push_back(name.getValue().str());
  }
  return result;
}

static std::string listed(ArrayRef<std::string> names) {
  std::string text = "[";
  for (const std::string &name : names) {
    text += (text.size() > 1 ? ", " : "") + name;
  }
  return text + "]";
}

StatusOr<Tensor> inOrder(const Tensor &tensor, ArrayRef<std::string> names) {
  std::vector<Axis> axes;
  std::vector<std::string> have;
  bool same = tensor.axes.size() == names.size();
  for (const Axis &axis : tensor.axes) {
    same = same && axis.name == names[have.size()];
    have.push_back(axis.name);
  }
  if (same) {
    return tensor;
  }
  for (const std::string &name : names) {
    int i = tensor.find(name);
    if (i < 0 || names.size() != have.size()) {
      return Status::internal("expected axes " + listed(names) + ", got " + listed(have));
    }
    axes.push_back(tensor.axes[static_cast<size_t>(i)]);
  }
  Tensor result(axes);
  result.inheritRagged(tensor);
  forEachPoint(result, [&](const std::vector<int64_t> &point) {
    result.at(point) = broadcastAt(tensor, axes, point);
  });
  return result;
}

const std::vector<int32_t> *Interpreter::positions(const std::string &axis) const {
  auto found = positions_.find(axis);
  return found == positions_.end() ? nullptr : &found->second;
}

Status Interpreter::set(Value value, Tensor tensor, std::shared_ptr<const Tensor> merged) {
  StatusOr<Tensor> ordered = inOrder(tensor, axisNames(value.getType()));
  KVCACHE_RETURN_IF_ERROR(ordered.status());
  values_[value] =
      std::make_shared<const TensorValue>(TensorValue{std::move(*ordered), std::move(merged)});
  return Status::ok();
}

/// `file:line` of an op, or nothing.
static std::string placeOf(Operation *op) {
  std::string place;
  op->getLoc()->walk([&](Location loc) {
    if (auto file = dyn_cast<FileLineColLoc>(loc)) {
      place = file.getFilename().str() + ":" + std::to_string(file.getLine()) + ": ";
      return WalkResult::interrupt();
    }
    return WalkResult::advance();
  });
  return place;
}

llvm::DenseSet<Operation *> neededFor(ArrayRef<Value> wanted) {
  llvm::DenseSet<Operation *> needed;
  SmallVector<Value> pending(wanted);
  while (!pending.empty()) {
    Operation *op = pending.pop_back_val().getDefiningOp();
    if (!op || !needed.insert(op).second) {
      continue;
    }
    // Inside an op with regions everything counts, and so does what the regions use from outside.
    op->walk([&](Operation *inner) {
      needed.insert(inner);
      pending.append(inner->operand_begin(), inner->operand_end());
    });
  }
  return needed;
}

Status Interpreter::evaluate(Block &block, ArrayRef<Value> wanted) {
  return evaluateBlock(block, neededFor(wanted));
}

Status Interpreter::evaluateBlock(Block &block, const llvm::DenseSet<Operation *> &needed) {
  for (Operation &op : block.without_terminator()) {
    if (!needed.contains(&op)) {
      continue;
    }
    Status status = evaluateOp(&op, needed);
    if (!status.isOk()) {
      bool placed = status.message().find("op '") != std::string::npos;
      return placed
                 ? status
                 : Status(status.code(), placeOf(&op) + "op '" + op.getName().getStringRef().str() +
                                             "': " + status.message());
    }
  }
  return Status::ok();
}

Status Interpreter::evaluateScalar(Operation *op, bool &done) {
  ScalarFunction function = findScalarFunction(op);
  done = function != nullptr;
  if (!done) {
    return Status::ok();
  }
  SmallVector<Number, 4> args;
  for (Value operand : op->getOperands()) {
    args.push_back(number(operand));
  }
  const char *error = nullptr;
  Number result = function(op, args, error);
  if (error) {
    return Status::badInput(error);
  }
  set(op->getResult(0), result);
  return Status::ok();
}

Status Interpreter::evaluateOp(Operation *op, const llvm::DenseSet<Operation *> &needed) {
  if (auto choice = dyn_cast<scf::IfOp>(op)) {
    Region &region =
        integer(choice.getCondition()) != 0 ? choice.getThenRegion() : choice.getElseRegion();
    if (region.empty()) {
      return Status::ok();
    }
    KVCACHE_RETURN_IF_ERROR(evaluateBlock(region.front(), needed));
    for (auto [result, yielded] :
         llvm::zip_equal(choice.getResults(), region.front().getTerminator()->getOperands())) {
      values_[result] = values_.lookup(yielded);
    }
    return Status::ok();
  }
  // arith.select may choose between numbers only; tensors go through scf.if or map.
  bool done = false;
  KVCACHE_RETURN_IF_ERROR(evaluateScalar(op, done));
  if (done) {
    return Status::ok();
  }
  OpFunction function = opTable().lookup(op->getName().getStringRef());
  if (!function) {
    return Status::badInput("the reference target does not know this op");
  }
  return function(op, *this);
}

} // namespace mlir::kvcache::reference
