// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Copying a method into its own context, and reading its needs off the IR.

#include "targets/reference/ReferenceMethod.h"

#include "targets/reference/Interpreter.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/KVCacheDialect.h"
#include "dialect/MergeOps.h"
#include "dialect/ParameterText.h"
#include "dialect/RowOps.h"
#include "dialect/ScoreOps.h"
#include "passes/compose/Scopes.h"
#include "passes/specialize/Specialize.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Parser/Parser.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/xxhash.h"

namespace mlir::kvcache::reference {

static std::string textOf(Operation *op, const OpPrintingFlags &flags) {
  std::string text;
  llvm::raw_string_ostream os(text);
  op->print(os, flags);
  return text;
}

FailureOr<std::unique_ptr<ReferenceMethod>> ReferenceMethod::create(MethodOp method,
                                                                    const rt::Geometry &geometry) {
  std::unique_ptr<ReferenceMethod> result(new ReferenceMethod(geometry));
  DialectRegistry registry;
  registry.insert<KVCacheDialect, arith::ArithDialect, math::MathDialect, scf::SCFDialect>();
  result->context_ = std::make_unique<MLIRContext>(registry, MLIRContext::Threading::DISABLED);
  result->context_->loadAllAvailableDialects();
  std::string message;
  ScopedDiagnosticHandler collect(result->context_.get(), [&](Diagnostic &diagnostic) {
    message += (message.empty() ? "" : "; ") + diagnostic.str();
    return success();
  });
  result->module_ = parseSourceString<ModuleOp>(
      textOf(method, OpPrintingFlags().useLocalScope().enableDebugInfo()), result->context_.get());
  SmallVector<MethodOp> methods;
  if (result->module_) {
    llvm::append_range(methods, result->module_->getOps<MethodOp>());
  }
  if (methods.size() != 1) {
    return method.emitError() << "cannot copy the method: " << message;
  }
  result->method_ = methods.front();
  result->hash_ = llvm::utohexstr(llvm::xxh3_64bits(textOf(method, OpPrintingFlags())),
                                  /*LowerCase=*/true, 16);
  MethodGeometry bound;
  bound.layers = geometry.layers;
  bound.queryHeads = geometry.queryHeads;
  bound.kvHeads = geometry.kvHeads;
  bound.headDim = geometry.headDim;
  bound.act = std::string(::kvcache::abi::nameOf(geometry.act));
  if (failed(specializeMethod(result->method_, bound))) {
    return method.emitError() << message;
  }
  Status status = result->collect();
  if (!status.isOk()) {
    return method.emitError() << status.message();
  }
  return result;
}

std::string ReferenceMethod::name() const {
  MethodOp method = method_;
  StringRef name = method.getSymName();
  name.consume_back(".composed");
  return name.str();
}

std::map<std::string, std::string> ReferenceMethod::parameters() const {
  std::map<std::string, std::string> result;
  MethodOp method = method_;
  for (auto param : method.getBody().front().getOps<ParamOp>()) {
    result[param.getSymName().str()] = parameterText(param);
  }
  return result;
}

ArrayRef<PhaseOp> ReferenceMethod::phases(StringRef kind) const {
  auto found = phases_.find(kind.str());
  return found == phases_.end() ? ArrayRef<PhaseOp>() : ArrayRef<PhaseOp>(found->second);
}

PhaseOp ReferenceMethod::phase(StringRef kind) const {
  ArrayRef<PhaseOp> all = phases(kind);
  return all.empty() ? PhaseOp() : all.front();
}

bool ReferenceMethod::skips(PhaseOp phase, int64_t layer) const {
  if (!phase.getExceptAttr()) {
    return false;
  }
  auto param = dyn_cast_or_null<ParamOp>(
      SymbolTable::lookupSymbolIn(method_, phase.getExceptAttr().getAttr()));
  auto list = param ? dyn_cast<ArrayAttr>(param.getValue()) : ArrayAttr();
  return list && llvm::any_of(list.getAsRange<IntegerAttr>(),
                              [&](IntegerAttr skipped) { return skipped.getInt() == layer; });
}

Status ReferenceMethod::collect() {
  artefacts.resize(static_cast<size_t>(geometry_.layers));
  for (Operation &op : method_.getBody().front()) {
    if (auto artefact = dyn_cast<ArtefactOp>(op); artefact && artefact.getOtherwise()) {
      Tensor tensor(axesOfArtefact(artefact));
      std::fill(tensor.values.begin(), tensor.values.end(),
                artefact.getOtherwiseAttr().getValueAsDouble());
      for (auto &known : artefacts) {
        known[artefact.getSymName().str()] = valueOf(tensor);
      }
    }
    if (auto state = dyn_cast<StateOp>(op)) {
      states_.push_back(state);
      if (auto cache = dyn_cast<CacheType>(state.getType())) {
        StatusOr<std::shared_ptr<const CacheSchema>> schema = makeSchema(cache, geometry_.act);
        if (!schema.isOk()) {
          return Status::badInput("state '@" + state.getSymName().str() +
                                  "': " + schema.status().message());
        }
        schemas_[state.getSymName().str()] = *schema;
      }
    } else if (auto phase = dyn_cast<PhaseOp>(op)) {
      for (StringAttr kind : phase.getKinds().getAsRange<StringAttr>()) {
        phases_[kind.getValue().str()].push_back(phase);
      }
    }
  }
  for (StringRef kind : {"score", "allocate", "select", "compress"}) {
    for (PhaseOp phase : phases(kind)) {
      if (phase.getModelScope()) {
        plansForAllLayers_ = true;
      } else {
        endPhases_.push_back(phase);
      }
    }
  }
  for (StringRef kind : {"prefill", "decode", "query"}) {
    if (phases(kind).size() != 1) {
      return Status::badInput("expected one phase '" + kind.str() + "' of a composed method, got " +
                              std::to_string(phases(kind).size()));
    }
  }
  findNeeds();
  return Status::ok();
}

SmallVector<Value> ReferenceMethod::statesOf(PhaseOp phase) {
  SmallVector<Value> values;
  NextOp next = phase.getNext();
  for (auto [name, value] : llvm::zip_equal(next.getNames(), next.getValues())) {
    if (isa<FlatSymbolRefAttr>(name)) {
      values.push_back(value);
    }
  }
  return values;
}

SmallVector<TriggerAttr> triggersOf(PhaseOp phase) {
  SmallVector<TriggerAttr> triggers;
  if (ArrayAttr list = phase.getTriggersAttr()) {
    llvm::append_range(triggers, list.getAsRange<TriggerAttr>());
  }
  return triggers;
}

/// How many of an event's last query rows the states of `phase` depend on; -1 all.
static int64_t queryRowsFor(PhaseOp phase) {
  SmallVector<Value> results = ReferenceMethod::statesOf(phase);
  if (Value passed = phase.getNext().getValueFor("rows")) {
    results.push_back(passed);
  }
  llvm::DenseSet<Operation *> needed = neededFor(results);
  int64_t rows = 0;
  BlockArgument query = phase.getArgumentFor("query");
  // What is derived from the queries counts as a use of all rows, unless it is attention of the
  // last ones.
  SmallVector<Value> derived;
  if (query) {
    derived.push_back(query);
  }
  while (!derived.empty()) {
    for (Operation *user : derived.pop_back_val().getUsers()) {
      if (!needed.contains(user)) {
        continue;
      }
      auto attend = dyn_cast<AttendOp>(user);
      ArrayAttr stats = attend ? attend.getStatsAttr() : ArrayAttr();
      if (auto score = dyn_cast<ScoreAttentionOp>(user)) {
        stats = score.getStatsAttr();
      }
      if (isa<RopeOp, RelabelOp>(user)) {
        derived.push_back(user->getResult(0));
        continue;
      }
      if (!stats) {
        return -1;
      }
      for (StatAttr stat : stats.getAsRange<StatAttr>()) {
        auto last = dyn_cast_or_null<IntegerAttr>(stat.getLast());
        if (!last) {
          return -1;
        }
        rows = std::max(rows, last.getInt());
      }
    }
  }
  return rows;
}

void ReferenceMethod::findNeeds() {
  method_->walk([&](PhaseOp phase) {
    if (calibrationSource(phase)) {
      return; // its sequences come with all there is
    }
    for (auto [argument, attr] : llvm::zip_equal(phase.getBlock().getArguments(),
                                                 phase.getBindings().getAsRange<BindingAttr>())) {
      StringRef role = attr.getRole();
      hasTokenBudget_ |= role == "budget";
      needsIds_ |= role == "ids";
      if (role == "request") {
        requests_.insert(cast<StringAttr>(attr.getArgument()).getValue().str());
      }
      if (role == "key") {
        AxisAttr channel = findAxisOfKind(axesOf(argument), "channel");
        needsPreRopeKeys_ |= channel && channel.getTag() == "pre";
      } else if (role == "last_queries") {
        windowRows_ = std::max(windowRows_, cast<IntegerAttr>(attr.getArgument()).getInt());
      }
    }
    for (TriggerAttr trigger : triggersOf(phase)) {
      auto limit = dyn_cast_or_null<SymAttr>(trigger.getLimit());
      hasTokenBudget_ |= limit && limit.getName() == "budget";
    }
  });
  method_->walk([&](MergeIntoOp) { merges_ = true; });
  thinsPrompt_ = static_cast<bool>(phase("prefill").getNext().getValueFor("rows"));
  draftSteps_ = ::mlir::kvcache::draftSteps(method_);
  neededQueryRows_ = queryRowsFor(phase("prefill"));
  if (neededQueryRows_ >= 0) {
    neededQueryRows_ = std::max(neededQueryRows_, windowRows_);
  }
}

StatusOr<RuntimeValue> ReferenceMethod::initialState(StateOp state) const {
  auto schema = schemas_.find(state.getSymName().str());
  if (schema != schemas_.end()) {
    return RuntimeValue(std::make_shared<const CacheTable>(CacheTable(schema->second)));
  }
  Type type = state.getType();
  if (auto tensor = dyn_cast<AxisTensorType>(type)) {
    std::vector<Axis> axes;
    for (AxisAttr axis : tensor.getAxes()) {
      axes.push_back({axis.getName(), axis.getInteger().value_or(0)});
    }
    return valueOf(Tensor(axes));
  }
  if (isa<FloatType>(type)) {
    return RuntimeValue(Number::ofReal(0.0));
  }
  if (type.isIntOrIndex()) {
    return RuntimeValue(Number::ofInteger(0));
  }
  return Status::badInput("state '@" + state.getSymName().str() +
                          "' has a type that no state can have");
}

StatusOr<rt::reference::FactorSide> ReferenceMethod::factor(StateOp state,
                                                            const ColumnSchema &column,
                                                            int64_t layer, int64_t list) const {
  auto fixed =
      state.getFixedAttr() ? state.getFixedAttr().getAs<ArrayAttr>(column.name) : ArrayAttr();
  if (!fixed || fixed.size() != 2) {
    return Status::badInput("expected 'fixed' to name the basis and the mean of column '" +
                            column.name + "'");
  }
  rt::reference::FactorSide side;
  std::vector<double> *into[] = {&side.basis, &side.mean};
  for (size_t i = 0; i < 2; ++i) {
    std::string name = cast<FlatSymbolRefAttr>(fixed[i]).getValue().str();
    const auto &known = artefacts[static_cast<size_t>(layer)];
    auto found = known.find(name);
    if (found == known.end()) {
      return Status::badInput("artefact '@" + name + "' has not been calibrated");
    }
    const Tensor &tensor = std::get<std::shared_ptr<const TensorValue>>(found->second)->tensor;
    // Heads have a basis each, unless a row holds the values of all of them.
    bool shared = !column.features.empty() && column.features[0].name == "head";
    int64_t lists = tensor.find("head") == 0 && !shared ? tensor.axes[0].extent : 1;
    int64_t stride = lists == 0 ? 0 : tensor.points() / lists;
    int64_t expected = column.layout.width * (i == 0 ? column.layout.rank : 1);
    if (stride != expected || (lists > 1 && list >= lists)) {
      return Status::badInput("expected " + std::to_string(expected) + " values of artefact '@" +
                              name + "' for column '" + column.name + "', got " +
                              std::to_string(stride));
    }
    auto from = tensor.values.begin() + (lists == 1 ? 0 : list) * stride;
    into[i]->assign(from, from + stride);
  }
  return side;
}

EncoderOp ReferenceMethod::encoder(StringAttr name) const {
  return cast<EncoderOp>(SymbolTable::lookupSymbolIn(method_, name));
}

bool ReferenceMethod::needsCalibration() const {
  MethodOp method = method_;
  for (auto artefact : method.getBody().front().getOps<ArtefactOp>()) {
    for (const auto &known : artefacts) {
      if (!known.count(artefact.getSymName().str())) {
        return true;
      }
    }
  }
  return false;
}

} // namespace mlir::kvcache::reference
