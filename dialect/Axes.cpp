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
      clash = axis.getName() + "': '" + into[*index].str() + "' and '" + axis.str();
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

/// Why extents of one name differ, where the kind says it.
static StringRef otherExtent(AxisAttr axis) {
  bool heads = axis.getKind() == "head" || axis.getKind() == "group";
  return heads ? ": heads are grouped in another way" : "";
}

/// Says where the operand with these very axes was made.
static void noteOrigin(InFlightDiagnostic &error, Operation *op, ArrayRef<AxisAttr> found) {
  for (Value operand : op->getOperands()) {
    Operation *origin = operand.getDefiningOp();
    if (origin && !found.empty() && axesOf(operand).data() == found.data()) {
      error.attachNote(origin->getLoc()) << "the value with axes " << str(found) << " is made here";
      return;
    }
  }
}

namespace {
/// An error about the axes `found`, which ends with a note about their origin.
class Mismatch {
public:
  Mismatch(Operation *op, const Twine &what, ArrayRef<AxisAttr> found)
      : op_(op), found_(found), error_(op->emitOpError() << what << ": expected ") {}

  template <typename T>
  Mismatch &operator<<(T &&part) {
    error_ << std::forward<T>(part);
    return *this;
  }
  operator LogicalResult() {
    noteOrigin(error_, op_, found_);
    return failure();
  }

private:
  Operation *op_;
  ArrayRef<AxisAttr> found_;
  InFlightDiagnostic error_;
};
} // namespace

LogicalResult expectAxes(Operation *op, const Twine &what, ArrayRef<AxisAttr> expected,
                         ArrayRef<AxisAttr> found, bool ordered) {
  for (AxisAttr axis : expected) {
    AxisAttr same = findAxis(found, axis.getName());
    if (same && extentsAgree(axis, same)) {
      continue;
    }
    if (same) {
      return Mismatch(op, what, found)
             << "axis '" << axis.str() << "', got '" << same.str() << "'" << otherExtent(axis);
    }
    for (AxisAttr other : found) {
      if (other.getKind() == axis.getKind() && !findAxis(expected, other.getName())) {
        return Mismatch(op, what, found) << "axis '" << axis.getName() << "', got '"
                                         << other.getName() << "'" << remedy(axis.getKind());
      }
    }
    return Mismatch(op, what, found) << "axis '" << axis.getName() << "', got axes " << str(found);
  }
  for (AxisAttr axis : found) {
    if (!findAxis(expected, axis.getName())) {
      return Mismatch(op, what, found)
             << "axes " << str(expected) << ", got axis '" << axis.getName() << "' as well";
    }
  }
  for (auto [want, have] : llvm::zip_equal(expected, found)) {
    if (ordered && want.getName() != have.getName()) {
      return Mismatch(op, what, found)
             << "axes in the order " << str(expected) << ", got " << str(found);
    }
  }
  return success();
}

LogicalResult expectSubset(Operation *op, const Twine &what, ArrayRef<AxisAttr> allowed,
                           ArrayRef<AxisAttr> found) {
  for (AxisAttr axis : found) {
    AxisAttr same = findAxis(allowed, axis.getName());
    if (!same) {
      return Mismatch(op, what, found)
             << "axes among " << str(allowed) << ", got axis '" << axis.getName() << "'";
    }
    if (!extentsAgree(same, axis)) {
      return Mismatch(op, what, found)
             << "axis '" << same.str() << "', got '" << axis.str() << "'" << otherExtent(axis);
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
  Mismatch error(op, what, axes);
  error << "axis '" << name << "', got ";
  if (other) {
    error << "'" << other.getName() << "'" << remedy(other.getKind());
  } else {
    error << "axes " << str(axes);
  }
  return LogicalResult(error);
}

} // namespace mlir::kvcache
