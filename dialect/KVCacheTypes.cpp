// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text and invariants of the types: axis names are unique, a cache has columns with distinct names.

#include "dialect/KVCacheTypes.h"

#include "dialect/KVCacheDialect.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "runtime/abi/StorageTerm.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"

#define GET_TYPEDEF_CLASSES
#include "dialect/KVCacheTypes.cpp.inc"

namespace mlir::kvcache {

void KVCacheDialect::registerTypes() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/KVCacheTypes.cpp.inc"
      >();
}

static LogicalResult verifyDistinct(function_ref<InFlightDiagnostic()> emitError,
                                    ArrayRef<AxisAttr> axes) {
  llvm::StringSet<> seen;
  for (AxisAttr axis : axes) {
    if (!seen.insert(axis.getName()).second) {
      return emitError() << "axis '" << axis.getName() << "' appears twice";
    }
  }
  return success();
}

static void printAxes(AsmPrinter &printer, ArrayRef<AxisAttr> axes) {
  llvm::interleaveComma(axes, printer.getStream(), [&](AxisAttr axis) { printer << axis.str(); });
}

/// Reads `name:extent` axes and commas until a keyword that no colon follows (returned in `stop`),
/// or until the separator is missing or the next token is no keyword (`stop` stays empty).
static ParseResult parseAxes(AsmParser &parser, SmallVectorImpl<AxisAttr> &axes, StringRef &stop) {
  while (true) {
    StringRef name;
    SMLoc loc = parser.getCurrentLocation();
    if (failed(parser.parseOptionalKeyword(&name))) {
      return success();
    }
    if (failed(parser.parseOptionalColon())) {
      stop = name;
      return success();
    }
    FailureOr<AxisAttr> axis = parseAxisAfterColon(parser, name, loc);
    if (failed(axis)) {
      return failure();
    }
    axes.push_back(*axis);
    if (failed(parser.parseOptionalComma())) {
      return success();
    }
  }
}

// ---- tensor ----

static Type builtinElement(MLIRContext *context, StringRef name) {
  Builder b(context);
  return llvm::StringSwitch<function_ref<Type()>>(name)
      .Case("f32", [&]() -> Type { return b.getF32Type(); })
      .Case("f16", [&]() -> Type { return b.getF16Type(); })
      .Case("bf16", [&]() -> Type { return b.getBF16Type(); })
      .Case("i1", [&]() -> Type { return b.getI1Type(); })
      .Case("i32", [&]() -> Type { return b.getI32Type(); })
      .Case("i64", [&]() -> Type { return b.getI64Type(); })
      .Default([]() -> Type { return {}; })();
}

Type AxisTensorType::parse(AsmParser &parser) {
  SmallVector<AxisAttr> axes;
  StringRef stop;
  if (parser.parseLess() || parseAxes(parser, axes, stop)) {
    return {};
  }
  if (stop.empty()) {
    parser.emitError(parser.getCurrentLocation(),
                     "expected an element type or a storage term after the axes");
    return {};
  }
  Attribute element;
  if (Type type = builtinElement(parser.getContext(), stop)) {
    element = TypeAttr::get(type);
  } else {
    FailureOr<StorageAttr> storage = parseStorage(parser, stop);
    if (failed(storage)) {
      return {};
    }
    element = *storage;
  }
  if (parser.parseGreater()) {
    return {};
  }
  return getChecked([&] { return parser.emitError(parser.getNameLoc()); }, parser.getContext(),
                    axes, element);
}

void AxisTensorType::print(AsmPrinter &printer) const {
  printer << '<';
  printAxes(printer, getAxes());
  if (!getAxes().empty()) {
    printer << ", ";
  }
  if (StorageAttr storage = getStorage()) {
    printer << storage.getText();
  } else {
    printer << getElementType();
  }
  printer << '>';
}

LogicalResult AxisTensorType::verify(function_ref<InFlightDiagnostic()> emitError,
                                     ArrayRef<AxisAttr> axes, Attribute element) {
  if (!isa<TypeAttr, StorageAttr>(element)) {
    return emitError() << "expected an element type or a storage term";
  }
  return verifyDistinct(emitError, axes);
}

Type AxisTensorType::getElementType() const {
  auto type = dyn_cast<TypeAttr>(getElement());
  return type ? type.getValue() : Type();
}
StorageAttr AxisTensorType::getStorage() const { return dyn_cast<StorageAttr>(getElement()); }
bool AxisTensorType::isAct() const { return getStorage() && getStorage().isAct(); }
bool AxisTensorType::isCoded() const { return getStorage() && !getStorage().isDense(); }
AxisTensorType AxisTensorType::withAxes(ArrayRef<AxisAttr> axes) const {
  return get(getContext(), axes, getElement());
}
AxisTensorType AxisTensorType::get(MLIRContext *context, ArrayRef<AxisAttr> axes, Type element) {
  return get(context, axes, Attribute(TypeAttr::get(element)));
}

// ---- index set ----

Type IndexSetType::parse(AsmParser &parser) {
  SmallVector<AxisAttr> axes;
  StringRef stop, domain;
  SMLoc loc;
  // Without axes (one position) the list is empty and `of` comes first.
  if (parser.parseLess() || parseAxes(parser, axes, stop)) {
    return {};
  }
  if ((stop.empty() && parser.parseKeyword("of")) || parser.getCurrentLocation(&loc) ||
      parser.parseKeyword(&domain) || parser.parseGreater()) {
    return {};
  }
  if (!stop.empty() && stop != "of") {
    parser.emitError(loc, "expected 'of' and the domain axis after the axes");
    return {};
  }
  return getChecked([&] { return parser.emitError(loc); }, parser.getContext(), axes, domain);
}

void IndexSetType::print(AsmPrinter &printer) const {
  printer << '<';
  printAxes(printer, getAxes());
  printer << (getAxes().empty() ? "of " : " of ") << getDomain() << '>';
}

LogicalResult IndexSetType::verify(function_ref<InFlightDiagnostic()> emitError,
                                   ArrayRef<AxisAttr> axes, StringRef domain) {
  for (AxisAttr axis : axes) {
    if (axis.getName() == domain) {
      return emitError() << "axis '" << domain
                         << "' is both an axis and the domain of the index set";
    }
  }
  return verifyDistinct(emitError, axes);
}

bool IndexSetType::isSelection() const {
  // The domain may have a tag of its own: channel.keep of channel.post.
  return !getAxes().empty() && !getAxes().back().getTag().empty() &&
         getAxes().back().getKind() == StringRef(getDomain()).split('.').first;
}

// ---- cache ----

static ParseResult parseColumn(AsmParser &parser, SmallVectorImpl<ColumnAttr> &columns) {
  StringRef name, stop;
  SmallVector<AxisAttr> axes;
  if (parser.parseKeyword(&name)) {
    return failure();
  }
  if (succeeded(parser.parseOptionalLSquare())) {
    SMLoc loc = parser.getCurrentLocation();
    if (parseAxes(parser, axes, stop)) {
      return failure();
    }
    if (!stop.empty()) {
      return parser.emitError(loc, "expected feature axes 'name:extent', got '") << stop << "'";
    }
    if (parser.parseRSquare()) {
      return failure();
    }
  }
  if (parser.parseEqual()) {
    return failure();
  }
  FailureOr<StorageAttr> storage = parseStorage(parser);
  if (failed(storage)) {
    return failure();
  }
  columns.push_back(ColumnAttr::get(parser.getContext(), name, axes, *storage));
  return success();
}

Type CacheType::parse(AsmParser &parser) {
  SmallVector<AxisAttr> rows;
  SmallVector<ColumnAttr> columns;
  StringRef stop;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess() || parser.parseKeyword("append") || parser.parseComma() ||
      parseAxes(parser, rows, stop)) {
    return {};
  }
  if (!stop.empty()) {
    parser.emitError(loc, "expected row axes 'name:extent', got '") << stop << "'";
    return {};
  }
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Braces,
                                     [&] { return parseColumn(parser, columns); }) ||
      parser.parseGreater()) {
    return {};
  }
  return getChecked([&] { return parser.emitError(loc); }, parser.getContext(), rows, columns);
}

void CacheType::print(AsmPrinter &printer) const {
  printer << "<append, ";
  printAxes(printer, getRows());
  printer << ", {";
  llvm::interleaveComma(getColumns(), printer.getStream(), [&](ColumnAttr column) {
    printer << column.getName();
    if (!column.getAxes().empty()) {
      printer << " [";
      printAxes(printer, column.getAxes());
      printer << ']';
    }
    printer << " = " << column.getStorage().getText();
  });
  printer << "}>";
}

LogicalResult CacheType::verify(function_ref<InFlightDiagnostic()> emitError,
                                ArrayRef<AxisAttr> rows, ArrayRef<ColumnAttr> columns) {
  if (rows.empty() || rows.back().getKind() != "token") {
    return emitError() << "expected row axes that end in a token axis"
                       << (rows.empty() ? "" : ", got '" + rows.back().getName() + "'");
  }
  llvm::StringSet<> seen;
  for (ColumnAttr column : columns) {
    if (!seen.insert(column.getName()).second) {
      return emitError() << "column '" << column.getName() << "' appears twice";
    }
    SmallVector<AxisAttr> all(rows);
    all.append(column.getAxes().begin(), column.getAxes().end());
    if (failed(verifyDistinct(emitError, all))) {
      return failure();
    }
  }
  return success();
}

ColumnAttr CacheType::getColumn(StringRef name) const {
  for (ColumnAttr column : getColumns()) {
    if (column.getName() == name) {
      return column;
    }
  }
  return {};
}

AxisTensorType CacheType::getColumnType(StringRef name) const {
  ColumnAttr column = getColumn(name);
  if (!column) {
    return {};
  }
  SmallVector<AxisAttr> axes(getRows());
  axes.append(column.getAxes().begin(), column.getAxes().end());
  StorageAttr storage = column.getStorage();
  if (storage.isDense() && !storage.isAct()) {
    if (Type element = builtinElement(getContext(), storage.getText())) {
      return AxisTensorType::get(getContext(), axes, element);
    }
  }
  return AxisTensorType::get(getContext(), axes, Attribute(StorageAttr::get(getContext(), "act")));
}

} // namespace mlir::kvcache
