// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// topk, gather, scatter, slice, relabel: primitives that move rows.

#include "targets/reference/Interpreter.h"
#include "targets/reference/Selection.h"

#include "dialect/RowOps.h"
#include "runtime/reference/Primitives.h"

namespace mlir::kvcache::reference {

static Status evaluateTopk(TopkOp op, Interpreter &in) {
  const Tensor &x = in.tensor(op.getInput());
  std::string along = op.getAxis().str();
  StatusOr<Tensor> result = topk(x, along, countsOf(in, op.getCount(), x, along), {},
                                 axisNames(op.getOutput().getType()).back());
  KVCACHE_RETURN_IF_ERROR(result.status());
  // What reports show: one score of each token of a row head.
  if (along == "token" && llvm::all_of(x.axes, [](const Axis &axis) {
        return axis.name == "head" || axis.name == "group" || axis.name == "token";
      })) {
    in.ranked = x;
  }
  return in.set(op.getOutput(), trimmed(*result));
}

static Status evaluateGather(GatherOp op, Interpreter &in) {
  const Tensor &at = in.tensor(op.getAt());
  if (isa<CacheType>(op.getInput().getType())) {
    CacheTable table = in.cache(op.getInput());
    KVCACHE_RETURN_IF_ERROR(table.gather(at));
    in.set(op.getOutput(), std::move(table));
    return Status::ok();
  }
  StringRef domain = cast<IndexSetType>(op.getAt().getType()).getDomain();
  StatusOr<Tensor> result = gather(in.tensor(op.getInput()), at, domain.str());
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

static Status evaluateScatter(ScatterOp op, Interpreter &in) {
  if (op.getFn() != "add" && op.getFn() != "set") {
    return Status::badInput("expected the function add or set, got '" + op.getFn().str() + "'");
  }
  StringRef domain = cast<IndexSetType>(op.getAt().getType()).getDomain();
  StatusOr<Tensor> result = scatter(in.tensor(op.getInput()), in.tensor(op.getInto()),
                                    in.tensor(op.getAt()), domain.str(), op.getFn() == "add");
  KVCACHE_RETURN_IF_ERROR(result.status());
  return in.set(op.getOutput(), *result);
}

static Status evaluateSlice(SliceOp op, Interpreter &in) {
  StatusOr<Tensor> result = slice(in.tensor(op.getInput()), op.getAxis().str(),
                                  in.integer(op.getFrom()), in.integer(op.getSize()));
  KVCACHE_RETURN_IF_ERROR(result.status());
  // The result type may give the cut axis another name.
  std::vector<std::string> names = axisNames(op.getOutput().getType());
  int cut = result->find(op.getAxis().str());
  result->axes[static_cast<size_t>(cut)].name = names.at(static_cast<size_t>(cut));
  return in.set(op.getOutput(), *result);
}

static Status evaluateRelabel(RelabelOp op, Interpreter &in) {
  const TensorValue &value = in.tensorValue(op.getInput());
  std::vector<std::string> names = axisNames(op.getOutput().getType());
  auto renamed = [&](Tensor tensor) {
    std::string ragged = tensor.ragged;
    for (Axis &axis : tensor.axes) {
      std::string from = axis.name;
      axis.name = names.at(static_cast<size_t>(value.tensor.find(from)));
      tensor.ragged = ragged == from ? axis.name : tensor.ragged;
    }
    return tensor;
  };
  std::shared_ptr<const Tensor> merged;
  if (value.merged) {
    merged = std::make_shared<const Tensor>(renamed(*value.merged));
  }
  return in.set(op.getOutput(), renamed(value.tensor), std::move(merged));
}

void addRowFunctions(OpTable &table) {
  table[TopkOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateTopk(cast<TopkOp>(op), in);
  };
  table[GatherOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateGather(cast<GatherOp>(op), in);
  };
  table[ScatterOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateScatter(cast<ScatterOp>(op), in);
  };
  table[SliceOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateSlice(cast<SliceOp>(op), in);
  };
  table[RelabelOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateRelabel(cast<RelabelOp>(op), in);
  };
}

} // namespace mlir::kvcache::reference
