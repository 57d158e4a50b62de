// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Axes by name: the one place that says which axes a value has, when two are the same, and what a
// mismatch is called. Verifiers, passes and targets all ask here.

#pragma once

#include "dialect/KVCacheTypes.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

namespace mlir::kvcache {

/// Axes of a tensor or index set, row axes of a cache; empty for scalars.
ArrayRef<AxisAttr> axesOf(Type type);
inline ArrayRef<AxisAttr> axesOf(Value value) { return axesOf(value.getType()); }

/// The axis called `name` (kind[.tag]); null when there is none.
AxisAttr findAxis(ArrayRef<AxisAttr> axes, StringRef name);
/// Its place in the list, if there.
std::optional<unsigned> findAxisIndex(ArrayRef<AxisAttr> axes, StringRef name);
/// The first axis of a kind, whatever its tag; null when there is none.
AxisAttr findAxisOfKind(ArrayRef<AxisAttr> axes, StringRef kind);

/// False when both extents are known and differ (integers, or symbols of different names).
bool extentsAgree(AxisAttr a, AxisAttr b);

/// `[head:Hkv, token:?]`.
std::string str(ArrayRef<AxisAttr> axes);

/// `axes` without those called `names`.
SmallVector<AxisAttr> without(ArrayRef<AxisAttr> axes, ArrayRef<StringRef> names);
SmallVector<AxisAttr> without(ArrayRef<AxisAttr> axes, ArrayAttr names);
/// `axes` with the one called `name` replaced, in place, by `by`.
SmallVector<AxisAttr> replaced(ArrayRef<AxisAttr> axes, StringRef name, ArrayRef<AxisAttr> by);
/// Adds to `into` the axes it lacks; false when extents of one name disagree (`clash` names it).
bool unite(SmallVectorImpl<AxisAttr> &into, ArrayRef<AxisAttr> axes, std::string &clash);

/// The type a scalar region computes with: f32 for every floating element (act and codes included),
/// integers as they are, scalars as they are.
Type scalarTypeOf(Type type);
/// True when the elements are floating point (act and codes included).
bool hasFloatElements(AxisTensorType type);

/// Checks that `found` has exactly the axes of `expected`, by name and extent; in the same order when
/// `ordered`. Otherwise reports on `op`, naming the axis expected and the axis found.
LogicalResult expectAxes(Operation *op, const Twine &what, ArrayRef<AxisAttr> expected, ArrayRef<AxisAttr> found,
                         bool ordered = true);
/// Checks that every axis of `found` is in `allowed`.
LogicalResult expectSubset(Operation *op, const Twine &what, ArrayRef<AxisAttr> allowed, ArrayRef<AxisAttr> found);
/// The axis called `name` of `axes`; reports on `op` when there is none.
FailureOr<AxisAttr> expectAxis(Operation *op, const Twine &what, ArrayRef<AxisAttr> axes, StringRef name);

} // namespace mlir::kvcache
