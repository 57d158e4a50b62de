// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text and checks of phases and of the `next` that ends them. Markers C1.. refer to MethodOps.td.

#include "dialect/Axes.h"
#include "dialect/LayerAxis.h"
#include "dialect/MethodSymbols.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"

namespace mlir::kvcache {

// ---- phase ----

static constexpr StringLiteral phaseKinds[] = {
    "calibrate", "prefill", "decode", "score", "allocate", "select", "compress", "query",
    "probe", "draft",
    // programs, which replace phases at the decomposed stage
    "ingest", "attend", "prompt_score", "prompt_model", "prompt_end", "step_end", "draft_end",
    "calibrate_model"};
static constexpr StringLiteral roles[] = {"query",  "key",    "value",  "pos",    "last_queries",
                                          "length", "rows",   "layer",  "layers", "budget",
                                          "score",  "keep",   "symbol", "ids",    "prompt_length",
                                          "step",   "request", "draft_queries"};

/// Roles that name how many rows, or which table, they mean.
static bool takesArgument(StringRef role) {
  return role == "last_queries" || role == "draft_queries" || role == "request";
}

/// Triggers that say which sequences a phase calibrate sees.
static bool isCalibrationSource(StringRef event) {
  return llvm::is_contained({"text", "repeat", "needle"}, event);
}

/// Roles that exist for each layer and each event only.
static bool isRowRole(StringRef role) {
  return llvm::is_contained(
      {"query", "key", "value", "pos", "ids", "last_queries", "draft_queries", "layer"}, role);
}

bool PhaseOp::hasKind(StringRef kind) {
  return llvm::any_of(getKinds().getAsRange<StringAttr>(),
                      [&](StringAttr k) { return k.getValue() == kind; });
}

bool isResultRole(StringRef name) {
  return llvm::is_contained({"out", "score", "budget", "keep", "rows"}, name);
}

bool isEventRole(StringRef role) {
  return llvm::is_contained(roles, role) && role != "score" && role != "keep";
}

/// Whether a phase of the method yields a result called `name`. Phases may not have been checked
/// yet.
static bool anyYields(MethodOp method, StringRef name) {
  return llvm::any_of(method.getBody().front().getOps<PhaseOp>(), [&](PhaseOp phase) {
    auto next = phase.getBody().empty() || phase.getBlock().empty()
                    ? NextOp()
                    : dyn_cast<NextOp>(phase.getBlock().back());
    return next && llvm::any_of(next.getNames(), [&](Attribute known) {
             auto word = dyn_cast<StringAttr>(known);
             return word && word.getValue() == name;
           });
  });
}

/// Whether a phase of the method has an argument of the role `name`.
static bool anyTakes(MethodOp method, StringRef name) {
  return llvm::any_of(method.getBody().front().getOps<PhaseOp>(), [&](PhaseOp phase) {
    return llvm::any_of(phase.getBindings().getAsRange<BindingAttr>(),
                        [&](BindingAttr binding) { return binding.getRole() == name; });
  });
}

BindingAttr PhaseOp::getBinding(unsigned argument) {
  return cast<BindingAttr>(getBindings()[argument]);
}

BlockArgument PhaseOp::getArgumentFor(StringRef roleOrSymbol) {
  for (auto [index, binding] : llvm::enumerate(getBindings().getAsRange<BindingAttr>())) {
    FlatSymbolRefAttr symbol = binding.getSymbol();
    StringRef name = symbol ? symbol.getValue() : binding.getRole();
    if (symbol ? roleOrSymbol.starts_with("@") && roleOrSymbol.drop_front() == name
               : roleOrSymbol == name) {
      return getBlock().getArgument(index);
    }
  }
  return {};
}

NextOp PhaseOp::getNext() { return cast<NextOp>(getBlock().getTerminator()); }

static FailureOr<BindingAttr> parseBinding(OpAsmParser &parser) {
  MLIRContext *context = parser.getContext();
  FlatSymbolRefAttr symbol;
  if (parser.parseOptionalAttribute(symbol).has_value()) {
    if (!symbol) {
      return failure();
    }
    return BindingAttr::get(context, "symbol", symbol);
  }
  StringRef role;
  if (parser.parseKeyword(&role)) {
    return failure();
  }
  Attribute argument;
  if (succeeded(parser.parseOptionalLParen())) {
    // A request names a table, not an extent: parameters of that name are something else.
    StringRef table;
    FailureOr<Attribute> extent = Attribute();
    if (role == "request") {
      if (parser.parseKeyword(&table)) {
        return failure();
      }
      extent = StringAttr::get(context, table);
    } else {
      extent = parseExtent(parser, /*allowDynamic=*/false);
    }
    if (failed(extent) || parser.parseRParen()) {
      return failure();
    }
    argument = *extent;
  }
  return BindingAttr::get(context, role, argument);
}

static FailureOr<TriggerAttr> parseTrigger(OpAsmParser &parser) {
  StringRef event;
  FlatSymbolRefAttr state;
  Attribute limit;
  if (parser.parseKeyword(&event)) {
    return failure();
  }
  if (isCalibrationSource(event)) { // its sizes
    SmallVector<Attribute> sizes;
    auto parseSize = [&]() -> ParseResult {
      FailureOr<Attribute> size = parseExtent(parser, /*allowDynamic=*/false);
      return failed(size) ? failure() : (sizes.push_back(*size), success());
    };
    if (parser.parseCommaSeparatedList(AsmParser::Delimiter::OptionalParen, parseSize)) {
      return failure();
    }
    limit = parser.getBuilder().getArrayAttr(sizes);
  } else if (succeeded(parser.parseOptionalLParen())) {
    if (event != "chunks" && (parser.parseAttribute(state) || parser.parseComma())) {
      return failure();
    }
    FailureOr<Attribute> extent = parseExtent(parser, /*allowDynamic=*/false);
    if (failed(extent) || parser.parseRParen()) {
      return failure();
    }
    limit = *extent;
  }
  return TriggerAttr::get(parser.getContext(), event, state, limit);
}

ParseResult parseBindings(OpAsmParser &parser, SmallVectorImpl<OpAsmParser::Argument> &arguments,
                          ArrayAttr &bindings) {
  SmallVector<Attribute> list;
  auto parseOne = [&]() -> ParseResult {
    OpAsmParser::Argument &argument = arguments.emplace_back();
    if (parser.parseArgument(argument) || parser.parseEqual()) {
      return failure();
    }
    FailureOr<BindingAttr> binding = parseBinding(parser);
    if (failed(binding) || parser.parseColonType(argument.type)) {
      return failure();
    }
    list.push_back(*binding);
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, parseOne)) {
    return failure();
  }
  bindings = parser.getBuilder().getArrayAttr(list);
  return success();
}

static ParseResult parsePhaseClauses(OpAsmParser &parser, OperationState &result) {
  FlatSymbolRefAttr except;
  if (succeeded(parser.parseOptionalKeyword("layers"))) {
    if (parser.parseLParen() || parser.parseKeyword("except") || parser.parseLParen() ||
        parser.parseAttribute(except) || parser.parseRParen() || parser.parseRParen()) {
      return failure();
    }
    result.addAttribute("except", except);
  }
  if (succeeded(parser.parseOptionalKeyword("scope"))) {
    if (parser.parseLParen() || parser.parseKeyword("model") || parser.parseRParen()) {
      return failure();
    }
    result.addAttribute("model_scope", parser.getBuilder().getUnitAttr());
  }
  if (succeeded(parser.parseOptionalKeyword("on"))) {
    SmallVector<Attribute> triggers;
    auto parseOne = [&]() -> ParseResult {
      FailureOr<TriggerAttr> trigger = parseTrigger(parser);
      if (failed(trigger)) {
        return failure();
      }
      triggers.push_back(*trigger);
      return success();
    };
    if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, parseOne)) {
      return failure();
    }
    result.addAttribute("triggers", parser.getBuilder().getArrayAttr(triggers));
  }
  if (succeeded(parser.parseOptionalKeyword("when"))) {
    ConditionAttr condition;
    if (parseCondition(parser, condition)) {
      return failure();
    }
    result.addAttribute("condition", condition);
  }
  return success();
}

void printBindings(OpAsmPrinter &printer, Block &block, ArrayAttr bindings) {
  printer << '(';
  llvm::interleaveComma(llvm::zip(block.getArguments(), bindings.getAsRange<BindingAttr>()),
                        printer.getStream(), [&](auto pair) {
                          BlockArgument argument = std::get<0>(pair);
                          printer << argument << " = " << std::get<1>(pair).str() << " : "
                                  << argument.getType();
                        });
  printer << ')';
}

ParseResult PhaseOp::parse(OpAsmParser &parser, OperationState &result) {
  SmallVector<Attribute> kinds;
  SmallVector<OpAsmParser::Argument> arguments;
  ArrayAttr bindings;
  auto parseKind = [&]() -> ParseResult {
    StringAttr kind;
    if (parseWord(parser, kind)) {
      return failure();
    }
    kinds.push_back(kind);
    return success();
  };
  if (parser.parseCommaSeparatedList(parseKind) || parseBindings(parser, arguments, bindings)) {
    return failure();
  }
  result.addAttribute("kinds", parser.getBuilder().getArrayAttr(kinds));
  result.addAttribute("bindings", bindings);
  if (parsePhaseClauses(parser, result) ||
      parser.parseOptionalAttrDictWithKeyword(result.attributes)) {
    return failure();
  }
  return parser.parseRegion(*result.addRegion(), arguments);
}

void PhaseOp::print(OpAsmPrinter &printer) {
  printer << ' ';
  llvm::interleaveComma(getKinds().getAsRange<StringAttr>(), printer.getStream(),
                        [&](StringAttr kind) { printer << kind.getValue(); });
  printer << ' ';
  printBindings(printer, getBlock(), getBindings());
  if (getExcept()) {
    printer << " layers(except(" << getExceptAttr() << "))";
  }
  if (getModelScope()) {
    printer << " scope(model)";
  }
  if (getTriggers()) {
    printer << " on(";
    llvm::interleaveComma(getTriggers()->getAsRange<TriggerAttr>(), printer.getStream(),
                          [&](TriggerAttr trigger) {
                            printer << trigger.getEvent();
                            if (auto sizes = dyn_cast_or_null<ArrayAttr>(trigger.getLimit())) {
                              printer << '(';
                              llvm::interleaveComma(sizes, printer.getStream(), [&](Attribute size) {
                                printExtent(printer.getStream(), size);
                              });
                              printer << ')';
                            } else if (trigger.getLimit()) {
                              printer << '(';
                              if (trigger.getState()) {
                                printer << trigger.getState() << ", ";
                              }
                              printExtent(printer.getStream(), trigger.getLimit());
                              printer << ')';
                            }
                          });
    printer << ')';
  }
  if (getCondition()) {
    printer << " when";
    printCondition(printer, *this, *getCondition());
  }
  printer.printOptionalAttrDictWithKeyword(
      (*this)->getAttrs(), {"kinds", "bindings", "except", "triggers", "condition", "model_scope"});
  printer << ' ';
  printer.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}

/// The type that a symbol of the method gives to what is bound to it; null when it cannot be bound.
static Type typeOfSymbol(Operation *symbol) {
  if (auto state = dyn_cast<StateOp>(symbol)) {
    return state.getType();
  }
  if (auto artefact = dyn_cast<ArtefactOp>(symbol)) {
    return artefact.getType();
  }
  if (auto param = dyn_cast<ParamOp>(symbol)) {
    // One of a set of texts is bound as its place in the set.
    bool isChoice = isa<StringAttr>(param.getValue()) && param.getChoices() && !param.getType();
    if (param.isList()) { // bound as whether it holds the number of the layer
      return IntegerType::get(symbol->getContext(), 1);
    }
    return isChoice          ? Type(IndexType::get(symbol->getContext()))
           : param.getType() ? *param.getType()
                             : Type();
  }
  return {};
}

/// `layer:L`, or with the extent that `found` already has once L is bound.
static AxisAttr layerAxis(MLIRContext *context, Type found) {
  AxisAttr bound = findAxisOfKind(axesOf(found), "layer");
  return bound && bound.getTag().empty() && bound.getInteger()
             ? bound
             : AxisAttr::get(context, "layer", "", SymAttr::get(context, "L"));
}

LogicalResult verifySymbolValue(Operation *op, MethodOp method, FlatSymbolRefAttr symbol,
                                Type found) {
  Operation *target = lookupInMethod(method, symbol);
  if (!target) {
    if (hasBase(method)) {
      return success();
    }
    return op->emitOpError() << "no state, parameter or artefact " << symbol << " in method @"
                             << method.getSymName();
  }
  Type expected = typeOfSymbol(target);
  auto phase = dyn_cast<PhaseOp>(op) ? cast<PhaseOp>(op) : op->getParentOfType<PhaseOp>();
  auto perLayer = dyn_cast_or_null<AxisTensorType>(expected);
  bool ofModel =
      perLayer && !perLayer.getAxes().empty() && perLayer.getAxes().front().getName() == "layer";
  if (phase && phase.getModelScope() && perLayer && !ofModel && isa<ArtefactOp>(target)) {
    SmallVector<AxisAttr> axes{layerAxis(op->getContext(), found)};
    axes.append(perLayer.getAxes().begin(), perLayer.getAxes().end());
    expected = perLayer.withAxes(axes);
  }
  bool ownPart = ofModel && phase && phase == op && !phase.getModelScope() &&
                 isa<ArtefactOp>(target) && typeOfOneLayer(expected) == found;
  if (expected == found || ownPart) {
    return success();
  }
  InFlightDiagnostic error = op->emitOpError() << symbol << ": expected type ";
  if (expected) {
    error << expected;
  } else {
    error << "of a number or boolean";
  }
  error << ", got " << found;
  error.attachNote(target->getLoc()) << "declared here";
  return error;
}

/// C11 of a phase whose trigger is a source.
static LogicalResult verifySource(PhaseOp phase, TriggerAttr trigger) {
  auto sizes = dyn_cast_or_null<ArrayAttr>(trigger.getLimit());
  bool alone = phase.getKinds().size() == 1 && phase.hasKind("calibrate") &&
               phase.getTriggers()->size() == 1 && !phase.getModelScope();
  if (!alone || !sizes || sizes.size() != 2) {
    return phase.emitOpError() << "expected text(n, tokens), repeat(n, times) or needle(n, tokens) as the one "
                                  "trigger of a phase calibrate of one layer";
  }
  for (Attribute size : sizes) {
    auto number = dyn_cast<IntegerAttr>(size);
    if (number && number.getInt() < 1) {
      return phase.emitOpError() << trigger.getEvent() << ": expected sizes of at least 1, got "
                                 << number.getInt();
    }
  }
  // Phases may not have been checked yet.
  auto next = phase.getBlock().empty() ? NextOp() : dyn_cast<NextOp>(phase.getBlock().back());
  if (!next) {
    return success();
  }
  for (auto [name, value] : llvm::zip(next.getNames(), next.getValues())) {
    auto tensor = dyn_cast<AxisTensorType>(value.getType());
    if (!isa<StringAttr>(name) || !tensor || !tensor.getElementType() ||
        !tensor.getElementType().isF32()) {
      return phase.emitOpError() << trigger.getEvent()
                                 << ": the mean over sequences is taken, expected named tensors of f32, got "
                                 << name << " : " << value.getType();
    }
  }
  return success();
}

static LogicalResult verifyTrigger(PhaseOp phase, MethodOp method, TriggerAttr trigger) {
  if (isCalibrationSource(trigger.getEvent())) { // C11
    return verifySource(phase, trigger);
  }
  if (trigger.getEvent() == "chunks") {
    bool takesRows = phase.hasKind("prefill") || phase.hasKind("ingest") || phase.hasKind("decode");
    bool bad = !trigger.getLimit() || trigger.getState() || !takesRows;
    return bad ? phase.emitOpError() << "expected chunks(n) of a phase prefill" : success();
  }
  bool longer = trigger.getEvent() == "longer";
  if ((trigger.getEvent() != "prompt_end" && trigger.getEvent() != "step_end" && !longer) ||
      longer != static_cast<bool>(trigger.getState())) {
    return phase.emitOpError()
           << "expected a trigger prompt_end, step_end, longer(@state, budget) or chunks(n), got '"
           << trigger.getEvent() << "'";
  }
  if (!longer) {
    return success();
  }
  auto state = dyn_cast_or_null<StateOp>(lookupInMethod(method, trigger.getState()));
  if (state ? !isa<CacheType>(state.getType()) : !hasBase(method)) {
    return phase.emitOpError() << "longer: expected a cache state, got " << trigger.getState();
  }
  return success();
}

int64_t PhaseOp::getChunkRows() {
  for (auto trigger :
       getTriggers().value_or(ArrayAttr::get(getContext(), {})).getAsRange<TriggerAttr>()) {
    auto rows = dyn_cast_or_null<IntegerAttr>(trigger.getLimit());
    if (trigger.getEvent() == "chunks" && rows) {
      return rows.getInt();
    }
  }
  return 0;
}

LogicalResult PhaseOp::verify() {
  auto method = (*this)->getParentOfType<MethodOp>();
  llvm::StringSet<> seen;
  for (StringAttr kind : getKinds().getAsRange<StringAttr>()) { // C1
    if (!llvm::is_contained(phaseKinds, kind.getValue()) || !seen.insert(kind.getValue()).second) {
      return emitOpError() << "expected distinct kinds among calibrate, prefill, decode, score, "
                              "allocate, select, compress, query, probe and draft, got '"
                           << kind.getValue() << "'";
    }
  }
  if (getBindings().size() != getBlock().getNumArguments()) { // C2
    return emitOpError() << "expected one binding for each of " << getBlock().getNumArguments()
                         << " arguments, got " << getBindings().size();
  }
  for (auto [binding, type] :
       llvm::zip_equal(getBindings().getAsRange<BindingAttr>(), getBlock().getArgumentTypes())) {
    if (!llvm::is_contained(roles, binding.getRole()) && !anyYields(method, binding.getRole()) &&
        !hasBase(method)) { // C2
      return emitOpError() << "unknown role '" << binding.getRole()
                           << "', expected query, key, value, pos, ids, last_queries(n), "
                              "draft_queries(n), request(name), length, prompt_length, step, rows, layer, "
                              "layers, budget, score, keep, a symbol or a result that a phase of "
                              "the method yields";
    }
    if (takesArgument(binding.getRole()) != (binding.getArgument() && !binding.getSymbol())) { // C2
      return emitOpError() << "expected last_queries(n), draft_queries(n) or request(name), and no argument of "
                              "other roles, got '"
                           << binding.str() << "'";
    }
    if (binding.getRole() == "request" || binding.getRole() == "ids") { // C2
      auto tensor = dyn_cast<AxisTensorType>(type);
      bool table = tensor && tensor.getAxes().size() == 1 && tensor.getElementType() &&
                   tensor.getElementType().isInteger(32);
      bool rows = table && tensor.getAxes().front().getName() == "query";
      if (binding.getRole() == "ids" ? !rows : !table && !type.isIntOrIndex()) {
        return emitOpError() << binding.str() << ": expected a tensor of i32 along "
                             << (binding.getRole() == "ids" ? "query" : "one axis, or an integer")
                             << ", got " << type;
      }
    }
    if (getModelScope() && (isRowRole(binding.getRole()) || isa<CacheType>(type))) { // C7
      return emitOpError() << "scope(model): expected what exists for all layers at once, got '"
                           << binding.str() << "'";
    }
    if (binding.getSymbol() &&
        failed(verifySymbolValue(*this, method, binding.getSymbol(), type))) { // C3
      return failure();
    }
  }
  for (TriggerAttr trigger :
       getTriggers().value_or(ArrayAttr::get(getContext(), {})).getAsRange<TriggerAttr>()) { // C4
    if (failed(verifyTrigger(*this, method, trigger))) {
      return failure();
    }
  }
  if (getExcept()) { // C5
    auto list = dyn_cast_or_null<ParamOp>(lookupInMethod(method, getExceptAttr()));
    if (list ? !list.isList() : !hasBase(method)) {
      return emitOpError() << "layers(except(..)): expected a list parameter, got "
                           << getExceptAttr();
    }
  }
  if (getModelScope() && !hasKind("calibrate") && !hasKind("allocate") && !hasKind("select") &&
      !hasKind("prompt_model") && !hasKind("calibrate_model")) { // C7
    return emitOpError() << "scope(model): expected a phase calibrate, allocate or select";
  }
  if (failed(verifySecondLook(*this, method))) {
    return failure();
  }
  return verifyCondition(*this, getCondition()); // C6
}

// ---- next ----

Value NextOp::getValueFor(StringRef nameOrSymbol) {
  for (auto [name, value] : llvm::zip_equal(getNames(), getValues())) {
    auto symbol = dyn_cast<FlatSymbolRefAttr>(name);
    StringRef text = symbol ? symbol.getValue() : cast<StringAttr>(name).getValue();
    if (symbol ? nameOrSymbol.starts_with("@") && nameOrSymbol.drop_front() == text
               : nameOrSymbol == text) {
      return value;
    }
  }
  return {};
}

ParseResult NextOp::parse(OpAsmParser &parser, OperationState &result) {
  SmallVector<Attribute> names;
  SmallVector<OpAsmParser::UnresolvedOperand> operands;
  SmallVector<Type> types;
  SMLoc loc = parser.getCurrentLocation();
  do {
    FlatSymbolRefAttr symbol;
    StringRef word;
    if (parser.parseOptionalAttribute(symbol).has_value()) {
      if (!symbol) {
        return failure();
      }
      names.push_back(symbol);
    } else if (names.empty() && failed(parser.parseOptionalKeyword(&word))) {
      break; // a program that changes nothing
    } else if (!names.empty() && parser.parseKeyword(&word)) {
      return failure();
    } else {
      names.push_back(parser.getBuilder().getStringAttr(word));
    }
    if (parser.parseEqual() || parser.parseOperand(operands.emplace_back()) ||
        parser.parseColonType(types.emplace_back())) {
      return failure();
    }
  } while (succeeded(parser.parseOptionalComma()));
  if (parser.parseOptionalAttrDict(result.attributes)) {
    return failure();
  }
  result.addAttribute("names", parser.getBuilder().getArrayAttr(names));
  return parser.resolveOperands(operands, types, loc, result.operands);
}

void NextOp::print(OpAsmPrinter &printer) {
  printer << (getNames().empty() ? "" : " ");
  llvm::interleaveComma(llvm::zip(getNames(), getValues()), printer.getStream(), [&](auto pair) {
    Attribute name = std::get<0>(pair);
    if (auto word = dyn_cast<StringAttr>(name)) {
      printer << word.getValue();
    } else {
      printer << name;
    }
    printer << " = " << std::get<1>(pair) << " : " << std::get<1>(pair).getType();
  });
  printer.printOptionalAttrDict((*this)->getAttrs(), {"names"});
}

/// C3, C4 of a phase that says which rows the next layer sees.
static LogicalResult verifyPassedRows(NextOp next, MethodOp method, Type type) {
  auto phase = next->getParentOfType<PhaseOp>();
  auto rows = dyn_cast<IndexSetType>(type);
  bool alone =
      phase.getKinds().size() == 1 && (phase.hasKind("prefill") || phase.hasKind("ingest"));
  if (!alone || phase.getTriggers()) { // C3
    return next.emitOpError()
           << "rows: expected a phase that is prefill alone and takes its prompt at once";
  }
  if (!rows || rows.getAxes().size() != 1 || rows.getAxes().front().getKind() != "query" ||
      StringRef(rows.getDomain()).split('.').first != "query") { // C3
    return next.emitOpError() << "rows: expected a selection of rows of the event, as "
                                 "!kvcache.index<query.keep:? of query>, got "
                              << type;
  }
  for (auto other : method.getBody().front().getOps<PhaseOp>()) {
    for (auto [binding, argument] : llvm::zip(other.getBindings().getAsRange<BindingAttr>(),
                                              other.getBlock().getArgumentTypes())) {
      auto table = dyn_cast<AxisTensorType>(argument);
      bool ofRows = table && (findAxisOfKind(table.getAxes(), "query") ||
                              findAxisOfKind(table.getAxes(), "token"));
      if (binding.getRole() == "request" && ofRows) { // C4
        return next.emitOpError()
               << "rows: layers see different rows, expected no table along rows, got '"
               << binding.str() << "'";
      }
    }
  }
  return success();
}

LogicalResult NextOp::verify() {
  auto method = (*this)->getParentOfType<MethodOp>();
  if (getNames().size() != getValues().size()) { // C1
    return emitOpError() << "expected one name for each of " << getValues().size()
                         << " values, got " << getNames().size();
  }
  llvm::SmallPtrSet<Attribute, 8> seen;
  for (auto [name, value] : llvm::zip_equal(getNames(), getValues())) {
    auto word = dyn_cast<StringAttr>(name);
    if (!word && !isa<FlatSymbolRefAttr>(name)) { // C1
      return emitOpError() << "expected a name or a symbol, got " << name;
    }
    if (word && !isResultRole(word.getValue()) &&
        (isEventRole(word.getValue()) ||
         (!anyTakes(method, word.getValue()) && !hasBase(method)))) { // C1
      return emitOpError() << "expected a result out, score, budget, keep, rows, @symbol or one that a "
                              "phase of the method takes, got '"
                           << word.getValue() << "'";
    }
    if (!seen.insert(name).second) { // C1
      return emitOpError() << "result " << name << " appears twice";
    }
    if (word && word.getValue() == "rows" &&
        failed(verifyPassedRows(*this, method, value.getType()))) {
      return failure();
    }
    if (auto symbol = dyn_cast<FlatSymbolRefAttr>(name)) { // C2
      if (isa_and_nonnull<ParamOp>(lookupInMethod(method, symbol))) {
        return emitOpError() << "expected a state or an artefact, got parameter " << symbol;
      }
      auto artefact = dyn_cast_or_null<ArtefactOp>(lookupInMethod(method, symbol));
      if (artefact && artefact.getFromFile()) {
        return emitOpError() << "expected no " << symbol << ": the artefact is from a file";
      }
      if (failed(verifySymbolValue(*this, method, symbol, value.getType()))) {
        return failure();
      }
    }
  }
  return success();
}

} // namespace mlir::kvcache
