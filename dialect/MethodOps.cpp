// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text and checks of methods, parameters, states, artefacts and compositions. Phases: PhaseOps.cpp.

#include "dialect/MethodOps.h"

#include "dialect/CacheOps.h"
#include "dialect/KVCacheDialect.h"
#include "dialect/MethodSymbols.h"
#include "dialect/PrimitiveOps.h"
#include "dialect/ScoreOps.h"
#include "dialect/SelectOps.h"
#include "dialect/Syntax.h"
#include "mlir/IR/Builders.h"
#include "runtime/abi/StorageTerm.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"

#define GET_OP_CLASSES
#include "dialect/MethodOps.cpp.inc"

namespace mlir::kvcache {

void registerMethodOps(KVCacheDialect *dialect) {
  KVCacheDialect::addOps<
#define GET_OP_LIST
#include "dialect/MethodOps.cpp.inc"
      >(dialect);
}

bool hasBase(MethodOp method) {
  return llvm::any_of(method.getOps<ParamOp>(), [](ParamOp param) { return param.getIsMethod(); });
}

Operation *lookupInMethod(MethodOp method, FlatSymbolRefAttr symbol) {
  return SymbolTable::lookupSymbolIn(method, symbol.getAttr());
}

LogicalResult verifyCondition(Operation *op, std::optional<ConditionAttr> condition) {
  auto method = op->getParentOfType<MethodOp>();
  if (!condition || !method) {
    return success();
  }
  Operation *target = lookupInMethod(method, condition->getParam());
  if (!target && hasBase(method)) {
    return success();
  }
  auto param = dyn_cast_or_null<ParamOp>(target);
  if (!param) {
    return op->emitOpError() << "condition: expected a parameter of the method, got "
                             << condition->getParam();
  }
  SmallVector<Attribute> values{condition->getValue()};
  if (auto any = dyn_cast<ArrayAttr>(condition->getValue()); any && !param.isList()) {
    values.assign(any.begin(), any.end()); // one of several
  }
  TypeID kind = param.getValue().getTypeID();
  if (llvm::any_of(values, [=](Attribute value) { return value.getTypeID() != kind; })) {
    return op->emitOpError() << "condition: expected a value like that of " << condition->getParam()
                             << ", got " << condition->getValue();
  }
  return success();
}

StringRef MethodOp::getInfoText(StringRef key) {
  auto text = getInfo() ? getInfo()->getAs<StringAttr>(key) : StringAttr();
  return text ? text.getValue() : StringRef();
}

// ---- param ----

bool ParamOp::isExpression() { return isa<StringAttr>(getValue()) && getType(); }
bool ParamOp::isList() { return isa<ArrayAttr>(getValue()); }

static bool atMost(Attribute a, Attribute b) {
  if (auto x = dyn_cast<IntegerAttr>(a)) {
    return x.getInt() <= cast<IntegerAttr>(b).getInt();
  }
  return cast<FloatAttr>(a).getValueAsDouble() <= cast<FloatAttr>(b).getValueAsDouble();
}

/// The shortest text that reads back as the same number; MLIR wants a point in every float.
static std::string plain(FloatAttr value) {
  double exact = value.getValueAsDouble();
  std::string text;
  for (int digits = 1; digits <= 17; ++digits) {
    text = llvm::formatv("{0}", llvm::format("%.*g", digits, exact)).str();
    double number = 0;
    bool inexact = false;
    StringRef(text).getAsDouble(number);
    APFloat read(number);
    read.convert(value.getValue().getSemantics(), APFloat::rmNearestTiesToEven, &inexact);
    if (read.bitwiseIsEqual(value.getValue())) {
      break;
    }
  }
  size_t exponent = std::min(text.find('e'), text.size());
  return text.find('.') < exponent ? text : text.insert(exponent, ".0");
}

static std::string plain(Attribute value) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (auto number = dyn_cast<IntegerAttr>(value); number && !isa<BoolAttr>(value)) {
    os << number.getInt();
  } else if (auto real = dyn_cast<FloatAttr>(value)) {
    os << plain(real);
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
  printer << " = ";
  if (auto real = dyn_cast<FloatAttr>(getValue())) {
    printer << plain(real) << " : " << real.getType();
  } else {
    printer << getValue();
  }
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

// ---- state, artefact, compose ----

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
  if (failed(verifyEncoders(*this))) { // C4
    return failure();
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

} // namespace mlir::kvcache
