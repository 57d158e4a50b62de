// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Evaluates one phase region op by op with the reference kernels. Each family of ops has a file of
// its own that enters its functions into the table; this class knows none of them. An op that the
// results asked for do not need is not evaluated.

#pragma once

#include "targets/reference/CacheTable.h"
#include "targets/reference/Value.h"

#include "runtime/Execution.h"

#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringMap.h"

#include <map>
#include <string>
#include <vector>

namespace mlir::kvcache::reference {

class Interpreter;
/// Evaluates `op`: reads its operands from the interpreter and sets its results.
using OpFunction = Status (*)(Operation *op, Interpreter &in);
using OpTable = llvm::StringMap<OpFunction>;

// One per family, defined in the family's file.
void addPrimitiveFunctions(OpTable &table);
void addRowFunctions(OpTable &table);
void addCacheFunctions(OpTable &table);
void addAttentionFunctions(OpTable &table);
void addSelectFunctions(OpTable &table);
void addFamilyFunctions(OpTable &table);

class Interpreter {
public:
  explicit Interpreter(const rt::Geometry &geometry) : geometry_(geometry) {}

  const rt::Geometry &geometry() const { return geometry_; }

  // ---- for the phase that is run
  // ---------------------------------------------------------------------------

  void bind(Value value, RuntimeValue to) { values_[value] = std::move(to); }
  /// Token positions of the queries that run over the axis called `axis`.
  void bindPositions(const std::string &axis, std::vector<int32_t> positions) {
    positions_[axis] = std::move(positions);
  }
  /// Evaluates what `wanted` depend on. An error names the op and its place in the method's file.
  Status evaluate(Block &block, ArrayRef<Value> wanted);
  RuntimeValue valueOf(Value value) const { return values_.lookup(value); }

  // ---- for op functions
  // ------------------------------------------------------------------------------------

  const Tensor &tensor(Value value) const { return tensorValue(value).tensor; }
  const TensorValue &tensorValue(Value value) const {
    return *std::get<std::shared_ptr<const TensorValue>>(values_.at(value));
  }
  const CacheTable &cache(Value value) const {
    return *std::get<std::shared_ptr<const CacheTable>>(values_.at(value));
  }
  Number number(Value value) const { return std::get<Number>(values_.at(value)); }
  bool isNumber(Value value) const { return std::holds_alternative<Number>(values_.at(value)); }
  int64_t integer(Value value) const { return number(value).asInteger(); }
  /// Null where no queries with known positions run over the axis.
  const std::vector<int32_t> *positions(const std::string &axis) const;

  void set(Value value, Number number) { values_[value] = number; }
  void set(Value value, CacheTable table) {
    values_[value] = std::make_shared<const CacheTable>(std::move(table));
  }
  /// Sets a tensor or index set with its axes in the order of the value's type; fails when they are
  /// not the same.
  Status set(Value value, Tensor tensor, std::shared_ptr<const Tensor> merged = nullptr);

  // ---- what attention and selection leave behind
  // -------------------------------------------------------------

  /// Log-sum-exp [head, group, query] of the last attend.
  Tensor lastLse;
  /// What the last selection of tokens (select.topk or topk) ranked [head?, token], forced rows
  /// +inf; no axes when there was none.
  Tensor ranked;

private:
  Status evaluateBlock(Block &block, const llvm::DenseSet<Operation *> &needed);
  Status evaluateOp(Operation *op, const llvm::DenseSet<Operation *> &needed);
  Status evaluateScalar(Operation *op, bool &done);

  const rt::Geometry &geometry_;
  llvm::DenseMap<Value, RuntimeValue> values_;
  std::map<std::string, std::vector<int32_t>> positions_;
};

/// The ops that `wanted` depend on, those inside their regions included.
llvm::DenseSet<Operation *> neededFor(ArrayRef<Value> wanted);
/// `tensor` with its axes in the order `names`; fails when it has others.
StatusOr<Tensor> inOrder(const Tensor &tensor, ArrayRef<std::string> names);
/// Names of the axes of a tensor or index set type.
std::vector<std::string> axisNames(Type type);
/// The strings of an array of StringAttr.
std::vector<std::string> strings(ArrayAttr names);

} // namespace mlir::kvcache::reference
