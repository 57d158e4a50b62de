// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Binding in three moves: parameter values (expressions over geometry included), block arguments
// that name a parameter, then every symbol in types and attributes.

#include "passes/specialize/Specialize.h"

#include "dialect/Binding.h"
#include "dialect/MethodOps.h"
#include "passes/specialize/Expression.h"
#include "runtime/abi/StorageLayout.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/Verifier.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"

namespace mlir::kvcache {

namespace {

SymbolValues geometrySymbols(const MethodGeometry &geometry) {
  SymbolValues values;
  values.integers = {{"L", geometry.layers},
                     {"Hq", geometry.queryHeads},
                     {"Hkv", geometry.kvHeads},
                     {"G", geometry.queryHeads / geometry.kvHeads},
                     {"D", geometry.headDim}};
  values.act = geometry.act;
  return values;
}

/// The place of a text among those that the parameter may be; nothing for other parameters.
std::optional<int64_t> placeOf(ParamOp param) {
  ArrayAttr choices = param.getChoicesAttr();
  if (!isa<StringAttr>(param.getValue()) || !choices) {
    return std::nullopt;
  }
  return llvm::find(choices, param.getValue()) - choices.begin();
}

/// Evaluates parameters that are expressions, then collects the value of each.
LogicalResult bindParameters(MethodOp method, SymbolValues &values) {
  // What expressions may name: a text of a set is its place there.
  std::map<std::string, int64_t> places;
  for (auto param : method.getBody().front().getOps<ParamOp>()) {
    if (param.isExpression()) {
      std::string error;
      std::map<std::string, int64_t> names = values.integers;
      names.insert(places.begin(), places.end());
      std::optional<int64_t> value =
          evaluateExpression(cast<StringAttr>(param.getValue()).getValue(), names, error);
      if (!value) {
        return param.emitError() << "parameter '" << param.getSymName()
                                 << "' = " << param.getValue() << ": " << error;
      }
      param.setValueAttr(IntegerAttr::get(*param.getType(), *value));
      if (!param.allows(param.getValue(), error)) {
        return param.emitError() << "parameter '" << param.getSymName() << "' = " << *value << ": "
                                 << error;
      }
    }
    std::string name = param.getSymName().str();
    if (auto boolean = dyn_cast<BoolAttr>(param.getValue())) {
      values.integers[name] = boolean.getValue();
    } else if (auto integer = dyn_cast<IntegerAttr>(param.getValue())) {
      values.integers[name] = integer.getInt();
    } else if (auto number = dyn_cast<FloatAttr>(param.getValue())) {
      values.floats[name] = number.getValueAsDouble();
    } else if (auto text = dyn_cast<StringAttr>(param.getValue())) {
      values.texts[name] = text.getValue().str();
      if (std::optional<int64_t> place = placeOf(param)) {
        places[name] = *place;
      }
    }
  }
  // In triggers `budget` is the role, which each sequence has its own value of, not the default of
  // the parameter.
  values.integers.erase("budget");
  return success();
}

/// The value of a parameter as a constant of `type`; null when it has no such form.
TypedAttr constantOf(ParamOp param, Type type) {
  if (auto number = dyn_cast<FloatAttr>(param.getValue())) {
    return isa<FloatType>(type) ? FloatAttr::get(type, number.getValueAsDouble()) : TypedAttr();
  }
  if (std::optional<int64_t> place = placeOf(param); place && type.isIndex()) {
    return IntegerAttr::get(type, *place);
  }
  auto integer = dyn_cast<IntegerAttr>(param.getValue());
  if (!integer) {
    return {};
  }
  int64_t value = isa<BoolAttr>(param.getValue()) ? cast<BoolAttr>(param.getValue()).getValue()
                                                  : integer.getInt();
  if (isa<FloatType>(type)) {
    return FloatAttr::get(type, static_cast<double>(value));
  }
  return type.isIntOrIndex() ? TypedAttr(IntegerAttr::get(type, value)) : TypedAttr();
}

/// Whether a list of numbers holds `layer`, as i1.
Value holdsLayer(OpBuilder &b, Location loc, ParamOp list, Value layer) {
  SmallVector<int64_t> numbers;
  if (auto dense = dyn_cast<DenseI64ArrayAttr>(list.getValue())) {
    llvm::append_range(numbers, dense.asArrayRef());
  } else {
    for (Attribute number : cast<ArrayAttr>(list.getValue())) {
      numbers.push_back(cast<IntegerAttr>(number).getInt());
    }
  }
  Value holds = arith::ConstantOp::create(b, loc, b.getBoolAttr(false));
  for (int64_t number : numbers) {
    Value one = arith::ConstantOp::create(b, loc, b.getIndexAttr(number));
    Value same = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, layer, one);
    holds = arith::OrIOp::create(b, loc, holds, same);
  }
  return holds;
}

/// Block arguments that name a parameter become constants; a list, whether it holds the number of
/// the layer.
template <typename OpTy> // a phase or an encoder
LogicalResult replaceParameterArguments(MethodOp method, OpTy phase) {
  Block &block = phase.getBlock();
  SmallVector<Attribute> kept;
  unsigned given = block.getNumArguments();
  llvm::BitVector erased(given);
  OpBuilder builder = OpBuilder::atBlockBegin(&block);
  Value layer;
  for (BlockArgument argument : SmallVector<BlockArgument>(block.getArguments())) {
    auto binding = cast<BindingAttr>(phase.getBindings()[argument.getArgNumber()]);
    auto param = binding.getSymbol() ? dyn_cast_or_null<ParamOp>(SymbolTable::lookupSymbolIn(
                                           method, binding.getSymbol().getValue()))
                                     : ParamOp();
    if (!param) {
      kept.push_back(binding);
      continue;
    }
    if (param.isList() && isa<PhaseOp>(phase.getOperation())) {
      layer = layer ? layer : block.addArgument(builder.getIndexType(), phase.getLoc());
      argument.replaceAllUsesWith(holdsLayer(builder, phase.getLoc(), param, layer));
      erased.set(argument.getArgNumber());
      continue;
    }
    TypedAttr value = constantOf(param, argument.getType());
    if (!value) {
      return phase.emitError() << "parameter '@" << param.getSymName() << "' = " << param.getValue()
                               << " cannot be bound as " << argument.getType();
    }
    argument.replaceAllUsesWith(arith::ConstantOp::create(builder, phase.getLoc(), value));
    erased.set(argument.getArgNumber());
  }
  if (layer) {
    kept.push_back(BindingAttr::get(method.getContext(), "layer", Attribute()));
    erased.resize(given + 1);
  }
  block.eraseArguments(erased);
  phase.setBindingsAttr(builder.getArrayAttr(kept));
  return success();
}

/// ` (group_size = 32, ..)`: the parameters that a column's type depends on, so that a message
/// names what to change.
std::string describeParameters(MethodOp method, ColumnAttr unbound) {
  std::string text;
  for (const std::string &name : freeSymbols(unbound)) {
    auto param = dyn_cast_or_null<ParamOp>(SymbolTable::lookupSymbolIn(method, name));
    if (param) {
      llvm::raw_string_ostream os(text);
      os << (text.empty() ? " (" : ", ") << name << " = ";
      param.getValue().print(os, /*elideType=*/true);
    }
  }
  return text.empty() ? text : text + ")";
}

/// Every column must have a layout in this geometry. `unbound` is the type before symbols were
/// replaced.
LogicalResult checkStorage(StateOp state, Type unbound) {
  auto cache = dyn_cast<CacheType>(state.getType());
  if (!cache) {
    return success();
  }
  for (ColumnAttr column : cache.getColumns()) {
    int64_t width = 1;
    for (AxisAttr axis : column.getAxes()) {
      width *= axis.getInteger().value_or(0);
    }
    std::string error;
    auto layout = ::kvcache::abi::computeColumnLayout(*column.getStorage().getTerm(), width,
                                                      ::kvcache::abi::ElementType::F16, error);
    if (layout && layout->affine() && layout->zero == ::kvcache::abi::ZeroKind::Min &&
        layout->clip != 1.0) {
      error =
          "expected clip(..) with a zero point or without zeros: a group minimum cannot be clipped";
    }
    if (!error.empty() || width <= 0) {
      return state.emitError() << "column '" << column.getName() << "' of state '@"
                               << state.getSymName() << "': "
                               << (error.empty() ? "expected feature axes of known extent" : error)
                               << describeParameters(
                                      state->getParentOfType<MethodOp>(),
                                      cast<CacheType>(unbound).getColumn(column.getName()));
    }
  }
  return success();
}

} // namespace

LogicalResult specializeMethod(MethodOp method, const MethodGeometry &geometry) {
  SymbolValues values = geometrySymbols(geometry);
  if (failed(bindParameters(method, values))) {
    return failure();
  }
  for (auto phase : method.getBody().front().getOps<PhaseOp>()) {
    if (failed(replaceParameterArguments(method, phase))) {
      return failure();
    }
  }
  for (auto encoder : method.getBody().front().getOps<EncoderOp>()) {
    if (failed(replaceParameterArguments(method, encoder))) {
      return failure();
    }
  }
  llvm::DenseMap<Operation *, Type> unbound;
  for (auto state : method.getBody().front().getOps<StateOp>()) {
    unbound[state] = state.getType();
  }
  llvm::StringMap<SmallVector<std::string>> symbols;
  for (auto state : method.getBody().front().getOps<StateOp>()) {
    if (auto cache = dyn_cast<CacheType>(state.getType())) {
      for (ColumnAttr column : cache.getColumns()) {
        SmallVector<std::string> free = freeSymbols(Attribute(column.getStorage()));
        llvm::erase(free, "act");
        symbols[(state.getSymName() + "." + column.getName()).str()] = std::move(free);
      }
    }
  }
  bindSymbols(method, values);
  bindTiles(method);
  for (auto state : method.getBody().front().getOps<StateOp>()) {
    if (failed(checkStorage(state, unbound.lookup(state)))) {
      return failure();
    }
  }
  return verify(method);
}

} // namespace mlir::kvcache
