// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// append, column, set_column, rope.

#include "targets/reference/Interpreter.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"

namespace mlir::kvcache::reference {

static Status evaluateAppend(AppendOp op, Interpreter &in) {
  CacheTable table = in.cache(op.getCache());
  std::vector<std::pair<std::string, const Tensor *>> values;
  for (auto [name, value] : llvm::zip_equal(strings(op.getColumns()), op.getValues())) {
    values.emplace_back(name, &in.tensor(value));
  }
  KVCACHE_RETURN_IF_ERROR(table.append(values));
  in.set(op.getOutput(), std::move(table));
  return Status::ok();
}

static Status evaluateColumn(ColumnOp op, Interpreter &in) {
  StatusOr<Tensor> column = in.cache(op.getCache()).column(op.getName());
  KVCACHE_RETURN_IF_ERROR(column.status());
  return in.set(op.getOutput(), *column);
}

static Status evaluateSetColumn(SetColumnOp op, Interpreter &in) {
  CacheTable table = in.cache(op.getCache());
  for (auto [name, value] : llvm::zip_equal(strings(op.getColumns()), op.getValues())) {
    KVCACHE_RETURN_IF_ERROR(table.setColumn(name, in.tensorValue(value)));
  }
  in.set(op.getOutput(), std::move(table));
  return Status::ok();
}

/// Rotates the rows of the last axis of `x` in place, each by its entry of `positions` (broadcast).
static Status rotateRows(Tensor &x, const Tensor &positions, const rt::Geometry &geometry) {
  int64_t width = x.axes.empty() ? 0 : x.axes.back().extent;
  if (static_cast<int64_t>(geometry.ropeInvFreq.size()) * 2 != width) {
    return Status::badInput("expected " + std::to_string(width / 2) +
                            " inverse frequencies of the model for rope, got " +
                            std::to_string(geometry.ropeInvFreq.size()));
  }
  Tensor rows = x;
  rows.axes.back().extent = std::min<int64_t>(width, 1);
  forEachPoint(rows, [&](const std::vector<int64_t> &point) {
    rt::reference::ropeRow(&x.at(point), width, geometry.ropeInvFreq,
                           broadcastAt(positions, x.axes, point));
  });
  return Status::ok();
}

static Status ropeTensor(RopeOp op, Interpreter &in) {
  Tensor x = in.tensor(op.getInput());
  KVCACHE_RETURN_IF_ERROR(rotateRows(x, in.tensor(op.getPositions()), in.geometry()));
  x.axes.back().name = axisNames(op.getOutput().getType()).back();
  return in.set(op.getOutput(), std::move(x));
}

/// The view of a cache whose column in another basis is rotated row by row.
static Status ropeCache(RopeOp op, Interpreter &in) {
  auto from = cast<CacheType>(op.getInput().getType()),
       to = cast<CacheType>(op.getOutput().getType());
  const Tensor &positions = in.tensor(op.getPositions());
  CacheTable table = in.cache(op.getInput());
  auto schema = std::make_shared<CacheSchema>(*table.schema);
  for (auto [c, column] : llvm::enumerate(from.getColumns())) {
    ColumnAttr other = to.getColumn(column.getName());
    if (!other || other.getAxes() == column.getAxes()) {
      continue;
    }
    StatusOr<Tensor> rows = table.column(column.getName());
    KVCACHE_RETURN_IF_ERROR(rows.status());
    KVCACHE_RETURN_IF_ERROR(rotateRows(*rows, positions, in.geometry()));
    int64_t stride = table.maxRows() * schema->columns[c].layout.width;
    for (auto [l, list] : llvm::enumerate(table.lists)) {
      auto begin = rows->values.begin() + static_cast<int64_t>(l) * stride;
      list.columns[c].assign(begin, begin + list.rows() * schema->columns[c].layout.width);
    }
    for (auto [axis, named] : llvm::zip_equal(schema->columns[c].features, other.getAxes())) {
      axis.name = named.getName();
    }
  }
  table.keyPositions.assign(table.lists.size(), {});
  for (auto [l, list] : llvm::enumerate(table.lists)) {
    std::vector<Axis> axes = schema->lead;
    axes.push_back({schema->rowAxis, list.rows()});
    for (int64_t r = 0; r < list.rows(); ++r) {
      std::vector<int64_t> point = schema->leadPoint(static_cast<int64_t>(l));
      point.push_back(r);
      table.keyPositions[l].push_back(static_cast<int32_t>(broadcastAt(positions, axes, point)));
    }
  }
  table.schema = std::move(schema);
  in.set(op.getOutput(), std::move(table));
  return Status::ok();
}

void addCacheFunctions(OpTable &table) {
  table[AppendOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateAppend(cast<AppendOp>(op), in);
  };
  table[ColumnOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateColumn(cast<ColumnOp>(op), in);
  };
  table[SetColumnOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    return evaluateSetColumn(cast<SetColumnOp>(op), in);
  };
  table[RopeOp::getOperationName()] = [](Operation *op, Interpreter &in) {
    auto rope = cast<RopeOp>(op);
    return isa<CacheType>(rope.getInput().getType()) ? ropeCache(rope, in) : ropeTensor(rope, in);
  };
}

} // namespace mlir::kvcache::reference
