// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// granularity = kv_head | query_head: what becomes of the axis `group:Gs`. Either it disappears from
// every type, or it becomes `group:G` and reductions no longer run over it. Invariant: afterwards no
// type names Gs.

#include "passes/compose/Compose.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/Granularity.h"
#include "dialect/KVCacheTypes.h"
#include "dialect/MethodOps.h"
#include "dialect/PrimitiveOps.h"
#include "dialect/ScalarBody.h"
#include "dialect/ScoreOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/IR/Builders.h"

namespace mlir::kvcache {

namespace {

bool hasRowGroup(ArrayRef<AxisAttr> axes) { return llvm::any_of(axes, isRowGroup); }

/// `names` without that of the group axis.
ArrayAttr withoutGroup(ArrayAttr names, StringRef group) {
  SmallVector<Attribute> left;
  llvm::copy_if(names, std::back_inserter(left), [&](Attribute name) {
    return cast<StringAttr>(name).getValue() != group;
  });
  return ArrayAttr::get(names.getContext(), left);
}

bool contains(ArrayAttr names, StringRef name) {
  return llvm::is_contained(names, StringAttr::get(names.getContext(), name));
}

StringRef rowGroupName(ArrayRef<AxisAttr> axes) {
  for (AxisAttr axis : axes) {
    if (isRowGroup(axis)) {
      return axis.getTag().empty() ? StringRef("group") : StringRef();
    }
  }
  return {};
}

/// A reduction over nothing: its input, read as the result's elements.
LogicalResult replaceByInput(ReduceOp reduce) {
  if (!llvm::is_contained({"sum", "mean", "max", "min"}, reduce.getFn())) {
    return reduce.emitError() << "expected sum, mean, max or min over axis 'group' of extent Gs, got '"
                              << reduce.getFn() << "'";
  }
  OpBuilder b(reduce);
  auto same = MapOp::create(b, reduce.getLoc(), TypeRange{reduce.getType()}, reduce.getInput());
  Block &body = same.getBody().empty() ? same.getBody().emplaceBlock() : same.getBody().front();
  body.addArgument(scalarTypeOf(reduce.getInput().getType()), reduce.getLoc());
  OpBuilder inside = OpBuilder::atBlockEnd(&body);
  YieldOp::create(inside, reduce.getLoc(), body.getArguments());
  reduce.replaceAllUsesWith(same.getResult(0));
  reduce.erase();
  return success();
}

LogicalResult reduceWithoutGroup(ReduceOp reduce, StringRef group) {
  if (group.empty() || !contains(reduce.getAxes(), group)) {
    return success();
  }
  reduce.setAxesAttr(withoutGroup(reduce.getAxes(), group));
  return reduce.getAxes().empty() ? replaceByInput(reduce) : success();
}

/// query_head: the axis stays, so nothing runs over it.
ArrayAttr statsWithoutGroup(ArrayAttr stats, ValueRange results) {
  SmallVector<Attribute> changed;
  for (auto [stat, result] : llvm::zip(stats.getAsRange<StatAttr>(), results)) {
    StringRef group = rowGroupName(axesOf(result));
    AttrTypeReplacer replacer;
    replacer.addReplacement([&](ArrayAttr list) -> std::optional<std::pair<Attribute, WalkResult>> {
      bool over = list == stat.getOver() && !group.empty();
      return std::make_pair(over ? withoutGroup(list, group) : list, WalkResult::skip());
    });
    changed.push_back(replacer.replace(Attribute(stat)));
  }
  return ArrayAttr::get(stats.getContext(), changed);
}

LogicalResult keepPerQueryHead(MethodOp method) {
  LogicalResult done = success();
  method.walk([&](Operation *op) {
    if (auto reduce = dyn_cast<ReduceOp>(op); reduce && succeeded(done)) {
      done = reduceWithoutGroup(reduce, rowGroupName(axesOf(reduce.getOutput())));
    } else if (auto attend = dyn_cast<AttendOp>(op); attend && attend.getStatsAttr()) {
      attend.setStatsAttr(statsWithoutGroup(attend.getStatsAttr(), attend.getStatistics()));
    } else if (auto score = dyn_cast<ScoreAttentionOp>(op)) {
      score.setStatsAttr(statsWithoutGroup(score.getStatsAttr(), score.getStatistics()));
    }
  });
  AttrTypeReplacer replacer;
  replacer.addReplacement([](SymAttr symbol) -> Attribute {
    return symbol.getName() == rowGroupSymbol ? SymAttr::get(symbol.getContext(), "G") : symbol;
  });
  replacer.recursivelyReplaceElementsIn(method, /*replaceAttrs=*/true, /*replaceLocs=*/false,
                                        /*replaceTypes=*/true);
  return done;
}

/// kv_head: what the ops say of an axis that will not be there. Its extent is 1.
LogicalResult forgetGroup(Operation *op) {
  if (auto reduce = dyn_cast<ReduceOp>(op)) {
    return reduceWithoutGroup(reduce, rowGroupName(axesOf(reduce.getInput())));
  }
  if (auto extent = dyn_cast<ExtentOp>(op);
      extent && extent.getAxis() == rowGroupName(axesOf(extent.getOf())) &&
      !rowGroupName(axesOf(extent.getOf())).empty()) {
    OpBuilder b(op);
    extent.replaceAllUsesWith(
        arith::ConstantOp::create(b, op->getLoc(), b.getIndexAttr(1)).getResult());
    extent.erase();
  }
  return success();
}

template <typename T>
std::optional<T> withoutRowGroup(ArrayRef<AxisAttr> axes, llvm::function_ref<T(ArrayRef<AxisAttr>)> make) {
  if (!hasRowGroup(axes)) {
    return std::nullopt;
  }
  SmallVector<AxisAttr> left;
  llvm::copy_if(axes, std::back_inserter(left), [](AxisAttr axis) { return !isRowGroup(axis); });
  return make(left);
}

LogicalResult keepPerKvHead(MethodOp method) {
  LogicalResult done = success();
  method.walk([&](Operation *op) {
    if (succeeded(done)) {
      done = forgetGroup(op);
    }
  });
  AttrTypeReplacer replacer;
  replacer.addReplacement([](AxisTensorType type) -> std::optional<Type> {
    return withoutRowGroup<Type>(type.getAxes(), [&](ArrayRef<AxisAttr> axes) -> Type {
      return type.withAxes(axes);
    });
  });
  replacer.addReplacement([](IndexSetType type) -> std::optional<Type> {
    return withoutRowGroup<Type>(type.getAxes(), [&](ArrayRef<AxisAttr> axes) -> Type {
      return IndexSetType::get(type.getContext(), axes, type.getDomain());
    });
  });
  replacer.addReplacement([](CacheType type) -> std::optional<Type> {
    return withoutRowGroup<Type>(type.getRows(), [&](ArrayRef<AxisAttr> axes) -> Type {
      return CacheType::get(type.getContext(), axes, type.getColumns());
    });
  });
  replacer.recursivelyReplaceElementsIn(method, /*replaceAttrs=*/true, /*replaceLocs=*/false,
                                        /*replaceTypes=*/true);
  return done;
}

} // namespace

LogicalResult applyGranularity(MethodOp part, MethodOp parameters) {
  StringRef granularity = "kv_head";
  for (auto param : parameters.getBody().front().getOps<ParamOp>()) {
    auto text = dyn_cast<StringAttr>(param.getValue());
    if (param.getSymName() != "granularity") {
      continue;
    }
    if (!text || (text.getValue() != "kv_head" && text.getValue() != "query_head")) {
      return param.emitError() << "expected \"kv_head\" or \"query_head\" for parameter "
                               << "'granularity', got " << param.getValue();
    }
    granularity = text.getValue();
  }
  return granularity == "query_head" ? keepPerQueryHead(part) : keepPerKvHead(part);
}

} // namespace mlir::kvcache
