// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text and checks of the structure ops. A method with a base (a parameter of kind `method`) may
// name symbols of that base; whether they exist is decided when the two are put together.

#include "dialect/MethodOps.h"

#include "dialect/KVCacheDialect.h"
#include "dialect/PrimitiveOps.h"
#include "dialect/SelectOps.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "runtime/abi/StorageTerm.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"

#define GET_OP_CLASSES
#include "dialect/MethodOps.cpp.inc"

namespace mlir::kvcache {

void registerMethodOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/MethodOps.cpp.inc"
      >(dialect);
}

/// True when symbols that are missing here may come from a base method.
static bool hasBase(MethodOp method) {
  return llvm::any_of(method.getOps<ParamOp>(), [](ParamOp param) { return param.getIsMethod(); });
}

static Operation *lookup(MethodOp method, FlatSymbolRefAttr symbol) {
  return SymbolTable::lookupSymbolIn(method, symbol.getAttr());
}

StringRef MethodOp::getInfoText(StringRef key) {
  auto text = getInfo() ? getInfo()->getAs<StringAttr>(key) : StringAttr();
  return text ? text.getValue() : StringRef();
}

//===-- param
//----------------------------------------------------------------------------------------===//

bool ParamOp::isExpression() { return isa<StringAttr>(getValue()) && getType(); }
bool ParamOp::isList() { return isa<ArrayAttr>(getValue()); }

static bool atMost(Attribute a, Attribute b) {
  if (auto x = dyn_cast<IntegerAttr>(a)) {
    return x.getInt() <= cast<IntegerAttr>(b).getInt();
  }
  return cast<FloatAttr>(a).getValueAsDouble() <= cast<FloatAttr>(b).getValueAsDouble();
}

static std::string plain(Attribute value) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (auto number = dyn_cast<IntegerAttr>(value)) {
    os << number.getInt();
  } else {
    value.print(os, /*elideType=*/true);
  }
  return text;
}

bool ParamOp::allows(Attribute value, std::string &reason) {
  if (isExpression() || !(getRange() || getChoices())) {
    return true;
  }
  if (ArrayAttr range = getRangeAttr()) {
    reason = "expected @" + getSymName().str() + " in [" + plain(range[0]) + ", " +
             plain(range[1]) + "], got " + plain(value);
    return atMost(range[0], value) && atMost(value, range[1]);
  }
  reason = "expected @" + getSymName().str() + " in {";
  llvm::raw_string_ostream os(reason);
  llvm::interleaveComma(*getChoices(), os, [&](Attribute choice) { os << plain(choice); });
  os << "}, got " << plain(value);
  return llvm::is_contained(*getChoices(), value);
}

/// `in [least, most]` or `in {a, b, ..}`, numbers in the type of the default.
static ParseResult parseLegalValues(OpAsmParser &parser, Type type, OperationState &result) {
  SmallVector<Attribute> values;
  SMLoc loc = parser.getCurrentLocation();
  bool isSet = succeeded(parser.parseOptionalLBrace());
  if (!isSet && parser.parseLSquare()) {
    return failure();
  }
  auto parseOne = [&]() -> ParseResult {
    return parser.parseAttribute(values.emplace_back(), type);
  };
  if (parser.parseCommaSeparatedList(parseOne) ||
      (isSet ? parser.parseRBrace() : parser.parseRSquare())) {
    return failure();
  }
  if (!isSet && (values.size() != 2 || !isa<IntegerAttr, FloatAttr>(values[0]) ||
                 !isa<IntegerAttr, FloatAttr>(values[1]))) {
    return parser.emitError(loc,
                            "expected a range of two numbers in [..]; a set is written in {..}");
  }
  result.addAttribute(isSet ? "choices" : "range", parser.getBuilder().getArrayAttr(values));
  return success();
}

ParseResult ParamOp::parse(OpAsmParser &parser, OperationState &result) {
  StringAttr name;
  Attribute value;
  Type type;
  std::string text;
  Builder &b = parser.getBuilder();
  if (parser.parseSymbolName(name, getSymNameAttrName(result.name), result.attributes) ||
      parser.parseEqual()) {
    return failure();
  }
  if (succeeded(parser.parseOptionalString(&text))) {
    value = b.getStringAttr(text);
    if (succeeded(parser.parseOptionalColon())) {
      if (succeeded(parser.parseOptionalKeyword("method"))) {
        result.addAttribute("is_method", b.getUnitAttr());
      } else if (parser.parseType(type)) {
        return failure();
      }
    }
  } else {
    if (parser.parseAttribute(value)) {
      return failure();
    }
    if (auto typed = dyn_cast<TypedAttr>(value)) {
      type = typed.getType();
    }
  }
  result.addAttribute("value", value);
  if (type) {
    result.addAttribute("type", TypeAttr::get(type));
  }
  if (succeeded(parser.parseOptionalKeyword("in")) && parseLegalValues(parser, type, result)) {
    return failure();
  }
  return parser.parseOptionalAttrDict(result.attributes);
}

void ParamOp::print(OpAsmPrinter &printer) {
  printer << ' ';
  printer.printSymbolName(getSymName());
  printer << " = " << getValue();
  if (getIsMethod()) {
    printer << " : method";
  } else if (isExpression()) {
    printer << " : " << *getType();
  }
  if (ArrayAttr range = getRangeAttr()) {
    printer << " in [" << plain(range[0]) << ", " << plain(range[1]) << ']';
  }
  if (getChoices()) {
    printer << " in {";
    llvm::interleaveComma(*getChoices(), printer.getStream(),
                          [&](Attribute choice) { printer << plain(choice); });
    printer << '}';
  }
  printer.printOptionalAttrDict((*this)->getAttrs(),
                                {"sym_name", "value", "type", "is_method", "range", "choices"});
}

LogicalResult ParamOp::verify() {
  Attribute value = getValue();
  bool list = isList() && llvm::all_of(cast<ArrayAttr>(value),
                                       [](Attribute item) { return isa<IntegerAttr>(item); });
  if (!isa<IntegerAttr, FloatAttr, StringAttr>(value) && !list) { // C1
    return emitOpError() << "expected a number, a boolean, a text or a list of integers, got "
                         << value;
  }
  std::string reason;
  if (!allows(value, reason)) { // C2
    return emitOpError() << reason;
  }
  return success();
}

//===-- state, artefact, compose
//---------------------------------------------------------------------===//

/// C: the parameter of a condition exists and its value has the parameter's kind.
static LogicalResult verifyCondition(Operation *op, std::optional<ConditionAttr> condition) {
  auto method = op->getParentOfType<MethodOp>();
  if (!condition || !method) {
    return success();
  }
  Operation *target = lookup(method, condition->getParam());
  if (!target && hasBase(method)) {
    return success();
  }
  auto param = dyn_cast_or_null<ParamOp>(target);
  if (!param) {
    return op->emitOpError() << "condition: expected a parameter of the method, got "
                             << condition->getParam();
  }
  if (condition->getValue().getTypeID() != param.getValue().getTypeID()) {
    return op->emitOpError() << "condition: expected a value like that of " << condition->getParam()
                             << ", got " << condition->getValue();
  }
  return success();
}

static bool hasFactor(const ::kvcache::abi::StorageTerm &term) {
  return term.kind == ::kvcache::abi::TermKind::Factor || (term.inner && hasFactor(*term.inner));
}

LogicalResult StateOp::verify() {
  auto cache = dyn_cast<CacheType>(getType());
  if (!cache && !isa<AxisTensorType, IntegerType, FloatType>(getType())) { // C1
    return emitOpError() << "expected a cache, a tensor or a scalar, got " << getType();
  }
  for (ColumnAttr column : cache ? cache.getColumns() : ArrayRef<ColumnAttr>()) { // C2
    bool factor = hasFactor(*column.getStorage().getTerm());
    auto named = getFixed() ? getFixed()->getAs<ArrayAttr>(column.getName()) : ArrayAttr();
    bool pair = named && named.size() == 2 &&
                llvm::all_of(named, [](Attribute a) { return isa<FlatSymbolRefAttr>(a); });
    if (factor != pair) {
      return emitOpError() << (factor ? "expected fixed {"
                                      : "expected no entry of fixed for column '")
                           << column.getName()
                           << (factor ? " = [@basis, @mean]} for a factor column"
                                      : "': it holds no factor");
    }
  }
  if (getFixed()) {
    for (NamedAttribute entry : getFixedAttr()) { // C2
      if (!cache || !cache.getColumn(entry.getName())) {
        return emitOpError() << "fixed: no column '" << entry.getName().getValue() << "'";
      }
    }
  }
  return verifyCondition(*this, getCondition()); // C3
}

LogicalResult ArtefactOp::verify() {
  if (!isa<AxisTensorType>(getType())) { // C1
    return emitOpError() << "expected a tensor, got " << getType();
  }
  return success();
}

LogicalResult ComposeOp::verify() {
  llvm::SmallPtrSet<Attribute, 4> seen;
  for (Attribute method : getMethods()) { // C1
    if (!isa<FlatSymbolRefAttr>(method) || !seen.insert(method).second) {
      return emitOpError() << "expected distinct methods, got " << getMethods();
    }
  }
  if (seen.size() < 2) { // C1
    return emitOpError() << "expected at least two methods, got " << getMethods();
  }
  return success();
}

//===-- phase
//----------------------------------------------------------------------------------------===//

static constexpr StringLiteral phaseKinds[] = {
    "calibrate", "prefill", "decode", "score", "allocate", "select", "compress", "query",
    // programs, which replace phases at the decomposed stage
    "ingest", "attend", "prompt_end", "step_end"};
static constexpr StringLiteral roles[] = {"query",  "key",  "value", "pos",    "last_queries",
                                          "length", "rows", "layer", "layers", "budget",
                                          "score",  "keep", "symbol"};

bool PhaseOp::hasKind(StringRef kind) {
  return llvm::any_of(getKinds().getAsRange<StringAttr>(),
                      [&](StringAttr k) { return k.getValue() == kind; });
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
    FailureOr<Attribute> extent = parseExtent(parser, /*allowDynamic=*/false);
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
  if (succeeded(parser.parseOptionalLParen())) {
    if (parser.parseAttribute(state) || parser.parseComma()) {
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

static ParseResult parsePhaseArguments(OpAsmParser &parser,
                                       SmallVectorImpl<OpAsmParser::Argument> &arguments,
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
  if (parser.parseCommaSeparatedList(parseKind) ||
      parsePhaseArguments(parser, arguments, bindings)) {
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
  printer << " (";
  llvm::interleaveComma(
      llvm::zip(getBlock().getArguments(), getBindings().getAsRange<BindingAttr>()),
      printer.getStream(), [&](auto pair) {
        BlockArgument argument = std::get<0>(pair);
        printer << argument << " = " << std::get<1>(pair).str() << " : " << argument.getType();
      });
  printer << ')';
  if (getExcept()) {
    printer << " layers(except(" << getExceptAttr() << "))";
  }
  if (getTriggers()) {
    printer << " on(";
    llvm::interleaveComma(getTriggers()->getAsRange<TriggerAttr>(), printer.getStream(),
                          [&](TriggerAttr trigger) {
                            printer << trigger.getEvent();
                            if (trigger.getState()) {
                              printer << '(' << trigger.getState() << ", ";
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
      (*this)->getAttrs(), {"kinds", "bindings", "except", "triggers", "condition"});
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
    return param.getType() ? *param.getType() : Type();
  }
  return {};
}

static LogicalResult verifySymbolValue(Operation *op, MethodOp method, FlatSymbolRefAttr symbol,
                                       Type found) {
  Operation *target = lookup(method, symbol);
  if (!target) {
    if (hasBase(method)) {
      return success();
    }
    return op->emitOpError() << "no state, parameter or artefact " << symbol << " in method @"
                             << method.getSymName();
  }
  Type expected = typeOfSymbol(target);
  if (expected == found) {
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

static LogicalResult verifyTrigger(PhaseOp phase, MethodOp method, TriggerAttr trigger) {
  bool longer = trigger.getEvent() == "longer";
  if ((trigger.getEvent() != "prompt_end" && trigger.getEvent() != "step_end" && !longer) ||
      longer != static_cast<bool>(trigger.getState())) {
    return phase.emitOpError()
           << "expected a trigger prompt_end, step_end or longer(@state, budget), got '"
           << trigger.getEvent() << "'";
  }
  if (!longer) {
    return success();
  }
  auto state = dyn_cast_or_null<StateOp>(lookup(method, trigger.getState()));
  if (state ? !isa<CacheType>(state.getType()) : !hasBase(method)) {
    return phase.emitOpError() << "longer: expected a cache state, got " << trigger.getState();
  }
  return success();
}

LogicalResult PhaseOp::verify() {
  auto method = (*this)->getParentOfType<MethodOp>();
  llvm::StringSet<> seen;
  for (StringAttr kind : getKinds().getAsRange<StringAttr>()) { // C1
    if (!llvm::is_contained(phaseKinds, kind.getValue()) || !seen.insert(kind.getValue()).second) {
      return emitOpError() << "expected distinct kinds among calibrate, prefill, decode, score, "
                              "allocate, select, compress "
                              "and query, got '"
                           << kind.getValue() << "'";
    }
  }
  if (getBindings().size() != getBlock().getNumArguments()) { // C2
    return emitOpError() << "expected one binding for each of " << getBlock().getNumArguments()
                         << " arguments, got " << getBindings().size();
  }
  for (auto [binding, type] :
       llvm::zip_equal(getBindings().getAsRange<BindingAttr>(), getBlock().getArgumentTypes())) {
    if (!llvm::is_contained(roles, binding.getRole())) { // C2
      return emitOpError() << "unknown role '" << binding.getRole()
                           << "', expected query, key, value, pos, last_queries(n), length, rows, "
                              "layer, layers, budget, "
                              "score, keep or a symbol";
    }
    if ((binding.getRole() == "last_queries") !=
        (binding.getArgument() && !binding.getSymbol())) { // C2
      return emitOpError() << "expected last_queries(n), and no argument of other roles, got '"
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
    auto list = dyn_cast_or_null<ParamOp>(lookup(method, getExceptAttr()));
    if (list ? !list.isList() : !hasBase(method)) {
      return emitOpError() << "layers(except(..)): expected a list parameter, got "
                           << getExceptAttr();
    }
  }
  return verifyCondition(*this, getCondition()); // C6
}

//===-- next
//-----------------------------------------------------------------------------------------===//

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
  auto parseOne = [&]() -> ParseResult {
    FlatSymbolRefAttr symbol;
    StringAttr word;
    if (parser.parseOptionalAttribute(symbol).has_value()) {
      if (!symbol) {
        return failure();
      }
      names.push_back(symbol);
    } else if (parseWord(parser, word)) {
      return failure();
    } else {
      names.push_back(word);
    }
    return failure(parser.parseEqual() || parser.parseOperand(operands.emplace_back()) ||
                   parser.parseColonType(types.emplace_back()));
  };
  if (parser.parseCommaSeparatedList(parseOne) || parser.parseOptionalAttrDict(result.attributes)) {
    return failure();
  }
  result.addAttribute("names", parser.getBuilder().getArrayAttr(names));
  return parser.resolveOperands(operands, types, loc, result.operands);
}

void NextOp::print(OpAsmPrinter &printer) {
  printer << ' ';
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

LogicalResult NextOp::verify() {
  auto method = (*this)->getParentOfType<MethodOp>();
  if (getNames().size() != getValues().size()) { // C1
    return emitOpError() << "expected one name for each of " << getValues().size()
                         << " values, got " << getNames().size();
  }
  llvm::SmallPtrSet<Attribute, 8> seen;
  for (auto [name, value] : llvm::zip_equal(getNames(), getValues())) {
    auto word = dyn_cast<StringAttr>(name);
    if (word && word != "out" && word != "score" && word != "budget" && word != "keep") { // C1
      return emitOpError() << "expected a result out, score, budget, keep or @symbol, got '"
                           << word.getValue() << "'";
    }
    if (!seen.insert(name).second) { // C1
      return emitOpError() << "result " << name << " appears twice";
    }
    if (auto symbol = dyn_cast<FlatSymbolRefAttr>(name)) { // C2
      if (isa_and_nonnull<ParamOp>(lookup(method, symbol))) {
        return emitOpError() << "expected a state or an artefact, got parameter " << symbol;
      }
      if (failed(verifySymbolValue(*this, method, symbol, value.getType()))) {
        return failure();
      }
    }
  }
  return success();
}

} // namespace mlir::kvcache
