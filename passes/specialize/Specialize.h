// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Binds a composed method to a geometry: the `specialized` stage.

#pragma once

#include "mlir/Support/LLVM.h"

#include <cstdint>
#include <string>

namespace mlir::kvcache {

class MethodOp;

/// What symbols of geometry stand for: L layers, Hq query heads, Hkv KV heads, G = Hq / Hkv, D head
/// dim, act.
struct MethodGeometry {
  int64_t layers = 0, queryHeads = 0, kvHeads = 0, headDim = 0;
  std::string act = "f16";
};

/// Replaces symbols by their values in place. After it no symbol is left in any type, no phase
/// binds a parameter, and every storage term has a layout. Emits a diagnostic when an expression
/// cannot be evaluated, its value is not allowed, or a storage term does not fit the geometry.
LogicalResult specializeMethod(MethodOp method, const MethodGeometry &geometry);

} // namespace mlir::kvcache
