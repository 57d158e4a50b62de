// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text of the attributes. Inside types, axes, columns and storage terms print without a wrapper;
// what is printed is what is parsed.

#include "dialect/KVCacheAttrs.h"

#include "dialect/KVCacheDialect.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "runtime/abi/StorageTerm.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"

#include <charconv>

#define GET_ATTRDEF_CLASSES
#include "dialect/KVCacheAttrs.cpp.inc"

namespace mlir::kvcache {

void KVCacheDialect::registerAttrs() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialect/KVCacheAttrs.cpp.inc"
      >();
}

// ---- extents and axes ----

FailureOr<Attribute> parseExtent(AsmParser &parser, bool allowDynamic) {
  MLIRContext *context = parser.getContext();
  if (allowDynamic && succeeded(parser.parseOptionalQuestion())) {
    return Attribute(UnitAttr::get(context));
  }
  int64_t value;
  OptionalParseResult number = parser.parseOptionalInteger(value);
  if (number.has_value()) {
    if (failed(*number)) {
      return failure();
    }
    return Attribute(IntegerAttr::get(IntegerType::get(context, 64), value));
  }
  StringRef symbol;
  if (failed(parser.parseOptionalKeyword(&symbol))) {
    return parser.emitError(parser.getCurrentLocation(), "expected an integer")
           << (allowDynamic ? ", a symbol or '?'" : " or a symbol");
  }
  return Attribute(SymAttr::get(context, symbol));
}

void printExtent(raw_ostream &os, Attribute extent) {
  if (auto number = dyn_cast<IntegerAttr>(extent)) {
    os << number.getInt();
  } else if (auto symbol = dyn_cast<SymAttr>(extent)) {
    os << symbol.getName();
  } else {
    os << '?';
  }
}

static bool isAxisKind(StringRef kind) {
  return llvm::StringSwitch<bool>(kind)
      .Cases({"layer", "head", "group", "query", "token", "channel", "rank", "cluster"}, true)
      .Cases({"page", "segment", "code", "frame", "patch"}, true)
      .Default(false);
}

FailureOr<AxisAttr> parseAxisAfterColon(AsmParser &parser, StringRef name, SMLoc loc) {
  auto [kind, tag] = name.split('.');
  if (!isAxisKind(kind)) {
    return parser.emitError(loc, "unknown axis kind '")
           << kind
           << "', expected layer, head, group, query, token, channel, rank, cluster, page, "
              "segment, code, frame or patch";
  }
  if (tag.contains('.') || name.ends_with(".")) {
    return parser.emitError(loc, "expected one tag after the axis kind, got '") << name << "'";
  }
  FailureOr<Attribute> extent = parseExtent(parser, /*allowDynamic=*/true);
  if (failed(extent)) {
    return failure();
  }
  auto number = dyn_cast<IntegerAttr>(*extent);
  if (number && number.getInt() < 0) {
    return parser.emitError(loc, "expected an extent of at least 0, got ") << number.getInt();
  }
  return AxisAttr::get(parser.getContext(), kind, tag, *extent);
}

std::string AxisAttr::getName() const {
  return getTag().empty() ? getKind().str() : (getKind() + "." + getTag()).str();
}

std::string AxisAttr::str() const {
  std::string text = getName() + ":";
  llvm::raw_string_ostream os(text);
  printExtent(os, getExtent());
  return text;
}

bool AxisAttr::isDynamic() const { return isa<UnitAttr>(getExtent()); }

std::optional<int64_t> AxisAttr::getInteger() const {
  auto number = dyn_cast<IntegerAttr>(getExtent());
  return number ? std::optional<int64_t>(number.getInt()) : std::nullopt;
}

StringRef AxisAttr::getSymbol() const {
  auto symbol = dyn_cast<SymAttr>(getExtent());
  return symbol ? symbol.getName() : StringRef();
}

AxisAttr AxisAttr::withTag(StringRef tag) const {
  return get(getContext(), getKind(), tag, getExtent());
}

Attribute AxisAttr::parse(AsmParser &parser, Type) {
  StringRef name;
  SMLoc loc;
  if (parser.parseLess() || parser.getCurrentLocation(&loc) || parser.parseKeyword(&name) ||
      parser.parseColon()) {
    return {};
  }
  FailureOr<AxisAttr> axis = parseAxisAfterColon(parser, name, loc);
  return failed(axis) || parser.parseGreater() ? AxisAttr() : *axis;
}

void AxisAttr::print(AsmPrinter &printer) const { printer << '<' << str() << '>'; }

// ---- storage ----

/// Reads one balanced term of the storage grammar from the token stream and appends its text.
static ParseResult readStorageText(AsmParser &parser, std::string &text, StringRef first,
                                   int depth) {
  auto readAtom = [&]() -> ParseResult {
    StringRef word;
    if (!first.empty()) {
      text += first;
      first = {};
      return success();
    }
    if (succeeded(parser.parseOptionalKeyword(&word))) {
      text += word;
      return success();
    }
    if (succeeded(parser.parseOptionalStar())) {
      text += '*';
      return success();
    }
    int64_t integer;
    OptionalParseResult parsed = parser.parseOptionalInteger(integer);
    if (parsed.has_value()) {
      text += std::to_string(integer);
      return *parsed;
    }
    double number;
    SMLoc loc = parser.getCurrentLocation();
    if (parser.parseFloat(number)) {
      return parser.emitError(loc, "expected a storage term");
    }
    char buffer[32];
    text.append(buffer, std::to_chars(buffer, buffer + sizeof(buffer), number).ptr);
    return success();
  };
  if (depth > 8) {
    return parser.emitError(parser.getCurrentLocation(), "expected at most 8 nested storage terms");
  }
  if (readAtom()) {
    return failure();
  }
  auto readList = [&](char open, char close, auto closer) -> ParseResult {
    text += open;
    do {
      if (text.back() != open) {
        text += ", ";
      }
      if (readStorageText(parser, text, {}, depth + 1)) {
        return failure();
      }
    } while (succeeded(parser.parseOptionalComma()));
    text += close;
    return closer();
  };
  if (succeeded(parser.parseOptionalColon())) {
    text += ':';
    if (readAtom()) {
      return failure();
    }
    if (succeeded(parser.parseOptionalKeyword("of"))) {
      text += " of ";
      return readAtom();
    }
    return success();
  }
  if (succeeded(parser.parseOptionalLess())) {
    return readList('<', '>', [&] { return parser.parseGreater(); });
  }
  if (succeeded(parser.parseOptionalLParen())) {
    return readList('(', ')', [&] { return parser.parseRParen(); });
  }
  return success();
}

FailureOr<StorageAttr> parseStorage(AsmParser &parser, StringRef first) {
  std::string text, error;
  SMLoc loc = parser.getCurrentLocation();
  if (readStorageText(parser, text, first, 0)) {
    return failure();
  }
  std::shared_ptr<const ::kvcache::abi::StorageTerm> term =
      ::kvcache::abi::parseStorageTerm(text, error);
  if (!term) {
    return parser.emitError(loc, error);
  }
  return StorageAttr::get(parser.getContext(), *term);
}

StorageAttr StorageAttr::get(MLIRContext *context, const ::kvcache::abi::StorageTerm &term) {
  return get(context, term.str());
}

std::shared_ptr<const ::kvcache::abi::StorageTerm> StorageAttr::getTerm() const {
  std::string error;
  auto term = ::kvcache::abi::parseStorageTerm(getText(), error);
  assert(term && "a storage attribute holds text that parses");
  return term;
}

bool StorageAttr::isDense() const { return getTerm()->kind == ::kvcache::abi::TermKind::Dense; }
bool StorageAttr::isAct() const { return getText() == "act"; }

Attribute StorageAttr::parse(AsmParser &parser, Type) {
  if (parser.parseLess()) {
    return {};
  }
  FailureOr<StorageAttr> storage = parseStorage(parser);
  return failed(storage) || parser.parseGreater() ? StorageAttr() : *storage;
}

void StorageAttr::print(AsmPrinter &printer) const { printer << '<' << getText() << '>'; }

// ---- columns, bindings ----

Attribute ColumnAttr::parse(AsmParser &parser, Type) {
  StringRef name;
  SmallVector<AxisAttr> axes;
  if (parser.parseLess() || parser.parseKeyword(&name)) {
    return {};
  }
  auto parseAxis = [&]() -> ParseResult {
    StringRef axisName;
    SMLoc loc = parser.getCurrentLocation();
    if (parser.parseKeyword(&axisName) || parser.parseColon()) {
      return failure();
    }
    FailureOr<AxisAttr> axis = parseAxisAfterColon(parser, axisName, loc);
    if (failed(axis)) {
      return failure();
    }
    axes.push_back(*axis);
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::OptionalSquare, parseAxis) ||
      parser.parseEqual()) {
    return {};
  }
  FailureOr<StorageAttr> storage = parseStorage(parser);
  if (failed(storage) || parser.parseGreater()) {
    return {};
  }
  return get(parser.getContext(), name, axes, *storage);
}

void ColumnAttr::print(AsmPrinter &printer) const {
  printer << '<' << getName();
  if (!getAxes().empty()) {
    printer << " [";
    llvm::interleaveComma(getAxes(), printer.getStream(),
                          [&](AxisAttr axis) { printer << axis.str(); });
    printer << ']';
  }
  printer << " = " << getStorage().getText() << '>';
}

FlatSymbolRefAttr BindingAttr::getSymbol() const {
  return getRole() == "symbol" ? dyn_cast_or_null<FlatSymbolRefAttr>(getArgument())
                               : FlatSymbolRefAttr();
}

std::string BindingAttr::str() const {
  if (FlatSymbolRefAttr symbol = getSymbol()) {
    return "@" + symbol.getValue().str();
  }
  std::string text = getRole().str();
  if (getArgument()) {
    llvm::raw_string_ostream os(text);
    os << '(';
    if (auto table = dyn_cast<StringAttr>(getArgument())) {
      os << table.getValue();
    } else {
      printExtent(os, getArgument());
    }
    os << ')';
  }
  return text;
}

} // namespace mlir::kvcache
