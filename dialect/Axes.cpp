// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Comparing axes by name, and the wording of every mismatch.

#include "dialect/Axes.h"

#include "llvm/ADT/STLExtras.h"

namespace mlir::kvcache {

ArrayRef<AxisAttr> axesOf(Type type) {
  if (auto tensor = dyn_cast<AxisTensorType>(type)) {
    return tensor.getAxes();
  }
  if (auto index = dyn_cast<IndexSetType>(type)) {
    return index.getAxes();
  }
  if (auto cache = dyn_cast<CacheType>(type)) {
    return cache.getRows();
  }
  return {};
}

std::optional<unsigned> findAxisIndex(ArrayRef<AxisAttr> axes, StringRef name) {
  auto [kind, tag] = name.split('.');
  for (auto [index, axis] : llvm::enumerate(axes)) {
    if (axis.getKind() == kind && axis.getTag() == tag) {
      return index;
    }
  }
  return std::nullopt;
}

AxisAttr findAxis(ArrayRef<AxisAttr> axes, StringRef name) {
  std::optional<unsigned> index = findAxisIndex(axes, name);
  return index ? axes[*index] : AxisAttr();
}

AxisAttr findAxisOfKind(ArrayRef<AxisAttr> axes, StringRef kind) {
  const auto *it = llvm::find_if(axes, [&](AxisAttr axis) { return axis.getKind() == kind; });
  return it == axes.end() ? AxisAttr() : *it;
}

bool extentsAgree(AxisAttr a, AxisAttr b) {
  if (a.isDynamic() || b.isDynamic() || a.getExtent() == b.getExtent()) {
    return true;
  }
  // A symbol next to a number: which number it is, is not known here.
  return a.getInteger().has_value() != b.getInteger().has_value();
}

std::string str(ArrayRef<AxisAttr> axes) {
  std::string text = "[";
  for (AxisAttr axis : axes) {
    text += (text.size() > 1 ? ", " : "") + axis.str();
  }
  return text + "]";
}

SmallVector<AxisAttr> without(ArrayRef<AxisAttr> axes, ArrayRef<StringRef> names) {
  SmallVector<AxisAttr> kept;
  for (AxisAttr axis : axes) {
    if (!llvm::is_contained(names, axis.getName())) {
      kept.push_back(axis);
    }
  }
  return kept;
}

SmallVector<AxisAttr> without(ArrayRef<AxisAttr> axes, ArrayAttr names) {
  SmallVector<StringRef> list;
  for (StringAttr name : names.getAsRange<StringAttr>()) {
    list.push_back(name.getValue());
  }
  return without(axes, list);
}

SmallVector<AxisAttr> replaced(ArrayRef<AxisAttr> axes, StringRef name, ArrayRef<AxisAttr> by) {
  SmallVector<AxisAttr> result;
  for (AxisAttr axis : axes) {
    if (axis.getName() == name) {
      result.append(by.begin(), by.end());
    } else {
      result.push_back(axis);
    }
  }
  return result;
}

bool unite(SmallVectorImpl<AxisAttr> &into, ArrayRef<AxisAttr> axes, std::string &clash) {
  for (AxisAttr axis : axes) {
    std::optional<unsigned> index = findAxisIndex(into, axis.getName());
    if (!index) {
      into.push_back(axis);
    } else if (!extentsAgree(into[*index], axis)) {
      clash = axis.getName();
      return false;
    } else if (into[*index].isDynamic()) {
      into[*index] = axis;
    }
  }
  return true;
}

Type scalarTypeOf(Type type) {
  auto tensor = dyn_cast<AxisTensorType>(type);
  if (!tensor) {
    return type;
  }
  Type element = tensor.getElementType();
  return element && element.isInteger() ? element : Type(Float32Type::get(type.getContext()));
}

bool hasFloatElements(AxisTensorType type) { return isa<FloatType>(scalarTypeOf(type)); }

/// What to do about two axes of one kind that differ in their tag.
static StringRef remedy(StringRef kind) {
  if (kind == "channel") {
    return ": the two are in different bases; insert rope, project or relabel";
  }
  return ": the two are different instances; insert gather or relabel";
}

LogicalResult expectAxes(Operation *op, const Twine &what, ArrayRef<AxisAttr> expected,
                         ArrayRef<AxisAttr> found, bool ordered) {
  for (AxisAttr axis : expected) {
    AxisAttr same = findAxis(found, axis.getName());
    if (same && extentsAgree(axis, same)) {
      continue;
    }
    if (same) {
      return op->emitOpError() << what << ": expected axis '" << axis.str() << "', got '"
                               << same.str() << "'";
    }
    for (AxisAttr other : found) {
      if (other.getKind() == axis.getKind() && !findAxis(expected, other.getName())) {
        return op->emitOpError() << what << ": expected axis '" << axis.getName() << "', got '"
                                 << other.getName() << "'" << remedy(axis.getKind());
      }
    }
    return op->emitOpError() << what << ": expected axis '" << axis.getName() << "', got axes "
                             << str(found);
  }
  for (AxisAttr axis : found) {
    if (!findAxis(expected, axis.getName())) {
      return op->emitOpError() << what << ": expected axes " << str(expected) << ", got axis '"
                               << axis.getName() << "' as well";
    }
  }
  for (auto [want, have] : llvm::zip_equal(expected, found)) {
    if (ordered && want.getName() != have.getName()) {
      return op->emitOpError() << what << ": expected axes in the order " << str(expected)
                               << ", got " << str(found);
    }
  }
  return success();
}

LogicalResult expectSubset(Operation *op, const Twine &what, ArrayRef<AxisAttr> allowed,
                           ArrayRef<AxisAttr> found) {
  for (AxisAttr axis : found) {
    AxisAttr same = findAxis(allowed, axis.getName());
    if (!same) {
      return op->emitOpError() << what << ": expected axes among " << str(allowed) << ", got axis '"
                               << axis.getName() << "'";
    }
    if (!extentsAgree(same, axis)) {
      return op->emitOpError() << what << ": expected axis '" << same.str() << "', got '"
                               << axis.str() << "'";
    }
  }
  return success();
}

FailureOr<AxisAttr> expectAxis(Operation *op, const Twine &what, ArrayRef<AxisAttr> axes,
                               StringRef name) {
  if (AxisAttr axis = findAxis(axes, name)) {
    return axis;
  }
  AxisAttr other = findAxisOfKind(axes, name.split('.').first);
  InFlightDiagnostic error = op->emitOpError() << what << ": expected axis '" << name << "', got ";
  if (other) {
    error << "'" << other.getName() << "'" << remedy(other.getKind());
  } else {
    error << "axes " << str(axes);
  }
  return failure();
}

} // namespace mlir::kvcache
