// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One function per family op. Invariant: the result of the replacement has the type of the op
// replaced.

#include "passes/decompose/Families.h"
#include "passes/decompose/Statistics.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/MergeOps.h"
#include "dialect/MethodOps.h"
#include "dialect/PrimitiveOps.h"
#include "dialect/ProjectOps.h"
#include "dialect/RowOps.h"
#include "dialect/ScoreOps.h"
#include "dialect/SelectOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Builders.h"

#include <cmath>
#include <limits>

namespace mlir::kvcache {

namespace {

using ScalarFn = llvm::function_ref<Value(OpBuilder &, Location, ValueRange)>;

AxisTensorType f32Over(MLIRContext *context, ArrayRef<AxisAttr> axes) {
  return AxisTensorType::get(context, axes, Float32Type::get(context));
}

/// map over the union of the inputs' axes, of one f32 result.
Value map(OpBuilder &b, Location loc, Type type, ValueRange inputs, ScalarFn fn) {
  auto op = MapOp::create(b, loc, TypeRange{type}, inputs);
  Block &body = op.getBody().empty() ? op.getBody().emplaceBlock() : op.getBody().front();
  for (Value input : inputs) {
    body.addArgument(scalarTypeOf(input.getType()), loc);
  }
  OpBuilder inside = OpBuilder::atBlockEnd(&body);
  YieldOp::create(inside, loc, fn(inside, loc, body.getArguments()));
  return op.getResult(0);
}

Value constant(OpBuilder &b, Location loc, double value) {
  return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(static_cast<float>(value)));
}

Value reduce(OpBuilder &b, Location loc, StringRef fn, Value x, ArrayRef<StringRef> axes,
             Type type) {
  return ReduceOp::create(b, loc, type, b.getStringAttr(fn), x, b.getStrArrayAttr(axes), Value());
}

SmallVector<StringRef> names(ArrayAttr axes) {
  return llvm::map_to_vector(axes, [](Attribute a) { return cast<StringAttr>(a).getValue(); });
}

Value norm(OpBuilder &b, Location loc, Value x, ArrayRef<StringRef> axes, Type type) {
  auto source = cast<AxisTensorType>(x.getType());
  Value square = map(b, loc, f32Over(b.getContext(), source.getAxes()), x,
                     [](OpBuilder &b, Location loc, ValueRange v) {
                       return arith::MulFOp::create(b, loc, v[0], v[0]);
                     });
  Value sum = reduce(b, loc, "sum", square, axes, type);
  return map(b, loc, type, sum, [](OpBuilder &b, Location loc, ValueRange v) {
    return math::SqrtOp::create(b, loc, v[0]);
  });
}

void decompose(ScoreNormOp op) {
  OpBuilder b(op);
  op.replaceAllUsesWith(norm(b, op.getLoc(), op.getInput(), names(op.getAxes()), op.getType()));
  op->erase();
}

/// The index comes from the arg-max of the closeness over the candidates, which streams: no matrix
/// is kept. The best value is then computed once for the candidate found.
void decompose(ScoreNearestOp op) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  MLIRContext *context = op.getContext();
  bool cosine = op.getMetric() == "cosine";
  auto a = cast<AxisTensorType>(op.getInput().getType()),
       c = cast<AxisTensorType>(op.getCandidates().getType());
  StringAttr along = op.getAxisAttr();
  // The feature axis is the one both have that is neither a row nor a candidate axis.
  SmallVector<StringRef> features;
  std::vector<std::string> keep;
  for (AxisAttr axis : a.getAxes()) {
    if (axis.getKind() == "channel" || axis.getKind() == "rank") {
      keep.push_back(axis.getName());
    }
  }
  for (const std::string &name : keep) {
    features.push_back(name);
  }
  SmallVector<AxisAttr> pair(llvm::make_filter_range(a.getAxes(), [&](AxisAttr axis) {
    return !llvm::is_contained(features, StringRef(axis.getName()));
  }));
  SmallVector<AxisAttr> rows = pair;
  pair.push_back(findAxis(c.getAxes(), along.getValue()));
  SmallVector<AxisAttr> candidates = without(c.getAxes(), features);

  Value normA = norm(b, loc, op.getInput(), features, f32Over(context, rows));
  Value normC = norm(b, loc, op.getCandidates(), features, f32Over(context, candidates));
  Value dot = ContractOp::create(b, loc, f32Over(context, pair), op.getInput(), op.getCandidates(),
                                 b.getStrArrayAttr(features));
  auto closeness = [&](Type type, Value d, Value na, Value nc) {
    return map(b, loc, type, {d, na, nc}, [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
      if (cosine) {
        Value least = constant(b, loc, 1e-6);
        Value x = arith::MaximumFOp::create(b, loc, v[1], least),
              y = arith::MaximumFOp::create(b, loc, v[2], least);
        Value product = arith::MulFOp::create(b, loc, x, y);
        return arith::DivFOp::create(b, loc, v[0], product);
      }
      Value squares = arith::AddFOp::create(b, loc, arith::MulFOp::create(b, loc, v[1], v[1]),
                                            arith::MulFOp::create(b, loc, v[2], v[2]));
      Value twice = arith::MulFOp::create(b, loc, v[0], constant(b, loc, 2.0));
      Value distance = arith::MaximumFOp::create(
          b, loc, arith::SubFOp::create(b, loc, squares, twice), constant(b, loc, 0.0));
      return arith::NegFOp::create(b, loc, math::SqrtOp::create(b, loc, distance));
    });
  };
  Value all = closeness(f32Over(context, pair), dot, normA, normC);
  Value at = reduce(b, loc, "argmax", all, {along.getValue()}, op.getAt().getType());
  op.getAt().replaceAllUsesWith(at);
  if (!op.getBest().use_empty()) {
    Value found = GatherOp::create(b, loc, f32Over(context, a.getAxes()), op.getCandidates(), at);
    Value foundNorm = GatherOp::create(b, loc, f32Over(context, rows), normC, at);
    Value foundDot = ContractOp::create(b, loc, f32Over(context, rows), op.getInput(), found,
                                        b.getStrArrayAttr(features));
    Value best = closeness(op.getBest().getType(), foundDot, normA, foundNorm);
    if (!cosine) {
      best =
          map(b, loc, op.getBest().getType(), best, [](OpBuilder &b, Location loc, ValueRange v) {
            return arith::NegFOp::create(b, loc, v[0]);
          });
    }
    op.getBest().replaceAllUsesWith(best);
  }
  op->erase();
}

void decompose(MergeIntoOp op) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  MLIRContext *context = op.getContext();
  auto source = cast<AxisTensorType>(op.getSource().getType()),
       destination = cast<AxisTensorType>(op.getDestination().getType());
  auto weight = cast<AxisTensorType>(op.getWeight().getType());
  StringRef domain = cast<IndexSetType>(op.getAt().getType()).getDomain();
  SmallVector<AxisAttr> totals;
  for (AxisAttr axis : destination.getAxes()) {
    if (axis.getName() == domain || findAxis(weight.getAxes(), axis.getName())) {
      totals.push_back(axis);
    }
  }
  auto zeros = [&](ArrayRef<AxisAttr> axes, Value like) {
    return map(b, loc, f32Over(context, axes), like,
               [](OpBuilder &b, Location loc, ValueRange) { return constant(b, loc, 0.0); });
  };
  Value weighted = map(b, loc, f32Over(context, source.getAxes()), {op.getSource(), op.getWeight()},
                       [](OpBuilder &b, Location loc, ValueRange v) {
                         return arith::MulFOp::create(b, loc, v[0], v[1]);
                       });
  Value sum =
      ScatterOp::create(b, loc, f32Over(context, destination.getAxes()), b.getStringAttr("add"),
                        weighted, zeros(destination.getAxes(), op.getDestination()), op.getAt());
  // A column of the destination shows which rows there are; its values are not read.
  Value rows = op.getDestination();
  if (totals.size() != destination.getAxes().size()) {
    SmallVector<StringRef> features;
    std::vector<std::string> gone;
    for (AxisAttr axis : destination.getAxes()) {
      if (!findAxis(totals, axis.getName())) {
        gone.push_back(axis.getName());
      }
    }
    features.assign(gone.begin(), gone.end());
    rows = reduce(b, loc, "count", rows, features, f32Over(context, totals));
  }
  Value total = ScatterOp::create(b, loc, f32Over(context, totals), b.getStringAttr("add"),
                                  op.getWeight(), zeros(totals, rows), op.getAt());
  Value merged =
      map(b, loc, op.getType(), {op.getDestination(), sum, total},
          [](OpBuilder &b, Location loc, ValueRange v) -> Value {
            Value one = constant(b, loc, 1.0), zero = constant(b, loc, 0.0);
            Value mean = arith::DivFOp::create(b, loc, arith::AddFOp::create(b, loc, v[0], v[1]),
                                               arith::AddFOp::create(b, loc, one, v[2]));
            Value some = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, v[2], zero);
            return arith::SelectOp::create(b, loc, some, mean, v[0]);
          });
  op.replaceAllUsesWith(merged);
  op->erase();
}

void decompose(ProjectLowrankOp op) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  auto x = cast<AxisTensorType>(op.getInput().getType()),
       basis = cast<AxisTensorType>(op.getBasis().getType());
  std::vector<std::string> contracted;
  for (AxisAttr axis : basis.getAxes()) {
    if (axis.getKind() == "channel" && findAxis(x.getAxes(), axis.getName())) {
      contracted.push_back(axis.getName());
    }
  }
  SmallVector<StringRef> over(contracted.begin(), contracted.end());
  Value centred = map(b, loc, f32Over(op.getContext(), x.getAxes()), {op.getInput(), op.getMean()},
                      [](OpBuilder &b, Location loc, ValueRange v) {
                        return arith::SubFOp::create(b, loc, v[0], v[1]);
                      });
  op.replaceAllUsesWith(
      ContractOp::create(b, loc, op.getType(), centred, op.getBasis(), b.getStrArrayAttr(over))
          .getResult());
  op->erase();
}

/// Contraction with H[i][j] = (-1)^popcount(i & j) / sqrt(n), whose entries are computed where they
/// are used.
void decompose(ProjectHadamardOp op) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  MLIRContext *context = op.getContext();
  auto x = cast<AxisTensorType>(op.getInput().getType());
  AxisAttr in = findAxis(x.getAxes(), op.getAxis());
  auto result = cast<AxisTensorType>(op.getType());
  AxisAttr out =
      AxisAttr::get(context, in.getKind(), (in.getTag() + "hadamard").str(), in.getExtent());
  auto counts = [&](AxisAttr axis) { return AxisTensorType::get(context, {axis}, b.getI32Type()); };
  Value i = IotaOp::create(b, loc, counts(in), b.getStringAttr(in.getName()), op.getInput());
  Value renamed = RelabelOp::create(b, loc, counts(out), i);
  double size = static_cast<double>(in.getInteger().value_or(1));
  Value matrix = map(
      b, loc, f32Over(context, {in, out}), {i, renamed},
      [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        Value both = arith::AndIOp::create(b, loc, v[0], v[1]);
        Value parity =
            arith::AndIOp::create(b, loc, math::CtPopOp::create(b, loc, both),
                                  arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(1)));
        Value odd =
            arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, parity,
                                  arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0)));
        Value entry = constant(b, loc, 1.0 / std::sqrt(size));
        return arith::SelectOp::create(b, loc, odd, arith::NegFOp::create(b, loc, entry), entry);
      });
  SmallVector<AxisAttr> axes = replaced(x.getAxes(), in.getName(), {out});
  Value product = ContractOp::create(b, loc, f32Over(context, axes), op.getInput(), matrix,
                                     b.getStrArrayAttr({in.getName()}));
  op.replaceAllUsesWith(RelabelOp::create(b, loc, result, product).getResult());
  op->erase();
}

/// `value` as i32: counts are index, i64 or i32.
Value toI32(OpBuilder &b, Location loc, Value value) {
  Type i32 = b.getI32Type();
  if (value.getType().isIndex()) {
    return arith::IndexCastOp::create(b, loc, i32, value);
  }
  if (value.getType().isInteger(64)) {
    return arith::TruncIOp::create(b, loc, i32, value);
  }
  return isa<FloatType>(value.getType()) ? arith::FPToSIOp::create(b, loc, i32, value).getResult()
                                         : value;
}

/// Forced rows become keys of +inf. Of n = min(budget, T) rows, the first min(first, n), then the
/// newest min(last, rest).
void decompose(SelectTopkOp op) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  auto scores = cast<AxisTensorType>(op.getScores().getType());
  std::string token = cast<IndexSetType>(op.getType()).getDomain().str();
  Value keys = op.getScores();
  if (op.getFirst() || op.getLast()) {
    Value one = map(b, loc, f32Over(op.getContext(), scores.getAxes()), op.getScores(),
                    [](OpBuilder &b, Location loc, ValueRange) { return constant(b, loc, 1.0); });
    Value rows =
        reduce(b, loc, "sum", one, {token},
               f32Over(op.getContext(), without(scores.getAxes(), ArrayRef<StringRef>{token})));
    Value at = IotaOp::create(
        b, loc,
        AxisTensorType::get(op.getContext(), {findAxis(scores.getAxes(), token)}, b.getI32Type()),
        b.getStringAttr(token), op.getScores());
    SmallVector<Value> inputs{op.getScores(), rows, at, op.getBudget()};
    for (Value forced : {op.getFirst(), op.getLast()}) {
      if (forced) {
        inputs.push_back(forced);
      }
    }
    bool hasFirst = static_cast<bool>(op.getFirst()), hasLast = static_cast<bool>(op.getLast());
    keys = map(
        b, loc, f32Over(op.getContext(), scores.getAxes()), inputs,
        [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
          Value zero = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
          Value length = toI32(b, loc, v[1]), budget = toI32(b, loc, v[3]);
          Value kept =
              arith::MinSIOp::create(b, loc, arith::MaxSIOp::create(b, loc, budget, zero), length);
          Value first = hasFirst ? toI32(b, loc, v[4]) : zero,
                last = hasLast ? toI32(b, loc, v[hasFirst ? 5 : 4]) : zero;
          first = arith::MinSIOp::create(b, loc, first, kept);
          last = arith::MinSIOp::create(b, loc, last, arith::SubIOp::create(b, loc, kept, first));
          Value isFirst = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, v[2], first);
          Value isLast = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, v[2],
                                               arith::SubIOp::create(b, loc, length, last));
          Value forced = arith::OrIOp::create(b, loc, isFirst, isLast);
          return arith::SelectOp::create(
              b, loc, forced, constant(b, loc, std::numeric_limits<double>::infinity()), v[0]);
        });
  }
  op.replaceAllUsesWith(
      TopkOp::create(b, loc, op.getType(), keys, op.getBudget(), b.getStringAttr(token))
          .getResult());
  op->erase();
}

template <typename... Ops>
struct OpList {
  static void decomposeEach(Operation *root) {
    (root->walk([](Ops op) { decompose(op); }), ...);
  }
  static bool contains(Operation *op) { return isa<Ops...>(op); }
};

/// Each of them is replaced by itself: none uses another.
using Families = OpList<SelectTopkOp, MergeIntoOp, ScoreNearestOp, ScoreNormOp, ProjectLowrankOp,
                        ProjectHadamardOp>;

} // namespace

void decomposeFamilies(Operation *root) {
  Families::decomposeEach(root);
  decomposeStatistics(root);
}

bool isDecomposed(Operation *op) { return Families::contains(op) || isDecomposedStatistic(op); }

} // namespace mlir::kvcache
