// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// --set name=value: the text of a value becomes an attribute of the kind the parameter has.

#include "passes/compose/Compose.h"

#include "dialect/MethodOps.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"

#include "llvm/ADT/StringExtras.h"

namespace mlir::kvcache {

namespace {

/// `text` as an attribute of the kind of `like`; null and `expected` when it is not.
Attribute parseLike(ParamOp param, StringRef text, std::string &expected) {
  Builder builder(param.getContext());
  Attribute like = param.getValue();
  if (isa<BoolAttr>(like)) {
    expected = "true or false";
    return text == "true" || text == "false" ? Attribute(builder.getBoolAttr(text == "true"))
                                             : Attribute();
  }
  if (auto integer = dyn_cast<IntegerAttr>(like)) {
    expected = "an integer";
    int64_t value = 0;
    return text.getAsInteger(10, value)
               ? Attribute()
               : Attribute(builder.getIntegerAttr(integer.getType(), value));
  }
  if (auto number = dyn_cast<FloatAttr>(like)) {
    expected = "a number";
    double value = 0;
    return text.getAsDouble(value) ? Attribute()
                                   : Attribute(builder.getFloatAttr(number.getType(), value));
  }
  if (param.isList()) {
    expected = "a list of integers such as [0, 1]";
    StringRef body = text.trim();
    if (body.consume_front("[") != body.consume_back("]")) {
      return {};
    }
    SmallVector<StringRef> words;
    body.split(words, ',', -1, /*KeepEmpty=*/false);
    SmallVector<int64_t> values;
    for (StringRef word : words) {
      int64_t value = 0;
      if (word.trim().getAsInteger(10, value)) {
        return {};
      }
      values.push_back(value);
    }
    if (isa<DenseI64ArrayAttr>(like)) {
      return builder.getDenseI64ArrayAttr(values);
    }
    return builder.getI64ArrayAttr(values);
  }
  if (param.isExpression()) {
    expected = "an integer or an expression over geometry such as \"D / 2\"";
    int64_t value = 0;
    if (!text.getAsInteger(10, value) && param.getType()) {
      return builder.getIntegerAttr(*param.getType(), value);
    }
    return builder.getStringAttr(text);
  }
  expected = "a text";
  return builder.getStringAttr(text);
}

} // namespace

LogicalResult overrideParameter(MethodOp method, StringRef name, StringRef text) {
  auto param = dyn_cast_or_null<ParamOp>(SymbolTable::lookupSymbolIn(method, name));
  if (!param) {
    std::string known;
    for (auto other : method.getBody().front().getOps<ParamOp>()) {
      known += (known.empty() ? "" : ", ") + other.getSymName().str();
    }
    return method.emitError() << "unknown parameter '" << name << "', expected "
                              << (known.empty() ? "none: the method has no parameters"
                                                : "one of " + known);
  }
  std::string expected, reason;
  Attribute value = parseLike(param, text, expected);
  if (!value) {
    return param.emitError() << "expected " << expected << " for parameter '" << name << "', got '"
                             << text << "'";
  }
  if (!param.allows(value, reason)) {
    return param.emitError() << "parameter '" << name << "' = " << text << ": " << reason;
  }
  param.setValueAttr(value);
  return success();
}

} // namespace mlir::kvcache
