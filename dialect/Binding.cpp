// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Binding of symbols with an attribute/type replacer over symbols and storage terms.

#include "dialect/Binding.h"

#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/IR/Builders.h"
#include "runtime/abi/StorageTerm.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSwitch.h"

namespace mlir::kvcache {

using ::kvcache::abi::Extent;
using ::kvcache::abi::StorageTerm;

static void bindExtent(Extent &extent, const SymbolValues &values) {
  auto it = values.integers.find(extent.symbol);
  if (!extent.isBound() && it != values.integers.end()) {
    extent = Extent{it->second, ""};
  }
}

static std::shared_ptr<const StorageTerm> bindTerm(const StorageTerm &term,
                                                   const SymbolValues &values) {
  auto bound = std::make_shared<StorageTerm>(term);
  for (Extent *extent :
       {&bound->bits, &bound->tile, &bound->rank, &bound->keep, &bound->block, &bound->count}) {
    bindExtent(*extent, values);
  }
  auto clip = values.floats.find(bound->clipSymbolic.symbol);
  if (!bound->clipSymbolic.symbol.empty() && clip != values.floats.end()) {
    bound->clip = clip->second;
    bound->clipSymbolic.symbol.clear();
  }
  if (bound->elemIsAct && !values.act.empty()) {
    bound->elemIsAct = !::kvcache::abi::elementTypeFromName(values.act, bound->elem);
  }
  if (bound->inner) {
    bound->inner = bindTerm(*bound->inner, values);
  }
  return bound;
}

/// Element types that tensors hold as builtin types once `act` is bound.
static Type denseElement(MLIRContext *context, StringRef name) {
  Builder b(context);
  if (name == "f32") {
    return b.getF32Type();
  }
  if (name == "f16") {
    return b.getF16Type();
  }
  return name == "bf16" ? Type(b.getBF16Type()) : Type();
}

static Attribute bindSymbol(SymAttr symbol, const SymbolValues &values) {
  Builder b(symbol.getContext());
  std::string name = symbol.getName().str();
  if (auto it = values.integers.find(name); it != values.integers.end()) {
    return b.getI64IntegerAttr(it->second);
  }
  if (auto it = values.texts.find(name); it != values.texts.end()) {
    return b.getStringAttr(it->second);
  }
  return symbol;
}

static void addReplacements(AttrTypeReplacer &replacer, const SymbolValues &values) {
  replacer.addReplacement(
      [&values](SymAttr symbol) -> Attribute { return bindSymbol(symbol, values); });
  replacer.addReplacement([&values](StorageAttr storage) -> Attribute {
    return StorageAttr::get(storage.getContext(), *bindTerm(*storage.getTerm(), values));
  });
  // A bound `act` becomes the builtin element type, the one way a tensor of f16 is written.
  replacer.addReplacement(
      [&values, &replacer](AxisTensorType type) -> std::optional<std::pair<Type, WalkResult>> {
        SmallVector<AxisAttr> axes;
        for (AxisAttr axis : type.getAxes()) {
          axes.push_back(cast<AxisAttr>(replacer.replace(axis)));
        }
        Attribute element = replacer.replace(type.getElement());
        auto storage = dyn_cast<StorageAttr>(element);
        if (storage && storage.isDense()) {
          if (Type dense = denseElement(type.getContext(), storage.getText())) {
            element = TypeAttr::get(dense);
          }
        }
        return std::make_pair(Type(AxisTensorType::get(type.getContext(), axes, element)),
                              WalkResult::skip());
      });
}

Type bindSymbols(Type type, const SymbolValues &values) {
  AttrTypeReplacer replacer;
  addReplacements(replacer, values);
  return replacer.replace(type);
}

Attribute bindSymbols(Attribute attribute, const SymbolValues &values) {
  AttrTypeReplacer replacer;
  addReplacements(replacer, values);
  return replacer.replace(attribute);
}

void bindSymbols(Operation *op, const SymbolValues &values) {
  AttrTypeReplacer replacer;
  addReplacements(replacer, values);
  replacer.recursivelyReplaceElementsIn(op, /*replaceAttrs=*/true, /*replaceLocs=*/false,
                                        /*replaceTypes=*/true);
}

static void collectTerm(const StorageTerm &term, SmallVectorImpl<std::string> &names) {
  if (term.inner) {
    collectTerm(*term.inner, names);
  }
  auto add = [&](const std::string &name) {
    if (!name.empty() && !llvm::is_contained(names, name)) {
      names.push_back(name);
    }
  };
  for (const Extent *extent : {&term.bits, &term.tile, &term.clipSymbolic, &term.rank, &term.keep,
                               &term.block, &term.count}) {
    add(extent->symbol);
  }
  if (term.elemIsAct) {
    add("act");
  }
}

template <typename T>
static SmallVector<std::string> collect(T root) {
  SmallVector<std::string> names;
  AttrTypeWalker walker;
  walker.addWalk([&](SymAttr symbol) {
    if (!llvm::is_contained(names, symbol.getName())) {
      names.push_back(symbol.getName().str());
    }
  });
  walker.addWalk([&](StorageAttr storage) { collectTerm(*storage.getTerm(), names); });
  walker.walk(root);
  return names;
}

SmallVector<std::string> freeSymbols(Type type) { return collect(type); }
SmallVector<std::string> freeSymbols(Attribute attribute) { return collect(attribute); }

} // namespace mlir::kvcache
