// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Statistics of attention become reductions of its probabilities, each of which names the
// log-sum-exp of the rows it is made of; attend keeps no other statistic.

#include "passes/decompose/Statistics.h"

#include "dialect/AttentionTypes.h"
#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/MethodOps.h"
#include "dialect/PrimitiveOps.h"
#include "dialect/ScoreOps.h"

#include "mlir/IR/Builders.h"

namespace mlir::kvcache {

namespace {

StatAttr lseStat(MLIRContext *context) {
  return StatAttr::get(context, "lse", ArrayAttr(), Attribute());
}

AxisTensorType f32Over(MLIRContext *context, ArrayRef<AxisAttr> axes) {
  return AxisTensorType::get(context, axes, Float32Type::get(context));
}

/// The log-sum-exp of the rows of an attention: a statistic of one that is there (before `user`),
/// or of a new one without output.
Value lseFor(Operation *user, Value query, Value cache, bool causal) {
  OpBuilder b(user);
  auto type = cast<AxisTensorType>(query.getType());
  auto table = cast<CacheType>(cache.getType());
  Type lse = f32Over(b.getContext(), rowAxesOfQuery(type, table));
  StatAttr stat = lseStat(b.getContext());
  for (Operation *other : cache.getUsers()) {
    auto attend = dyn_cast<AttendOp>(other);
    if (!attend || attend->getBlock() != user->getBlock() || attend.getQuery() != query ||
        attend.getCausal() != causal || attend.getAt() || attend.getLogitBody()) {
      continue;
    }
    if (!attend.getStats() || attend.getStats()->empty()) {
      b.setInsertionPoint(attend);
      auto wider =
          AttendOp::create(b, attend.getLoc(), attend.getOutput().getType(), TypeRange(lse), query,
                           cache, Value(), ValueRange(), causal, b.getArrayAttr({stat}));
      attend.getOutput().replaceAllUsesWith(wider.getOutput());
      attend->erase();
      attend = wider;
    }
    if (cast<StatAttr>((*attend.getStats())[0]).getKind() == "lse") {
      if (!attend->isBeforeInBlock(user)) {
        attend->moveBefore(user);
      }
      return attend.getStatistics()[0];
    }
  }
  // The output has the query's axes with the channel in the basis of the values; nobody reads it.
  auto attend = AttendOp::create(b, user->getLoc(), type.withAxes(attentionOutputAxes(type, table)),
                                 TypeRange(lse), query, cache, Value(), ValueRange(), causal,
                                 b.getArrayAttr({stat}));
  return attend.getStatistics()[0];
}

/// The statistics of an attention as reductions of its probabilities.
void replaceStatistics(Operation *op, Value query, Value cache, bool causal, ArrayAttr stats,
                       ResultRange results, Value lse) {
  OpBuilder b(op);
  b.setInsertionPointAfter(lse.getDefiningOp());
  for (auto [stat, result] : llvm::zip(stats.getAsRange<StatAttr>(), results)) {
    if (stat.getKind() == "lse") {
      result.replaceAllUsesWith(lse);
      continue;
    }
    auto sum = ScoreReduceOp::create(b, op->getLoc(), result.getType(), b.getStringAttr("sum"),
                                     query, cache, lse, ValueRange(), causal, StringAttr(),
                                     stat.getOver(), stat.getLast());
    Block &body = sum.getBody().empty() ? sum.getBody().emplaceBlock() : sum.getBody().front();
    body.addArgument(b.getF32Type(), op->getLoc());
    body.addArgument(b.getI32Type(), op->getLoc());
    body.addArgument(b.getI32Type(), op->getLoc());
    OpBuilder inside = OpBuilder::atBlockEnd(&body);
    YieldOp::create(inside, op->getLoc(), body.getArgument(0));
    result.replaceAllUsesWith(sum.getOutput());
  }
}

/// Of the statistics of attend only lse stays.
void decompose(AttendOp op) {
  ArrayAttr stats = op.getStatsAttr();
  if (!stats || (stats.size() == 1 && cast<StatAttr>(stats[0]).getKind() == "lse")) {
    return;
  }
  OpBuilder b(op);
  StatAttr lse = lseStat(b.getContext());
  Type rows = f32Over(b.getContext(), rowAxesOfQuery(cast<AxisTensorType>(op.getQuery().getType()),
                                                     cast<CacheType>(op.getCache().getType())));
  auto attend = AttendOp::create(b, op.getLoc(), op.getOutput().getType(), TypeRange(rows),
                                 op.getQuery(), op.getCache(), op.getAt(), op.getInputs(),
                                 op.getCausal(), b.getArrayAttr({lse}));
  attend.getLogit().takeBody(op.getLogit());
  replaceStatistics(op, op.getQuery(), op.getCache(), op.getCausal(), stats, op.getStatistics(),
                    attend.getStatistics()[0]);
  op.getOutput().replaceAllUsesWith(attend.getOutput());
  op->erase();
}

/// Targets compute the heads of a cache apart: what runs along them is reduced afterwards.
void reduceHeadsAfterwards(ScoreReduceOp op) {
  SmallVector<Attribute> along;
  llvm::copy_if(op.getAxes(), std::back_inserter(along),
                [](Attribute axis) { return cast<StringAttr>(axis).getValue() != "head"; });
  if (along.size() == op.getAxes().size()) {
    return;
  }
  auto reduced = cast<AxisTensorType>(op.getType());
  SmallVector<AxisAttr> axes;
  for (AxisAttr axis : axesOf(op.getQuery())) {
    if (axis.getName() == "head" || findAxis(reduced.getAxes(), axis.getName())) {
      axes.push_back(axis);
    }
  }
  axes.push_back(reduced.getAxes().back());
  OpBuilder b(op.getContext());
  b.setInsertionPointAfter(op);
  op.setAxesAttr(b.getArrayAttr(along));
  op.getOutput().setType(reduced.withAxes(axes));
  auto heads = ReduceOp::create(b, op.getLoc(), reduced, op.getFnAttr(), op.getOutput(),
                                b.getStrArrayAttr({"head"}), Value());
  op.getOutput().replaceAllUsesExcept(heads.getOutput(), heads);
}

void decompose(ScoreReduceOp op) {
  reduceHeadsAfterwards(op);
  if (!op.getLse()) {
    op.getLseMutable().assign(lseFor(op, op.getQuery(), op.getCache(), op.getCausal()));
  }
}

void decompose(ScoreAttentionOp op) {
  Value lse = lseFor(op, op.getQuery(), op.getCache(), op.getCausal());
  replaceStatistics(op, op.getQuery(), op.getCache(), op.getCausal(), op.getStats(),
                    op->getResults(), lse);
  op->erase();
}

} // namespace

void decomposeStatistics(Operation *root) {
  // Sums of attend first: what they leave has the log-sum-exp that the others look for.
  root->walk([](AttendOp op) { decompose(op); });
  root->walk([](ScoreAttentionOp op) { decompose(op); });
  root->walk([](ScoreReduceOp op) { decompose(op); });
}

bool isDecomposedStatistic(Operation *op) { return isa<ScoreAttentionOp>(op); }

} // namespace mlir::kvcache
