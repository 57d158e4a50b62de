// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Slot-wise union of methods. Invariant: nothing of a part is dropped silently; what two parts both
// define is an error that names both.

#include "passes/compose/Compose.h"

#include "passes/compose/Scopes.h"

#include "dialect/Axes.h"
#include "dialect/KVCacheTypes.h"
#include "dialect/MethodOps.h"

#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

namespace mlir::kvcache {

namespace {

/// Slots that only one method of a composition may define.
bool isExclusive(StringRef kind) { return kind != "compress"; }

/// Merges the storage of two declarations of one column; null when they conflict.
StorageAttr mergeStorage(StorageAttr a, StorageAttr b) {
  if (a == b || (b.isDense() && !a.isDense())) {
    return a;
  }
  return a.isDense() && !b.isDense() ? b : StorageAttr();
}

/// Union of two cache types: the same rows (per query head if one of them has it so), columns by
/// name.
FailureOr<CacheType> mergeCaches(Operation *where, StringRef state, CacheType a, CacheType b) {
  ArrayRef<AxisAttr> rows = a.getRows().size() < b.getRows().size() ? b.getRows() : a.getRows();
  if (without(a.getRows(), {"group"}) != without(b.getRows(), {"group"})) {
    return where->emitError() << "state '@" << state
                              << "' has rows of other axes in the methods composed: " << a
                              << " and " << b;
  }
  SmallVector<ColumnAttr> columns(a.getColumns());
  for (ColumnAttr column : b.getColumns()) {
    auto *same =
        llvm::find_if(columns, [&](ColumnAttr c) { return c.getName() == column.getName(); });
    if (same == columns.end()) {
      columns.push_back(column);
      continue;
    }
    StorageAttr storage = same->getAxes() == column.getAxes()
                              ? mergeStorage(same->getStorage(), column.getStorage())
                              : StorageAttr();
    if (!storage) {
      return where->emitError() << "column '" << column.getName() << "' of state '@" << state
                                << "' is held in two ways: " << *same << " and " << column;
    }
    *same = ColumnAttr::get(column.getContext(), column.getName(), column.getAxes(), storage);
  }
  return CacheType::get(a.getContext(), rows, columns);
}

class Composer {
public:
  Composer(MethodOp target, const ComposeRequest &request)
      : target_(target), request_(request), builder_(target.getContext()) {
    builder_.setInsertionPointToEnd(&target.getBody().front());
  }

  LogicalResult addPart(MethodOp part, bool onlyMissing) {
    for (Operation &op : part.getBody().front()) {
      if (auto param = dyn_cast<ParamOp>(op)) {
        addParam(param);
      }
    }
    for (Operation &op : part.getBody().front()) {
      LogicalResult added = success();
      if (auto state = dyn_cast<StateOp>(op)) {
        added = addState(state);
      } else if (isa<ArtefactOp, EncoderOp>(op)) {
        added = addUnique(&op);
      } else if (auto phase = dyn_cast<PhaseOp>(op)) {
        added = addPhase(phase, part, onlyMissing);
      }
      if (failed(added)) {
        return failure();
      }
    }
    for (auto &[kind, from] : fresh_) {
      filled_[kind] = from;
    }
    fresh_.clear();
    return success();
  }

  /// Values of a state that another part widened get the merged type everywhere.
  void retypeStates() {
    AttrTypeReplacer replacer;
    replacer.addReplacement([&](CacheType type) -> std::optional<Type> {
      auto found = retyped_.find(type);
      return found == retyped_.end() ? std::optional<Type>() : found->second;
    });
    target_->walk([&](PhaseOp phase) {
      replacer.recursivelyReplaceElementsIn(phase, /*replaceAttrs=*/true, /*replaceLocs=*/false,
                                            /*replaceTypes=*/true);
    });
  }

private:
  template <typename OpTy>
  OpTy lookup(StringRef name) {
    return dyn_cast_or_null<OpTy>(SymbolTable::lookupSymbolIn(target_, name));
  }

  /// The first part that declares a parameter decides its value and its range.
  void addParam(ParamOp param) {
    if (!lookup<Operation *>(param.getSymName())) {
      builder_.clone(*param);
    }
  }

  LogicalResult addUnique(Operation *op) {
    StringRef name = SymbolTable::getSymbolName(op);
    if (SymbolTable::lookupSymbolIn(target_, name)) {
      return op->emitError() << "'@" << name << "' is defined by two of the methods composed";
    }
    builder_.clone(*op);
    return success();
  }

  /// Whether a `when` clause holds for the parameter's final value.
  FailureOr<bool> holds(Operation *op, std::optional<ConditionAttr> condition) {
    if (!condition) {
      return true;
    }
    auto param = lookup<ParamOp>(condition->getParam().getValue());
    if (!param) {
      return op->emitError() << "'when' names '@" << condition->getParam().getValue()
                             << "', which is not a parameter";
    }
    auto any = dyn_cast<ArrayAttr>(condition->getValue());
    return param.getValue() == condition->getValue() ||
           (any && !param.isList() && llvm::is_contained(any, param.getValue()));
  }

  LogicalResult addState(StateOp state) {
    FailureOr<bool> exists = holds(state, state.getCondition());
    if (failed(exists) || !*exists) {
      return exists;
    }
    auto known = lookup<StateOp>(state.getSymName());
    if (!known) {
      auto clone = cast<StateOp>(builder_.clone(*state));
      clone.removeConditionAttr();
      return success();
    }
    if (known.getType() == state.getType()) {
      return success();
    }
    auto a = dyn_cast<CacheType>(known.getType()), b = dyn_cast<CacheType>(state.getType());
    if (!a || !b) {
      return state.emitError() << "state '@" << state.getSymName() << "' is " << state.getType()
                               << " here and " << known.getType()
                               << " in another method of the composition";
    }
    FailureOr<CacheType> merged = mergeCaches(state, state.getSymName(), a, b);
    if (failed(merged)) {
      return failure();
    }
    for (CacheType old : {a, b}) {
      if (old != *merged) {
        retyped_[old] = *merged;
      }
    }
    for (auto &[from, to] : retyped_) {
      to = to == a || to == b ? Type(*merged) : to;
    }
    known.setType(*merged);
    if (state.getFixedAttr()) {
      known.setFixedAttr(state.getFixedAttr());
    }
    if (state.getEncodeAttr()) {
      known.setEncodeAttr(state.getEncodeAttr());
    }
    return success();
  }

  LogicalResult addPhase(PhaseOp phase, MethodOp part, bool onlyMissing) {
    FailureOr<bool> exists = holds(phase, phase.getCondition());
    if (failed(exists) || !*exists) {
      return exists;
    }
    for (Attribute attr : phase.getKinds()) {
      StringRef kind = cast<StringAttr>(attr).getValue();
      auto found = filled_.find(kind);
      if (found != filled_.end()) {
        if (onlyMissing) {
          continue;
        }
        if (isExclusive(kind)) {
          InFlightDiagnostic error = phase.emitError()
                                     << "phase '" << kind << "' is defined by '"
                                     << part.getSymName() << "' and by '" << found->second
                                     << "': a composition takes each phase from one method";
          return error;
        }
      }
      auto clone = cast<PhaseOp>(builder_.clone(*phase));
      clone.setKindsAttr(builder_.getArrayAttr({builder_.getStringAttr(kind)}));
      clone.removeConditionAttr();
      fresh_[kind] = part.getSymName().str();
    }
    return success();
  }

  MethodOp target_;
  const ComposeRequest &request_;
  OpBuilder builder_;
  llvm::StringMap<std::string> filled_, fresh_;
  llvm::DenseMap<Type, Type> retyped_;
};

/// Parameters of all parts first, so that `when` sees final values wherever a part stands.
LogicalResult applyOverrides(MethodOp method, const ComposeRequest &request) {
  SmallVector<StringRef> names;
  for (const auto &entry : request.overrides) {
    names.push_back(entry.getKey());
  }
  llvm::sort(names);
  for (StringRef name : names) {
    if (failed(overrideParameter(method, name, request.overrides.lookup(name)))) {
      return failure();
    }
  }
  return success();
}

} // namespace

FailureOr<MethodOp> composeMethod(ModuleOp module, const ComposeRequest &request) {
  SmallVector<MethodOp> parts, bases;
  auto find = [&](const std::string &name, SmallVectorImpl<MethodOp> &into) -> LogicalResult {
    auto method = module.lookupSymbol<MethodOp>(name);
    if (!method) {
      return module.emitError() << "unknown method '" << name << "'";
    }
    into.push_back(method);
    return success();
  };
  for (const std::string &name : request.parts) {
    if (failed(find(name, parts))) {
      return failure();
    }
  }
  for (const std::string &name : request.bases) {
    if (failed(find(name, bases))) {
      return failure();
    }
  }
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  std::string name = llvm::join(request.parts, "+") + ".composed";
  auto target = MethodOp::create(builder, parts.front().getLoc(), builder.getStringAttr(name),
                                 parts.front().getInfoAttr());
  target.getBody().emplaceBlock();

  Composer composer(target, request);
  // A dry pass over the parameters lets overrides apply before the first `when` is asked.
  OpBuilder params = OpBuilder::atBlockEnd(&target.getBody().front());
  for (auto *list : {&parts, &bases}) {
    for (MethodOp part : *list) {
      for (auto param : part.getBody().front().getOps<ParamOp>()) {
        if (!SymbolTable::lookupSymbolIn(target, param.getSymName())) {
          params.clone(*param);
        }
      }
    }
  }
  if (failed(applyOverrides(target, request))) {
    return failure();
  }
  // The methods of the module keep their text, for other requests.
  auto add = [&](MethodOp method, bool onlyMissing) -> LogicalResult {
    OwningOpRef<MethodOp> part = method.clone();
    return failure(failed(applyGranularity(*part, target)) ||
                   failed(composer.addPart(*part, onlyMissing)));
  };
  for (MethodOp part : parts) {
    if (failed(add(part, /*onlyMissing=*/false))) {
      return failure();
    }
  }
  for (MethodOp base : bases) {
    if (failed(add(base, /*onlyMissing=*/true))) {
      return failure();
    }
  }
  composer.retypeStates();
  dropUntakenResults(target);
  if (failed(fillDefaultPhases(target)) || failed(checkScopes(target))) {
    return failure();
  }
  return target;
}

} // namespace mlir::kvcache
