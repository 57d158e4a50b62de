// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Inlines the phases of one event into one block. Invariant: a state has one current value at every
// point, so the linear use of caches survives the merge.

#include "passes/decompose/Programs.h"

#include "dialect/KVCacheTypes.h"
#include "dialect/MethodOps.h"
#include "dialect/PrimitiveOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/RegionUtils.h"

#include "llvm/ADT/StringMap.h"

#include <map>

namespace mlir::kvcache {

namespace {

/// Results of phases that later phases of the event take instead of a role of the executor.
bool isPhaseResult(StringRef role) { return role == "score" || role == "keep" || role == "budget"; }

/// The `longer` trigger of a phase; null when it has none.
TriggerAttr lengthTrigger(PhaseOp phase) {
  if (auto triggers = phase.getTriggersAttr()) {
    for (Attribute trigger : triggers) {
      if (cast<TriggerAttr>(trigger).getEvent() == "longer") {
        return cast<TriggerAttr>(trigger);
      }
    }
  }
  return {};
}

/// Whether the phase runs at `event`. Without triggers a phase runs at the end of the prompt.
bool runsAt(PhaseOp phase, StringRef event) {
  auto triggers = phase.getTriggersAttr();
  if (!triggers) {
    return event == "prompt_end";
  }
  return llvm::any_of(triggers, [&](Attribute trigger) {
    StringRef name = cast<TriggerAttr>(trigger).getEvent();
    return name == event || name == "longer";
  });
}

class ProgramFormer {
public:
  ProgramFormer(MethodOp method, StringRef kind)
      : method_(method), builder_(OpBuilder::atBlockEnd(&method.getBody().front())) {
    program_ = PhaseOp::create(builder_, method.getLoc(), builder_.getStrArrayAttr({kind}),
                               builder_.getArrayAttr({}), FlatSymbolRefAttr(), ArrayAttr(),
                               ConditionAttr(), /*model_scope=*/false);
    program_.getBody().emplaceBlock();
  }

  /// Inlines `phases` in order; those with a length trigger share one scf.if while they follow each
  /// other.
  LogicalResult inlineAll(MutableArrayRef<PhaseOp> phases) {
    OpBuilder body = OpBuilder::atBlockEnd(&program_.getBlock());
    for (size_t i = 0; i < phases.size();) {
      TriggerAttr trigger = lengthTrigger(phases[i]);
      size_t end = i + 1;
      while (trigger && end < phases.size() && lengthTrigger(phases[end]) == trigger) {
        ++end;
      }
      MutableArrayRef<PhaseOp> run = phases.slice(i, end - i);
      if (failed(trigger ? inlineGuarded(run, trigger, body) : inlinePhase(run.front(), body))) {
        return failure();
      }
      i = end;
    }
    return success();
  }

  /// Ends the program with the current states and, of the named results, those listed.
  PhaseOp finish(ArrayRef<StringRef> results) {
    SmallVector<Attribute> names;
    SmallVector<Value> values;
    for (StringRef name : results) {
      if (Value value = results_.lookup(name)) {
        names.push_back(builder_.getStringAttr(name));
        values.push_back(value);
      }
    }
    for (auto &[name, value] : states_) {
      if (touched_.contains(name)) {
        names.push_back(FlatSymbolRefAttr::get(builder_.getContext(), name));
        values.push_back(value);
      }
    }
    OpBuilder body = OpBuilder::atBlockEnd(&program_.getBlock());
    NextOp::create(body, method_.getLoc(), builder_.getArrayAttr(names), values);
    program_.setBindingsAttr(builder_.getArrayAttr(bindings_));
    IRRewriter rewriter(builder_.getContext());
    (void)runRegionDCE(rewriter, program_->getRegions());
    dropUnusedArguments();
    return program_;
  }

  void skipLayers(FlatSymbolRefAttr except) { program_.setExceptAttr(except); }

private:
  /// The value a binding has at this point of the event.
  FailureOr<Value> valueOf(PhaseOp phase, BindingAttr binding, Type type) {
    if (!binding.getSymbol() && isPhaseResult(binding.getRole())) {
      if (Value value = results_.lookup(binding.getRole())) {
        if (value.getType() != type) {
          return phase.emitError() << "phase takes '" << binding.getRole() << "' as " << type
                                   << ", but an earlier phase yields " << value.getType();
        }
        return value;
      }
      if (binding.getRole() != "budget") {
        return phase.emitError() << "phase needs '" << binding.getRole()
                                 << "', which no earlier phase of the event yields";
      }
    }
    if (binding.getSymbol()) {
      auto state = states_.find(binding.getSymbol().getValue().str());
      if (state != states_.end()) {
        return state->second;
      }
    }
    return argumentFor(binding, type);
  }

  Value argumentFor(BindingAttr binding, Type type) {
    std::string key = binding.str();
    auto [it, fresh] = arguments_.try_emplace(key, Value());
    if (fresh) {
      it->second = program_.getBlock().addArgument(type, method_.getLoc());
      bindings_.push_back(binding);
      if (binding.getSymbol()) {
        states_.insert({binding.getSymbol().getValue().str(), it->second});
      }
    }
    return it->second;
  }

  LogicalResult inlinePhase(PhaseOp phase, OpBuilder &b) {
    IRMapping mapping;
    for (BlockArgument argument : phase.getBlock().getArguments()) {
      FailureOr<Value> value =
          valueOf(phase, phase.getBinding(argument.getArgNumber()), argument.getType());
      if (failed(value)) {
        return failure();
      }
      mapping.map(argument, *value);
    }
    for (Operation &op : phase.getBlock().without_terminator()) {
      b.clone(op, mapping);
    }
    NextOp next = phase.getNext();
    for (auto [name, value] : llvm::zip(next.getNames(), next.getValues())) {
      if (auto symbol = dyn_cast<FlatSymbolRefAttr>(name)) {
        states_[symbol.getValue().str()] = mapping.lookup(value);
        touched_.insert({symbol.getValue(), true});
      } else {
        results_[cast<StringAttr>(name).getValue()] = mapping.lookup(value);
      }
    }
    return success();
  }

  /// scf.if (rows of the state > limit) { phases } with the states they touch as results.
  LogicalResult inlineGuarded(MutableArrayRef<PhaseOp> run, TriggerAttr trigger, OpBuilder &b) {
    Location loc = run.front().getLoc();
    MLIRContext *context = b.getContext();
    auto state =
        dyn_cast_or_null<StateOp>(SymbolTable::lookupSymbolIn(method_, trigger.getState()));
    if (!state) {
      return run.front().emitError()
             << "trigger names '@" << trigger.getState().getValue() << "', which is not a state";
    }
    FailureOr<Value> cache = valueOf(
        run.front(), BindingAttr::get(context, "symbol", trigger.getState()), state.getType());
    FailureOr<Value> limit =
        valueOf(run.front(), BindingAttr::get(context, "budget", Attribute()), b.getIndexType());
    if (failed(cache) || failed(limit)) {
      return failure();
    }
    // States the guarded phases read have to be values outside of the scf.if.
    for (PhaseOp phase : run) {
      for (BlockArgument argument : phase.getBlock().getArguments()) {
        BindingAttr binding = phase.getBinding(argument.getArgNumber());
        if (binding.getSymbol() && !states_.count(binding.getSymbol().getValue().str())) {
          argumentFor(binding, argument.getType());
        }
      }
    }
    Value rows = ExtentOp::create(b, loc, b.getIndexType(), b.getStringAttr("token"), *cache);
    Value due = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt, rows, *limit);

    auto before = states_;
    SmallVector<std::string> changed;
    SmallVector<Type> types;
    for (PhaseOp phase : run) {
      for (Attribute name : phase.getNext().getNames()) {
        if (auto symbol = dyn_cast<FlatSymbolRefAttr>(name)) {
          std::string text = symbol.getValue().str();
          if (!llvm::is_contained(changed, text)) {
            changed.push_back(text);
            types.push_back(before.find(text)->second.getType());
          }
        }
      }
    }
    auto guard =
        scf::IfOp::create(b, loc, types, due, /*addThenBlock=*/true, /*addElseBlock=*/true);
    OpBuilder inside = OpBuilder::atBlockEnd(guard.thenBlock());
    for (PhaseOp phase : run) {
      if (failed(inlinePhase(phase, inside))) {
        return failure();
      }
    }
    SmallVector<Value> after, unchanged;
    for (const std::string &name : changed) {
      after.push_back(states_[name]);
      unchanged.push_back(before.find(name)->second);
    }
    scf::YieldOp::create(inside, loc, after);
    OpBuilder otherwise = OpBuilder::atBlockEnd(guard.elseBlock());
    scf::YieldOp::create(otherwise, loc, unchanged);
    for (auto [name, value] : llvm::zip(changed, guard.getResults())) {
      states_[name] = value;
    }
    // What the guarded phases yield by name is not defined outside.
    for (StringRef name : {"score", "budget", "keep"}) {
      if (Value value = results_.lookup(name);
          value && value.getParentBlock() == guard.thenBlock()) {
        results_.erase(name);
      }
    }
    return success();
  }

  void dropUnusedArguments() {
    Block &block = program_.getBlock();
    llvm::BitVector unused(block.getNumArguments());
    SmallVector<Attribute> kept;
    for (BlockArgument argument : block.getArguments()) {
      if (argument.use_empty()) {
        unused.set(argument.getArgNumber());
      } else {
        kept.push_back(program_.getBindings()[argument.getArgNumber()]);
      }
    }
    block.eraseArguments(unused);
    program_.setBindingsAttr(builder_.getArrayAttr(kept));
  }

  MethodOp method_;
  OpBuilder builder_;
  PhaseOp program_;
  SmallVector<Attribute> bindings_;
  std::map<std::string, Value> states_;
  std::map<std::string, Value> arguments_;
  llvm::StringMap<Value> results_;
  llvm::StringMap<bool> touched_;
};

} // namespace

LogicalResult formPrograms(MethodOp method) {
  SmallVector<PhaseOp> phases(method.getBody().front().getOps<PhaseOp>());
  auto ofKind = [&](StringRef kind) {
    SmallVector<PhaseOp> found;
    for (PhaseOp phase : phases) {
      if (phase.hasKind(kind)) {
        found.push_back(phase);
      }
    }
    return found;
  };

  struct Single {
    StringRef from, program;
    SmallVector<StringRef> results;
  };
  const Single singles[] = {{"prefill", "prefill", {"out"}},
                            {"prefill", "ingest", {}},
                            {"decode", "decode", {"out"}},
                            {"query", "attend", {"out"}},
                            {"calibrate", "calibrate", {}}};
  for (const Single &single : singles) {
    SmallVector<PhaseOp> source = ofKind(single.from);
    if (source.empty()) {
      continue;
    }
    ProgramFormer former(method, single.program);
    if (failed(former.inlineAll(source))) {
      return failure();
    }
    former.finish(single.results);
  }
  for (StringRef event : {"prompt_end", "step_end"}) {
    SmallVector<PhaseOp> due;
    FlatSymbolRefAttr except;
    for (StringRef kind : {"score", "allocate", "select", "compress"}) {
      for (PhaseOp phase : ofKind(kind)) {
        if (runsAt(phase, event)) {
          due.push_back(phase);
          except = phase.getExceptAttr() ? phase.getExceptAttr() : except;
        }
      }
    }
    ProgramFormer former(method, event);
    if (failed(former.inlineAll(due))) {
      return failure();
    }
    former.skipLayers(except);
    former.finish({});
  }
  for (PhaseOp phase : phases) {
    phase.erase();
  }
  return success();
}

} // namespace mlir::kvcache
