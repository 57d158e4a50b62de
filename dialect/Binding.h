// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Binding: replaces symbols of geometry and parameters by their values, in types, attributes and ops.
// Only symbols change: they have an attribute of their own, so a parameter called `rank` never renames
// an axis of that kind.

#pragma once

#include "dialect/KVCacheTypes.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/StringMap.h"

#include <map>
#include <string>

namespace mlir::kvcache {

/// Values of symbols.
struct SymbolValues {
  std::map<std::string, int64_t> integers;     ///< geometry and integer parameters
  std::map<std::string, double> floats;        ///< floating parameters, used by clip(..)
  std::map<std::string, std::string> texts;    ///< string parameters, e.g. the function of a pool
  std::string act;                             ///< element type that `act` stands for ("f16"); empty: stays
};

/// The type, attribute, with every known symbol replaced; unknown symbols stay.
Type bindSymbols(Type type, const SymbolValues &values);
Attribute bindSymbols(Attribute attribute, const SymbolValues &values);
/// The same for an op and everything nested in it: attributes, operand, result and argument types.
/// Nothing is verified: run the verifier afterwards.
void bindSymbols(Operation *op, const SymbolValues &values);

/// Gives tiles over several axes, in storage terms under `op`, the extents of the feature axes of
/// their column or tensor. To be called when extents are bound.
void bindTiles(Operation *op);

/// The symbols that are left anywhere in `type` (`act` included), without repetition, in order.
SmallVector<std::string> freeSymbols(Type type);
SmallVector<std::string> freeSymbols(Attribute attribute);

} // namespace mlir::kvcache
