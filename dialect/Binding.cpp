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
  for (::kvcache::abi::TileExtent &tile : bound->tiles) {
    bindExtent(tile.size, values);
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

/// The term with the extents of the feature axes in its tile; axes it does not name get a tile of 1.
static std::shared_ptr<const StorageTerm> withExtents(const StorageTerm &term,
                                                      ArrayRef<AxisAttr> features) {
  auto complete = std::make_shared<StorageTerm>(term);
  if (complete->inner) {
    complete->inner = withExtents(*complete->inner, features);
  }
  if (complete->tiles.empty()) {
    return complete;
  }
  std::vector<::kvcache::abi::TileExtent> tiles;
  auto take = [&](StringRef axis) {
    ::kvcache::abi::TileExtent tile{axis.str(), Extent{1, ""}, false, 0};
    auto found = llvm::find_if(complete->tiles, [&](const auto &t) { return t.axis == axis; });
    bool named = found != complete->tiles.end();
    if (named) {
      tile = *found;
      complete->tiles.erase(found);
    }
    return std::make_pair(tile, named);
  };
  if (auto [tile, named] = take("token"); named) {
    tiles.push_back(tile);
  }
  for (AxisAttr axis : features) {
    auto [tile, named] = take(axis.getKind());
    tile.of = axis.getInteger().value_or(0);
    tiles.push_back(tile);
  }
  // What is left names no feature axis: the layout refuses it.
  tiles.insert(tiles.end(), complete->tiles.begin(), complete->tiles.end());
  complete->tiles = std::move(tiles);
  return complete;
}

static StorageAttr withExtents(StorageAttr storage, ArrayRef<AxisAttr> features) {
  return StorageAttr::get(storage.getContext(), *withExtents(*storage.getTerm(), features));
}

void bindTiles(Operation *op) {
  AttrTypeReplacer replacer;
  replacer.addReplacement([](ColumnAttr column) -> Attribute {
    return ColumnAttr::get(column.getContext(), column.getName(), column.getAxes(),
                           withExtents(column.getStorage(), column.getAxes()));
  });
  replacer.addReplacement([](AxisTensorType type) -> Type {
    if (!type.isCoded()) {
      return type;
    }
    ArrayRef<AxisAttr> axes = type.getAxes();
    const auto *row = llvm::find_if(axes, [](AxisAttr axis) { return axis.getKind() == "token"; });
    ArrayRef<AxisAttr> features = axes.drop_front(row == axes.end() ? 0 : row - axes.begin() + 1);
    return AxisTensorType::get(type.getContext(), axes, withExtents(type.getStorage(), features));
  });
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
  for (const ::kvcache::abi::TileExtent &tile : term.tiles) {
    add(tile.size.symbol);
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
