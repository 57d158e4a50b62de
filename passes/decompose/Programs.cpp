// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Inlines the phases of one event into one block. Invariant: a state has one current value at every
// point, so the linear use of caches survives the merge.

#include "passes/decompose/Programs.h"

#include "dialect/Axes.h"
#include "dialect/KVCacheTypes.h"
#include "dialect/LayerAxis.h"
#include "dialect/MethodOps.h"
#include "dialect/MethodSymbols.h"
#include "dialect/PrimitiveOps.h"

#include "passes/compose/Scopes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/RegionUtils.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/raw_ostream.h"

#include <map>

namespace mlir::kvcache {

namespace {

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

/// What earlier programs of the event yield, by name, as a program that follows takes it.
using Carried = llvm::StringMap<Type>;

class ProgramFormer {
public:
  ProgramFormer(MethodOp method, StringRef kind, const Carried &carried = {},
                bool modelScope = false)
      : method_(method), builder_(OpBuilder::atBlockEnd(&method.getBody().front())),
        carried_(carried) {
    program_ = PhaseOp::create(builder_, method.getLoc(), builder_.getStrArrayAttr({kind}),
                               builder_.getArrayAttr({}), FlatSymbolRefAttr(), ArrayAttr(),
                               ConditionAttr(), modelScope);
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
  void setTriggers(ArrayAttr triggers) { program_.setTriggersAttr(triggers); }

private:
  /// The value a binding has at this point of the event.
  FailureOr<Value> valueOf(PhaseOp phase, BindingAttr binding, Type type) {
    StringRef role = binding.getRole();
    if (!binding.getSymbol()) {
      // What prefill yields as `rows` goes to its caller; as a role, rows is their number.
      Value made = role == "rows" ? Value() : results_.lookup(role);
      Type known = made ? made.getType() : carried_.lookup(role);
      if (known && known != type) {
        return phase.emitError() << "phase takes '" << role << "' as " << type
                                 << ", but an earlier phase yields " << known
                                 << "; expected both with the same axes";
      }
      if (made) {
        return made;
      }
      if (!known && !isEventRole(role)) {
        return phase.emitError() << "phase needs '" << role
                                 << "', which no earlier phase of the event yields; expected one "
                                 << "with the same trigger that does";
      }
    }
    if (binding.getSymbol()) {
      auto state = states_.find(binding.getSymbol().getValue().str());
      if (state != states_.end() && state->second.getType() == type) {
        return state->second;
      }
    }
    return argumentFor(binding, type);
  }

  Value argumentFor(BindingAttr binding, Type type) {
    std::string key = binding.str();
    // One table may be read along several axes, an artefact about the model whole and by parts.
    if (binding.getRole() == "request" || isa<AxisTensorType>(type)) {
      llvm::raw_string_ostream(key) << ' ' << type;
    }
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
    SmallVector<std::string> inner;
    for (auto &[name, value] : results_) {
      if (value.getParentBlock() == guard.thenBlock()) {
        inner.push_back(name.str());
      }
    }
    for (const std::string &name : inner) {
      results_.erase(name);
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
  Carried carried_;
  PhaseOp program_;
  SmallVector<Attribute> bindings_;
  std::map<std::string, Value> states_;
  std::map<std::string, Value> arguments_;
  llvm::StringMap<Value> results_;
  llvm::StringMap<bool> touched_;
};

/// The program of one event of a layer, which yields nothing but states.
LogicalResult formEvent(MethodOp method, StringRef event, MutableArrayRef<PhaseOp> due,
                        const Carried &carried) {
  FlatSymbolRefAttr except;
  for (PhaseOp phase : due) {
    except = phase.getExceptAttr() ? phase.getExceptAttr() : except;
  }
  ProgramFormer former(method, event, carried);
  if (failed(former.inlineAll(due))) {
    return failure();
  }
  former.skipLayers(except);
  former.finish({});
  return success();
}

/// The names that phases take from others.
SmallVector<StringRef> takenBy(ArrayRef<PhaseOp> phases) {
  llvm::SetVector<StringRef> names;
  for (PhaseOp phase : phases) {
    for (BindingAttr binding : phase.getBindings().getAsRange<BindingAttr>()) {
      if (!binding.getSymbol()) {
        names.insert(binding.getRole());
      }
    }
  }
  return names.takeVector();
}

/// Every named result of a program, as `typeOf` says that a program which follows takes it.
void carry(PhaseOp program, llvm::function_ref<Type(Type)> typeOf, Carried &carried) {
  NextOp next = program.getNext();
  for (auto [name, value] : llvm::zip_equal(next.getNames(), next.getValues())) {
    if (auto word = dyn_cast<StringAttr>(name)) {
      carried[word.getValue()] = typeOf(value.getType());
    }
  }
}

/// How many layers there are, as the arguments of phases of model scope have it.
Attribute layersOf(ArrayRef<PhaseOp> phases, MLIRContext *context) {
  for (PhaseOp phase : phases) {
    for (Type type : phase.getBlock().getArgumentTypes()) {
      if (typeOfOneLayer(type)) {
        return axesOf(type).front().getExtent();
      }
    }
  }
  return SymAttr::get(context, "L");
}

/// One program for the end of a prompt, or three where something is planned for all layers.
LogicalResult formPromptEnd(MethodOp method) {
  PromptEnd end = promptEndOf(method);
  if (end.model.empty()) {
    return formEvent(method, "prompt_end", end.after, {});
  }
  SmallVector<StringRef> wanted = takenBy(end.model), later = takenBy(end.after);
  for (StringRef name : later) {
    if (!llvm::is_contained(wanted, name)) {
      wanted.push_back(name);
    }
  }
  ProgramFormer score(method, "prompt_score");
  if (failed(score.inlineAll(end.before))) {
    return failure();
  }
  PhaseOp scored = score.finish(wanted);
  Attribute layers = layersOf(end.model, method.getContext());
  Carried toModel, toLayer;
  carry(scored, [&](Type type) { return typeOfAllLayers(type, layers); }, toModel);
  carry(scored, [](Type type) { return type; }, toLayer);
  ProgramFormer model(method, "prompt_model", toModel, /*modelScope=*/true);
  if (failed(model.inlineAll(end.model))) {
    return failure();
  }
  carry(model.finish(later), typeOfOneLayer, toLayer);
  return formEvent(method, "prompt_end", end.after, toLayer);
}

/// A program for what sees all rows at once, one for each phase that sees sequences, and one for
/// what sees the means of all layers.
LogicalResult formCalibration(MethodOp method, ArrayRef<PhaseOp> phases) {
  SmallVector<PhaseOp> ofRows, ofSequences, ofModel;
  for (PhaseOp phase : phases) {
    (phase.getModelScope()                 ? ofModel
     : calibrationSource(phase) != nullptr ? ofSequences
                                           : ofRows)
        .push_back(phase);
  }
  if (!ofRows.empty()) {
    ProgramFormer former(method, "calibrate");
    if (failed(former.inlineAll(ofRows))) {
      return failure();
    }
    former.finish({});
  }
  SmallVector<StringRef> wanted = takenBy(ofModel);
  Attribute layers = layersOf(ofModel, method.getContext());
  Carried means;
  for (PhaseOp phase : ofSequences) {
    ProgramFormer former(method, "calibrate");
    if (failed(former.inlineAll(phase))) {
      return failure();
    }
    PhaseOp program = former.finish(wanted);
    former.setTriggers(phase.getTriggersAttr());
    carry(program, [&](Type type) { return typeOfAllLayers(type, layers); }, means);
  }
  if (!ofModel.empty()) {
    ProgramFormer former(method, "calibrate_model", means, /*modelScope=*/true);
    if (failed(former.inlineAll(ofModel))) {
      return failure();
    }
    former.finish({});
  }
  return success();
}

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
  const Single singles[] = {{"prefill", "prefill", {"out", "rows"}},
                            {"prefill", "ingest", {"rows"}},
                            {"decode", "decode", {"out"}},
                            {"probe", "probe", {"out"}},
                            {"query", "attend", {"out"}}};
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
    if (single.from == "prefill") {
      former.setTriggers(source.front().getTriggersAttr()); // chunks(n)
    }
  }
  SmallVector<PhaseOp> draft = ofKind("draft");
  if (draftSteps(method) > 0 && failed(formEvent(method, "draft_end", draft, {}))) {
    return failure();
  }
  if (failed(formCalibration(method, ofKind("calibrate")))) {
    return failure();
  }
  SmallVector<PhaseOp> stepEnd = phasesAt(method, "step_end");
  if (failed(formPromptEnd(method)) || failed(formEvent(method, "step_end", stepEnd, {}))) {
    return failure();
  }
  for (PhaseOp phase : phases) {
    phase.erase();
  }
  return success();
}

} // namespace mlir::kvcache
