// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What attention reads besides queries and rows: the inputs of a scalar body at points of head,
// group, query and token, and the entries that an index set chooses.

#pragma once

#include "targets/reference/Interpreter.h"

#include <array>
#include <string>
#include <vector>

namespace mlir::kvcache::reference {

/// The axes that attention runs over, by name: head, group, query, token.
using AttentionAxes = std::array<std::string, 4>;
/// A point of them.
using AttentionPoint = std::array<int64_t, 4>;

/// How far a tensor moves along the four axes; 0 along those it lacks.
AttentionPoint attentionStrides(const Tensor &tensor, const AttentionAxes &axes);

/// Tensors and numbers that a scalar body takes.
class AttentionInputs {
public:
  AttentionInputs() = default;
  AttentionInputs(Interpreter &in, ValueRange values, const AttentionAxes &axes);
  /// Adds the value of each input at `point` to `args`.
  void appendTo(SmallVectorImpl<Number> &args, const AttentionPoint &point) const;

private:
  struct Input {
    const Tensor *tensor = nullptr;
    Number number;
    AttentionPoint strides{};
    Type type;
  };
  std::vector<Input> inputs_;
};

/// The entries of an index set over some of head, group and query.
class ChosenEntries {
public:
  ChosenEntries(const Tensor &set, const AttentionAxes &axes);
  /// Ascending.
  std::vector<int64_t> at(const AttentionPoint &point) const;

private:
  const Tensor &set_;
  AttentionPoint strides_;
};

} // namespace mlir::kvcache::reference
