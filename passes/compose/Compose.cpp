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

/// Slots that only one method of a composition may define. Phases that compress follow each other,
/// and each calibration makes tables of its own.
bool isExclusive(StringRef kind) { return kind != "compress" && kind != "calibrate"; }

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
      // Columns of attention have their names; others are the methods' own.
      bool own = !llvm::is_contained({"k", "v", "pos"}, column.getName());
      return where->emitError() << "column '" << column.getName() << "' of state '@" << state
                                << "' is held in two ways: " << *same << " and " << column
                                << (own ? "; expected another name in one of the methods"
                                        : "; expected one of the methods to leave it dense");
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
        owners_[state.getSymName()].insert(onlyMissing ? StringRef() : part.getSymName());
      } else if (isa<ArtefactOp, EncoderOp>(op)) {
        added = addUnique(&op);
      } else if (auto phase = dyn_cast<PhaseOp>(op)) {
        added = addPhase(phase, part, onlyMissing);
      }
      if (failed(added)) {
        return failure();
      }
    }
    for (const auto &fresh : fresh_) {
      filled_.try_emplace(fresh.getKey(), fresh.getValue());
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

  /// The default compress keeps the rows that one part selects, in every cache: caches that this
  /// part does not know may have other rows.
  LogicalResult checkSelectedStates() {
    auto chooser = filled_.find(filled_.count("select") ? "select" : "score");
    bool ownCompress = llvm::any_of(target_.getBody().front().getOps<PhaseOp>(), [](PhaseOp phase) {
      return phase.hasKind("compress") && phase.getArgumentFor("keep");
    });
    if (chooser == filled_.end() || ownCompress) {
      return success();
    }
    StringRef part = chooser->second.part;
    for (auto state : target_.getBody().front().getOps<StateOp>()) {
      const llvm::StringSet<> &owners = owners_[state.getSymName()];
      if (!isa<CacheType>(state.getType()) || owners.contains(part) || !ownsAny(part)) {
        continue;
      }
      InFlightDiagnostic error = state.emitError()
                                 << "expected a 'compress' phase: its default keeps the rows that '"
                                 << part << "' selects in every cache, but rows of '@"
                                 << state.getSymName() << "' are not those of '" << part << "'";
      error.attachNote(chooser->second.loc) << "selected here";
      return error;
    }
    return success();
  }

private:
  /// Whether the part declares a cache; one that does not means that of the others.
  bool ownsAny(StringRef part) {
    return llvm::any_of(target_.getBody().front().getOps<StateOp>(), [&](StateOp state) {
      return isa<CacheType>(state.getType()) && owners_[state.getSymName()].contains(part);
    });
  }

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
                                     << part.getSymName() << "' and by '" << found->second.part
                                     << "': a composition takes each phase from one method";
          error.attachNote(found->second.loc)
              << "defined here, too; expected one method without it, or one phase that does both";
          return error;
        }
      }
      auto clone = cast<PhaseOp>(builder_.clone(*phase));
      clone.setKindsAttr(builder_.getArrayAttr({builder_.getStringAttr(kind)}));
      clone.removeConditionAttr();
      fresh_.try_emplace(kind, Filled{part.getSymName().str(), phase.getLoc()});
    }
    return success();
  }

  MethodOp target_;
  const ComposeRequest &request_;
  OpBuilder builder_;
  /// Who fills a slot, and where.
  struct Filled {
    std::string part;
    Location loc;
  };
  llvm::StringMap<Filled> filled_, fresh_;
  llvm::StringMap<llvm::StringSet<>> owners_; ///< parts that declare a state
  llvm::DenseMap<Type, Type> retyped_;
};

/// What phases bind a parameter as: its type, the set whose places it counts, or its kind of value.
Attribute meaningOf(ParamOp param) {
  if (param.getType()) {
    return param.getTypeAttr();
  }
  StringAttr kind = StringAttr::get(param.getContext(), param.isList() ? "a list" : "a boolean");
  return param.getChoicesAttr() ? Attribute(param.getChoicesAttr())
         : isa<StringAttr>(param.getValue())
             ? StringAttr::get(param.getContext(), param.getIsMethod() ? "a method" : "a text")
             : kind;
}

/// One name is one parameter: a part that declares it again must mean the same, and allow its
/// value.
LogicalResult checkParameters(MethodOp part, MethodOp target) {
  for (auto param : part.getBody().front().getOps<ParamOp>()) {
    auto known = cast<ParamOp>(SymbolTable::lookupSymbolIn(target, param.getSymName()));
    std::string reason;
    bool same = meaningOf(known) == meaningOf(param);
    if (same &&
        (known.getIsMethod() || known.isExpression() || param.allows(known.getValue(), reason))) {
      continue;
    }
    InFlightDiagnostic error = param.emitError();
    if (same) {
      error << reason
            << ", the value of another method of the composition; set one that both allow";
    } else {
      error << "parameter '@" << param.getSymName() << "' is " << meaningOf(param) << " here and "
            << meaningOf(known)
            << " in another method of the composition; expected another name in one of them";
    }
    error.attachNote(known.getLoc()) << "declared here, too";
    return error;
  }
  return success();
}

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

/// A part that keeps rows uncoded and leaves every slot to the others asks for no state of its own:
/// `A+B` is then A. A coded one would not be what was asked for; checkEffects refuses it.
void dropUntakenStates(MethodOp method) {
  Block &body = method.getBody().front();
  llvm::StringSet<> taken;
  auto take = [&](Attribute symbol) {
    if (auto name = dyn_cast_or_null<FlatSymbolRefAttr>(symbol)) {
      taken.insert(name.getValue());
    }
  };
  for (auto phase : body.getOps<PhaseOp>()) {
    for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
      take(binding.getSymbol());
    }
    llvm::for_each(phase.getNext().getNames(), take);
  }
  bool anyTaken = llvm::any_of(body.getOps<StateOp>(), [&](StateOp state) {
    return isa<CacheType>(state.getType()) && taken.contains(state.getSymName());
  });
  for (StateOp state : llvm::make_early_inc_range(body.getOps<StateOp>())) {
    auto cache = dyn_cast<CacheType>(state.getType());
    if (anyTaken && cache && !taken.contains(state.getSymName()) &&
        llvm::all_of(cache.getColumns(), [](ColumnAttr c) { return c.getStorage().isDense(); })) {
      state.erase();
    }
  }
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
  for (MethodOp part : parts) {
    if (failed(checkParameters(part, target))) {
      return failure();
    }
  }
  for (MethodOp base : bases) {
    if (failed(add(base, /*onlyMissing=*/true))) {
      return failure();
    }
  }
  composer.retypeStates();
  dropUntakenStates(target);
  dropUntakenResults(target);
  if (failed(composer.checkSelectedStates()) || failed(fillDefaultPhases(target)) ||
      failed(checkScopes(target)) || failed(checkEffects(target))) {
    return failure();
  }
  return target;
}

} // namespace mlir::kvcache
