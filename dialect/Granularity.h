// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The axis `group:Gs`, by which one method text keeps entries per KV head or per query head. With
// granularity = query_head, Gs is G and every query head has rows of its own; with kv_head the
// axis does not exist. Composition decides (passes/compose/Granularity.cpp): no later stage sees
// Gs.

#pragma once

#include "dialect/KVCacheTypes.h"

namespace mlir::kvcache {

/// The name of the extent.
inline constexpr llvm::StringLiteral rowGroupSymbol = "Gs";

/// Whether the axis is `group:Gs`.
bool isRowGroup(AxisAttr axis);

/// Adds to `left`, the axes that a reduction of `input` leaves, the group axis that `output` has as
/// `group:Gs`, in its place: it is reduced only where Gs is absent.
void keepRowGroup(SmallVectorImpl<AxisAttr> &left, ArrayRef<AxisAttr> input,
                  ArrayRef<AxisAttr> output);

} // namespace mlir::kvcache
