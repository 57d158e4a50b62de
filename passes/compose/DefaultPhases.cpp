// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The phases a method need not write. Invariant: what is added is ordinary IR that an author could
// have written.
//
//   prefill, decode   append k, v, pos; attend, causal
//   query             attend over the cache, not causal
//   select            top-k(score, budget), where a score phase exists
//   compress          gather(keep) of every cache state, where a select phase exists and no compress
//                     phase takes what it keeps; before other compress phases
//   draft             the same gathers, where the phase yields keep

#include "passes/compose/Compose.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/KVCacheTypes.h"
#include "dialect/LayerAxis.h"
#include "dialect/MethodOps.h"
#include "dialect/RowOps.h"
#include "dialect/SelectOps.h"

#include "runtime/abi/StorageTerm.h"

#include "mlir/IR/Builders.h"

namespace mlir::kvcache {

namespace {

class DefaultPhases {
public:
  explicit DefaultPhases(MethodOp method)
      : method_(method), context_(method.getContext()),
        builder_(OpBuilder::atBlockEnd(&method.getBody().front())) {}

  LogicalResult fill() {
    if (states().empty()) {
      addDenseState();
    }
    bool ownPrefill = has("prefill"), ownDecode = has("decode");
    for (StringRef kind : {"prefill", "decode", "query"}) {
      if (!has(kind) && failed(addAttention(kind, ownPrefill || ownDecode))) {
        return failure();
      }
    }
    if (PhaseOp score = findScore(); score && !has("select")) {
      addSelect(score);
    }
    if (PhaseOp chooser = findChooser(); chooser && !takesKeep("compress")) {
      if (failed(addCompress(chooser))) {
        return failure();
      }
    }
    if (PhaseOp draft = find("draft"); draft && draft.getNext().getValueFor("keep")) {
      completeDraft(draft);
    }
    return success();
  }

private:
  SmallVector<StateOp> states() {
    SmallVector<StateOp> caches;
    for (auto state : method_.getBody().front().getOps<StateOp>()) {
      if (isa<CacheType>(state.getType())) {
        caches.push_back(state);
      }
    }
    return caches;
  }

  PhaseOp find(StringRef kind) {
    for (auto phase : method_.getBody().front().getOps<PhaseOp>()) {
      if (phase.hasKind(kind)) {
        return phase;
      }
    }
    return {};
  }
  bool has(StringRef kind) { return static_cast<bool>(find(kind)); }

  /// The first phase of the kind that yields `result`.
  PhaseOp findYielding(StringRef kind, StringRef result) {
    for (auto phase : method_.getBody().front().getOps<PhaseOp>()) {
      if (phase.hasKind(kind) && phase.getNext().getValueFor(result)) {
        return phase;
      }
    }
    return {};
  }
  /// The selection that chooses rows: others yield what it takes.
  PhaseOp findChooser() { return findYielding("select", "keep"); }
  /// The score phase that ranks: others only set columns.
  PhaseOp findScore() { return findYielding("score", "score"); }

  /// Whether a phase of the kind takes what a selection keeps.
  bool takesKeep(StringRef kind) {
    for (auto phase : method_.getBody().front().getOps<PhaseOp>()) {
      if (phase.hasKind(kind) && phase.getArgumentFor("keep")) {
        return true;
      }
    }
    return false;
  }

  /// When any phase of the kind runs; null when all run at the end of the prompt for want of a
  /// trigger.
  ArrayAttr triggersOf(StringRef kind) {
    SmallVector<Attribute> all;
    auto add = [&](Attribute trigger) {
      if (!llvm::is_contained(all, trigger)) {
        all.push_back(trigger);
      }
    };
    bool some = false;
    for (auto phase : method_.getBody().front().getOps<PhaseOp>()) {
      if (!phase.hasKind(kind)) {
        continue;
      }
      if (ArrayAttr triggers = phase.getTriggersAttr()) {
        some = true;
        llvm::for_each(triggers, add);
      } else {
        add(TriggerAttr::get(context_, "prompt_end", FlatSymbolRefAttr(), Attribute()));
      }
    }
    return some ? builder_.getArrayAttr(all) : ArrayAttr();
  }

  // ---- types
  // ---------------------------------------------------------------------------------------------

  AxisAttr axis(StringRef kind, StringRef tag, StringRef symbol) {
    Attribute extent = symbol == "?" ? Attribute(builder_.getUnitAttr())
                                     : Attribute(SymAttr::get(context_, symbol));
    return AxisAttr::get(context_, kind, tag, extent);
  }
  StorageAttr act() {
    ::kvcache::abi::StorageTerm term;
    term.elemIsAct = true;
    return StorageAttr::get(context_, term);
  }
  AxisTensorType rowsOf(ColumnAttr column, bool perQueryHead) {
    SmallVector<AxisAttr> axes{axis("head", "", "Hkv")};
    if (perQueryHead) {
      axes.push_back(axis("group", "", "G"));
    }
    axes.push_back(axis("query", "", "?"));
    llvm::copy_if(column.getAxes(), std::back_inserter(axes), [](AxisAttr feature) {
      return feature.getKind() != "head"; // of rows that all heads share
    });
    return AxisTensorType::get(context_, axes, act());
  }
  AxisTensorType positions() {
    return AxisTensorType::get(context_, {axis("query", "", "?")}, builder_.getI32Type());
  }

  // ---- phases
  // --------------------------------------------------------------------------------------------

  /// An empty phase; `args` are (binding, type) in order of the block arguments.
  Block *addPhase(StringRef kind, ArrayRef<std::pair<BindingAttr, Type>> args,
                  PhaseOp triggersOf = {}) {
    SmallVector<Attribute> bindings;
    for (auto &[binding, type] : args) {
      bindings.push_back(binding);
    }
    auto phase =
        PhaseOp::create(builder_, method_.getLoc(), builder_.getStrArrayAttr({kind}),
                        builder_.getArrayAttr(bindings),
                        triggersOf ? triggersOf.getExceptAttr() : FlatSymbolRefAttr(),
                        triggersOf ? triggersOf.getTriggersAttr() : ArrayAttr(), ConditionAttr(),
                        /*model_scope=*/false);
    Block &block = phase.getBody().emplaceBlock();
    for (auto &[binding, type] : args) {
      block.addArgument(type, method_.getLoc());
    }
    return &block;
  }
  BindingAttr role(StringRef name) { return BindingAttr::get(context_, name, Attribute()); }
  BindingAttr symbol(StringRef name) {
    return BindingAttr::get(context_, "symbol", FlatSymbolRefAttr::get(context_, name));
  }

  void next(OpBuilder &b, ArrayRef<std::pair<std::string, Value>> results) {
    SmallVector<Attribute> names;
    SmallVector<Value> values;
    for (auto &[name, value] : results) {
      names.push_back(
          StringRef(name).starts_with("@")
              ? Attribute(FlatSymbolRefAttr::get(context_, StringRef(name).drop_front()))
              : Attribute(builder_.getStringAttr(name)));
      values.push_back(value);
    }
    NextOp::create(b, method_.getLoc(), builder_.getArrayAttr(names), values);
  }

  void addDenseState() {
    auto column = [&](StringRef name, ArrayRef<AxisAttr> axes, StorageAttr storage) {
      return ColumnAttr::get(context_, name, axes, storage);
    };
    ::kvcache::abi::StorageTerm i32;
    i32.elem = ::kvcache::abi::ElementType::I32;
    auto type = CacheType::get(context_, {axis("head", "", "Hkv"), axis("token", "", "?")},
                               {column("k", {axis("channel", "post", "D")}, act()),
                                column("v", {axis("channel", "v", "D")}, act()),
                                column("pos", {}, StorageAttr::get(context_, i32))});
    OpBuilder::InsertionGuard guard(builder_);
    builder_.setInsertionPointToStart(&method_.getBody().front());
    StateOp::create(builder_, method_.getLoc(), builder_.getStringAttr("kv"), TypeAttr::get(type),
                    DictionaryAttr(), DictionaryAttr(), ConditionAttr());
  }

  LogicalResult addAttention(StringRef kind, bool ownsOthers) {
    SmallVector<StateOp> caches = states();
    if (kind == "query") { // reads only: caches of a method's own notes are left alone
      llvm::erase_if(caches, [](StateOp state) {
        auto type = cast<CacheType>(state.getType());
        return !type.getColumn("k") || !type.getColumn("v") || !type.getColumn("pos");
      });
    }
    if (caches.empty()) {
      return method_.emitError() << "expected a '" << kind
                                 << "' phase: no cache state has columns k, v and pos";
    }
    auto type = cast<CacheType>(caches.front().getType());
    ColumnAttr k = type.getColumn("k"), v = type.getColumn("v");
    if (caches.size() != 1 || !k || !v || !type.getColumn("pos")) {
      return method_.emitError()
             << "expected a '" << kind
             << "' phase: its default needs exactly one cache state with columns k, v and pos";
    }
    if (k.getAxes().empty() || k.getAxes().back().getTag() != "post") {
      return caches.front().emitError()
             << "expected a '" << kind
             << "' phase: its default attends with keys after RoPE, but column k holds "
             << (k.getAxes().empty() ? std::string("no channel") : k.getAxes().back().str());
    }
    Location loc = method_.getLoc();
    StringRef state = caches.front().getSymName();
    AxisTensorType q = rowsOf(k, true), out = rowsOf(v, true);
    bool query = kind == "query";
    SmallVector<std::pair<BindingAttr, Type>> args{{role("query"), q}, {symbol(state), type}};
    if (!query) {
      args.append({{role("key"), rowsOf(k, false)},
                   {role("value"), rowsOf(v, false)},
                   {role("pos"), positions()}});
    }
    Block *block = addPhase(kind, args);
    OpBuilder b = OpBuilder::atBlockEnd(block);
    Value cache = block->getArgument(1);
    if (!query) {
      cache = AppendOp::create(
          b, loc, type, cache, builder_.getStrArrayAttr({"k", "v", "pos"}),
          ValueRange{block->getArgument(2), block->getArgument(3), block->getArgument(4)});
    }
    auto attend = AttendOp::create(b, loc, out, TypeRange(), block->getArgument(0), cache, Value(),
                                   ValueRange(),
                                   /*causal=*/!query, ArrayAttr());
    std::vector<std::pair<std::string, Value>> results{{"out", attend.getOutput()}};
    if (!query) {
      results.emplace_back("@" + state.str(), cache);
    }
    next(b, results);
    return success();
  }

  /// The type of a result of `phase` where one layer takes it.
  static Type typeOf(StringRef result, PhaseOp phase) {
    Type type = phase.getNext().getValueFor(result).getType();
    return phase.getModelScope() ? typeOfOneLayer(type) : type;
  }

  void addSelect(PhaseOp score) {
    auto type = cast<AxisTensorType>(score.getNext().getValueFor("score").getType());
    Type budget = builder_.getIndexType();
    if (PhaseOp allocate = find("allocate")) {
      budget = typeOf("budget", allocate);
    }
    Block *block = addPhase("select", {{role("score"), type}, {role("budget"), budget}}, score);
    OpBuilder b = OpBuilder::atBlockEnd(block);
    SmallVector<AxisAttr> axes(type.getAxes());
    axes.back() = axis("token", "keep", "?");
    auto keep =
        SelectTopkOp::create(b, method_.getLoc(), IndexSetType::get(context_, axes, "token"),
                             block->getArgument(0), block->getArgument(1), Value(), Value());
    next(b, {{"keep", keep.getOutput()}});
  }

  LogicalResult addCompress(PhaseOp select) {
    Type keep = typeOf("keep", select);
    SmallVector<std::pair<BindingAttr, Type>> args{{role("keep"), keep}};
    for (StateOp state : states()) {
      for (AxisAttr axis : axesOf(keep)) {
        if (axis.getKind() != "token" && !findAxis(axesOf(state.getType()), axis.getName())) {
          InFlightDiagnostic error = state.emitError()
                                     << "expected a 'compress' phase: its default keeps the rows "
                                     << "of every cache that 'select' names for each '"
                                     << axis.getName() << "', but rows of '@"
                                     << state.getSymName() << "' have axes "
                                     << str(axesOf(state.getType()));
          error.attachNote(select.getLoc()) << "selected here";
          return error;
        }
      }
      args.emplace_back(symbol(state.getSymName()), state.getType());
    }
    // Before others that compress: indices are those of the rows that the selection saw.
    OpBuilder::InsertionGuard guard(builder_);
    if (PhaseOp other = find("compress")) {
      builder_.setInsertionPoint(other);
    }
    Block *block = addPhase("compress", args, select);
    cast<PhaseOp>(block->getParentOp()).setTriggersAttr(triggersOf("select"));
    OpBuilder b = OpBuilder::atBlockEnd(block);
    std::vector<std::pair<std::string, Value>> results;
    for (auto [i, state] : llvm::enumerate(states())) {
      Value kept = GatherOp::create(b, method_.getLoc(), state.getType(), block->getArgument(i + 1),
                                    block->getArgument(0));
      results.emplace_back("@" + state.getSymName().str(), kept);
    }
    next(b, results);
    return success();
  }

  /// Ends a draft with the caches that its `keep` makes.
  void completeDraft(PhaseOp draft) {
    NextOp last = draft.getNext();
    Value keep = last.getValueFor("keep");
    OpBuilder b(last);
    SmallVector<Attribute> bindings(draft.getBindings().getValue());
    std::vector<std::pair<std::string, Value>> results;
    for (StateOp state : states()) {
      std::string name = "@" + state.getSymName().str();
      Value cache = draft.getArgumentFor(name);
      if (!cache) {
        cache = draft.getBlock().addArgument(state.getType(), method_.getLoc());
        bindings.push_back(symbol(state.getSymName()));
      }
      results.emplace_back(
          name, GatherOp::create(b, method_.getLoc(), state.getType(), cache, keep));
    }
    next(b, results);
    last.erase();
    draft.setBindingsAttr(builder_.getArrayAttr(bindings));
  }

  MethodOp method_;
  MLIRContext *context_;
  OpBuilder builder_;
};

} // namespace

LogicalResult fillDefaultPhases(MethodOp method) { return DefaultPhases(method).fill(); }

} // namespace mlir::kvcache
