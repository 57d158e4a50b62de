// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text and checks of encoders, and of the states that name them. Markers C1.. refer to MethodOps.td.

#include "dialect/Axes.h"
#include "dialect/MethodSymbols.h"
#include "dialect/QuantizeOps.h"
#include "mlir/IR/Builders.h"
#include "runtime/abi/StorageTerm.h"
#include "llvm/ADT/STLExtras.h"

namespace mlir::kvcache {

BlockArgument EncoderOp::getRows() {
  for (auto [index, binding] : llvm::enumerate(getBindings().getAsRange<BindingAttr>())) {
    if (!binding.getSymbol() && binding.getRole() == "rows") {
      return getBlock().getArgument(index);
    }
  }
  return {};
}

Value EncoderOp::getCodedRows() {
  Operation *yield = getBlock().getTerminator();
  auto encode = yield->getNumOperands() == 1
                    ? yield->getOperand(0).getDefiningOp<QuantizeEncodeOp>()
                    : QuantizeEncodeOp();
  return encode ? Value(encode.getInput()) : Value();
}

ParseResult EncoderOp::parse(OpAsmParser &parser, OperationState &result) {
  StringAttr name;
  SmallVector<OpAsmParser::Argument> arguments;
  ArrayAttr bindings;
  if (parser.parseSymbolName(name, "sym_name", result.attributes) ||
      parseBindings(parser, arguments, bindings)) {
    return failure();
  }
  result.addAttribute("bindings", bindings);
  if (parser.parseOptionalAttrDictWithKeyword(result.attributes)) {
    return failure();
  }
  return parser.parseRegion(*result.addRegion(), arguments);
}

void EncoderOp::print(OpAsmPrinter &printer) {
  printer << ' ';
  printer.printSymbolName(getSymName());
  printer << ' ';
  printBindings(printer, getBlock(), getBindings());
  printer.printOptionalAttrDictWithKeyword((*this)->getAttrs(), {"sym_name", "bindings"});
  printer << ' ';
  printer.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}

LogicalResult EncoderOp::verify() {
  auto method = (*this)->getParentOfType<MethodOp>();
  if (getBindings().size() != getBlock().getNumArguments() || !getRows() ||
      !isa<AxisTensorType>(getRows().getType())) { // C1
    return emitOpError() << "expected a binding for each argument, of which one tensor is 'rows'";
  }
  for (auto [binding, argument] :
       llvm::zip_equal(getBindings().getAsRange<BindingAttr>(), getBlock().getArguments())) {
    FlatSymbolRefAttr symbol = binding.getSymbol();
    if (!symbol && argument != getRows()) { // C1
      return emitOpError() << "expected 'rows' once, and parameters or artefacts, got '"
                           << binding.str() << "'";
    }
    if (symbol && isa_and_nonnull<StateOp>(lookupInMethod(method, symbol))) { // C1
      return emitOpError() << "expected a parameter or an artefact, got state " << symbol;
    }
    if (symbol && failed(verifySymbolValue(*this, method, symbol, argument.getType()))) { // C1
      return failure();
    }
  }
  Value coded = getCodedRows();
  if (!coded) { // C2
    return emitOpError() << "expected a region that yields the result of one quantize.encode";
  }
  return expectAxes(*this, "coded rows", axesOf(getRows()), axesOf(coded)); // C2
}

// ---- the encoders of a state ----

/// What the term codes, without recent and sinks; `block`: how many rows one encode takes.
static std::shared_ptr<const ::kvcache::abi::StorageTerm>
unwrapped(std::shared_ptr<const ::kvcache::abi::StorageTerm> term, std::string &block) {
  using ::kvcache::abi::TermKind;
  while (term->kind == TermKind::Recent || term->kind == TermKind::Sinks) {
    block = term->kind == TermKind::Recent ? term->block.str() : block;
    term = term->inner;
  }
  return term;
}

/// The axes that an encoder of the column takes.
static SmallVector<AxisAttr> encodedAxes(CacheType cache, ColumnAttr column, StringRef block) {
  MLIRContext *context = cache.getContext();
  Builder b(context);
  SmallVector<AxisAttr> axes(cache.getRows().drop_back());
  int64_t rows = 0;
  bool isSymbol = block.getAsInteger(10, rows);
  Attribute extent = isSymbol ? Attribute(SymAttr::get(context, block)) : b.getI64IntegerAttr(rows);
  axes.push_back(AxisAttr::get(context, "page", "", b.getUnitAttr()));
  axes.push_back(AxisAttr::get(context, "token", "", extent));
  axes.append(column.getAxes().begin(), column.getAxes().end());
  return axes;
}

LogicalResult verifyEncoders(StateOp state) {
  auto cache = dyn_cast<CacheType>(state.getType());
  auto method = state->getParentOfType<MethodOp>();
  if (!state.getEncodeAttr()) {
    return success();
  }
  for (NamedAttribute entry : state.getEncodeAttr()) {
    ColumnAttr column = cache ? cache.getColumn(entry.getName()) : ColumnAttr();
    auto symbol = dyn_cast<FlatSymbolRefAttr>(entry.getValue());
    if (!column || !symbol) {
      return state.emitOpError() << "encode: expected a column and its encoder, got "
                                 << entry.getName().getValue() << " = " << entry.getValue();
    }
    auto encoder = dyn_cast_or_null<EncoderOp>(lookupInMethod(method, symbol));
    if (!encoder) {
      return state.emitOpError() << "encode: no encoder " << symbol << " in method @"
                                 << method.getSymName();
    }
    std::string block = "1";
    StorageAttr expected =
        StorageAttr::get(state.getContext(), *unwrapped(column.getStorage().getTerm(), block));
    Operation *yield = encoder.getBlock().getTerminator();
    auto coded = yield->getNumOperands() == 1
                     ? dyn_cast<AxisTensorType>(yield->getOperand(0).getType())
                     : AxisTensorType();
    if (expected.isDense() || !coded || coded.getStorage() != expected) {
      return state.emitOpError() << "encode: expected " << symbol << " to yield rows of the codes of "
                                 << "column '" << column.getName() << "', " << expected.getText();
    }
    if (failed(expectAxes(state, "rows of encoder '" + symbol.getValue() + "'",
                          encodedAxes(cache, column, block), axesOf(encoder.getRows())))) {
      return failure();
    }
  }
  return success();
}

} // namespace mlir::kvcache
