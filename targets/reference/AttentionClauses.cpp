// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Inputs and chosen entries of attention, point by point.

#include "targets/reference/AttentionClauses.h"

#include "dialect/Axes.h"
#include "targets/reference/Scalars.h"

namespace mlir::kvcache::reference {

AttentionPoint attentionStrides(const Tensor &tensor, const AttentionAxes &axes) {
  AttentionPoint strides{};
  int64_t stride = 1;
  for (size_t i = tensor.axes.size(); i-- > 0;) {
    for (size_t a = 0; a < axes.size(); ++a) {
      if (tensor.axes[i].name == axes[a]) {
        strides[a] = stride;
      }
    }
    stride *= tensor.axes[i].extent;
  }
  return strides;
}

static size_t placeAt(const AttentionPoint &strides, const AttentionPoint &point) {
  int64_t place = 0;
  for (size_t a = 0; a < point.size(); ++a) {
    place += strides[a] * point[a];
  }
  return static_cast<size_t>(place);
}

AttentionInputs::AttentionInputs(Interpreter &in, ValueRange values, const AttentionAxes &axes) {
  for (Value value : values) {
    Input input;
    if (in.isNumber(value)) {
      input.type = value.getType();
      input.number = in.number(value);
    } else {
      input.type = scalarTypeOf(value.getType());
      input.tensor = &in.tensor(value);
      input.strides = attentionStrides(*input.tensor, axes);
    }
    inputs_.push_back(input);
  }
}

void AttentionInputs::appendTo(SmallVectorImpl<Number> &args, const AttentionPoint &point) const {
  for (const Input &input : inputs_) {
    args.push_back(input.tensor
                       ? numberOf(input.type, input.tensor->values[placeAt(input.strides, point)])
                       : input.number);
  }
}

ChosenEntries::ChosenEntries(const Tensor &set, const AttentionAxes &axes)
    : set_(set), strides_(attentionStrides(set, axes)) {}

std::vector<int64_t> ChosenEntries::at(const AttentionPoint &point) const {
  size_t last = set_.axes.size() - 1;
  // The coordinates of the set's own axes, for the length of this list.
  std::vector<int64_t> own(set_.axes.size(), 0);
  int64_t first = static_cast<int64_t>(placeAt(strides_, point)), rest = first;
  for (size_t i = set_.axes.size(); i-- > 0;) {
    own[i] = rest % set_.axes[i].extent;
    rest /= set_.axes[i].extent;
  }
  std::vector<int64_t> entries;
  for (int64_t i = 0, n = set_.lengthAt(last, own); i < n; ++i) {
    entries.push_back(static_cast<int64_t>(set_.values[static_cast<size_t>(first + i)]));
  }
  return entries;
}

} // namespace mlir::kvcache::reference
