// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One form for each kind of value.

#include "dialect/ParameterText.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

namespace mlir::kvcache {

std::string parameterText(ParamOp param) {
  Attribute value = param.getValue();
  if (auto boolean = dyn_cast<BoolAttr>(value)) {
    return boolean.getValue() ? "true" : "false";
  }
  if (auto integer = dyn_cast<IntegerAttr>(value)) {
    return std::to_string(integer.getInt());
  }
  if (auto number = dyn_cast<FloatAttr>(value)) {
    std::string text;
    llvm::raw_string_ostream(text) << llvm::format("%g", number.getValueAsDouble());
    return text;
  }
  if (auto text = dyn_cast<StringAttr>(value)) {
    return text.getValue().str();
  }
  std::string text;
  llvm::raw_string_ostream stream(text);
  stream << "[";
  if (auto list = dyn_cast<DenseI64ArrayAttr>(value)) {
    llvm::interleaveComma(list.asArrayRef(), stream);
  } else if (auto list = dyn_cast<ArrayAttr>(value)) {
    llvm::interleaveComma(list.getAsRange<IntegerAttr>(), stream,
                          [&](IntegerAttr a) { stream << a.getInt(); });
  }
  stream << "]";
  return text;
}

} // namespace mlir::kvcache
