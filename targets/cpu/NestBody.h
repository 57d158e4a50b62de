// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The inside of the nest emitter: values of a kernel at points of their axes.
//
// Invariant: `evaluate` gives the value of a scalar-typed point as a scalar, and of a point with a
// vector axis as a vector of 16 lanes, or as a scalar when it is the same in every lane. Lanes that
// the point's mask switches off hold anything; memory is read only where they are on.

#pragma once

#include "targets/cpu/KernelBuilder.h"
#include "targets/cpu/NestEmitter.h"
#include "targets/cpu/StoreAccess.h"

#include "dialect/Axes.h"
#include "dialect/PrimitiveOps.h"
#include "dialect/RowOps.h"
#include "dialect/SelectOps.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

#include <map>
#include <memory>

namespace mlir::kvcache::cpu {

/// Where a point lies along one axis.
struct AxisIndex {
  enum class Kind {
    Scalar,     ///< value: index
    Contiguous, ///< lane l is at value + l (value: index)
    Lanes       ///< lane l is at value[l] (value: vector<16xi32>)
  };
  Kind kind = Kind::Scalar;
  Value value;
  bool aligned = false; ///< Contiguous: value is a multiple of 16

  bool isScalar() const { return kind == Kind::Scalar; }
};

/// A point of named axes.
struct Point {
  std::vector<std::pair<std::string, AxisIndex>> axes;
  Value mask; ///< lanes that exist; null: all

  const AxisIndex *find(StringRef name) const;
  /// The same point with another (or one more) index.
  Point with(StringRef name, AxisIndex index) const;
  /// Only the given axes.
  Point restrictedTo(ArrayRef<AxisAttr> names) const;
  bool isScalar() const;
};

/// How memory moves along an axis of a value: not at all, by one element, or otherwise.
enum class Step { None, One, Other };

/// Emission state of one kernel.
class NestBody {
public:
  NestBody(KernelBuilder &kernel, const NestKernel &spec) : k(kernel), spec_(spec) {}

  /// Loads the words and binds the operands; call once, at the start of the function.
  void begin(ArrayRef<std::string> words);
  bool failed() const { return failed_; }
  /// Keeps failures to itself.
  bool quiet = false;
  /// Reports the first failure; returns a value of the right kind so that emission can go on.
  Value fail(Operation *op, const Twine &message, Type type, bool vector);

  // ---- values (NestValues.cpp, NestColumns.cpp, NestReduce.cpp)
  // ---------------------------------------------------

  Value evaluate(Value value, const Point &point);
  /// The extent of an axis of `value` where `point` lies along the other axes.
  Value bound(Value value, StringRef axis, const Point &point);
  /// Names of the axes that the extent of an axis depends on.
  std::vector<std::string> boundDependsOn(Value value, StringRef axis);
  Step step(Value value, StringRef axis);
  /// A scalar-typed value (index, integer, float).
  Value scalar(Value value);
  Value scalarIndex(Value value) { return k.toIndex(scalar(value)); }
  /// The scalar region of map / select.where on evaluated inputs.
  SmallVector<Value> applyRegion(Operation *op, Block &body, ArrayRef<Value> inputs);
  /// vector<16xT> of a scalar; vectors as they are.
  Value lift(Value value);

  // ---- memory
  // -----------------------------------------------------------------------------------------------------

  /// The operand (input, or output already written) that holds `value`; null when it has to be
  /// computed.
  const NestOperand *held(Value value) const;
  const NestOperand *outputFor(Value value) const;
  void markWritten(Value value) { written_.insert(value); }
  /// Element number of a point of an operand: a scalar base and, when lanes lie apart,
  /// vector<16xi32> offsets.
  struct Address {
    Value base;
    Value offsets;
    bool contiguous = false;
  };
  Address address(const NestOperand &operand, const Point &point);
  /// The element of an output as the memory holds it now.
  Value loadOutput(const NestOperand &operand, const Point &point);
  void storeAt(const NestOperand &operand, const Point &point, Value value);
  /// Capacity of an axis of any value of the kernel.
  NestExtent capacityOf(Value value, StringRef axis);
  Value extentValue(const NestExtent &extent);
  /// Writes the length of a ragged output at the position of `point` in its `lengths` buffer; of
  /// its last axis, or of the axis at `place`.
  void storeLength(const NestOperand &operand, const Point &point, Value length);
  void storeLength(const NestOperand &operand, unsigned place, const Point &point, Value length);

  // ---- loops that open a scope
  // ------------------------------------------------------------------------------------

  void loop(Value lo, Value hi, Value step, llvm::function_ref<void(Value)> body);
  /// Forgets at its end what `body` evaluated: for callers that open loops themselves.
  void scoped(llvm::function_ref<void()> body) {
    scopes_.emplace_back();
    body();
    scopes_.pop_back();
  }
  SmallVector<Value> loop(Value lo, Value hi, Value step, ValueRange init,
                          KernelBuilder::CarryBody body);
  SmallVector<Value> vectors(Value lo, Value hi, ValueRange init,
                             KernelBuilder::VectorCarryBody body);
  void when(Value condition, llvm::function_ref<void()> body);
  SmallVector<Value> choose(Value condition, TypeRange types,
                            llvm::function_ref<SmallVector<Value>()> then,
                            llvm::function_ref<SmallVector<Value>()> otherwise);
  /// Computes once what `roots` are made of and what has no more axes than `point`, at that point,
  /// before a loop over further axes begins. What is not used after all is removed later.
  void hoist(ArrayRef<Value> roots, const Point &point);

  /// The function of `blocks` over positions [lo, hi) of its axis; `point` has the other axes.
  Value computeBlock(BlocksOp op, Value lo, Value hi, const Point &point);

  /// Makes the kernel return `status` (KernelAbi.h) instead of OK.
  void raise(int32_t status);
  /// The status to return (i32).
  Value status();

  /// Axes over which tasks are spread, and this task's place. Values written in this task may be
  /// read only there.
  Point grid;

  KernelBuilder &k;

private:
  void makeStatus();

  struct Memo {
    SmallVector<const void *, 8> key;
    Value value;
  };
  Value compute(Value value, const Point &point);
  Value loadHeld(const NestOperand &operand, const Point &point);
  Value fromMemory(Value raw, Type elementType);
  Value computeMap(MapOp op, Value value, const Point &point);
  Value computePool(PoolOp op, const Point &point);
  Value computeGather(GatherOp op, const Point &point);
  Value computeIota(IotaOp op, const Point &point);
  Value loadColumn(Operation *op, Value cache, StringRef column, const Point &point);
  StoreAccess &storeFor(const NestOperand &cache);

  // Reductions (NestReduce.cpp).
  struct Reduction;
  Value computeReduce(Operation *op, Value value, const Point &point);
  Value computeQuantile(ReduceOp op, const Point &point);
  SmallVector<Value> reduceScalar(Reduction &reduction, const Point &point);
  SmallVector<Value> reduceSequential(Reduction &reduction, const Point &point);
  SmallVector<Value> reduceTransposed(Reduction &reduction, const Point &point,
                                      StringRef contiguous);
  Value lanewise(Value value, const Point &point);
  /// `point` where each vector axis is at one lane; clamped to existing elements.
  Point atLane(Value value, const Point &point, Value lane, int64_t constantLane);
  Value lengthNumber(const NestAxis &axis, Value value, const Point &point);

  SmallVector<const void *, 8> memoKey(Value value, const Point &point);
  void remember(Value value, const Point &point, Value result);

  const NestKernel &spec_;
  std::map<std::string, Value> words_;
  llvm::DenseMap<Value, const NestOperand *> inputs_, outputs_;
  llvm::DenseSet<Value> written_;
  std::map<std::string, std::unique_ptr<StoreAccess>> stores_;
  std::map<std::string, std::vector<::kvcache::abi::ColumnLayout>> layouts_;
  std::vector<std::vector<Memo>> scopes_{1};
  Value status_; ///< memref<1xi32> on the stack
  bool failed_ = false;
};

/// Capacity of an axis of a value of the kernel, found through the ops that pass it on; 0 when
/// nothing says it.
NestExtent staticCapacity(const NestKernel &kernel, Value value, StringRef axis);
/// Whether the extent of an axis differs from point to point, or is not known before the kernel
/// runs.
bool isRagged(const NestKernel &kernel, Value value, StringRef axis);

/// The scalar type a map computes with for elements of `type` (i32 for positions).
Type computeTypeOf(Type type);

/// Threshold selection on order-preserving keys (NestSelect.cpp, docs/op-table.md topk).
void emitTopk(NestBody &body, TopkOp op, const Point &lead, StringRef keysArg);
void emitAlloc(NestBody &body, SelectAllocOp op, StringRef keysArg);
void emitWhere(NestBody &body, SelectWhereOp op, const Point &lead);
void emitComplement(NestBody &body, SelectComplementOp op, const Point &lead);
/// Walks of ascending lists (NestSets.cpp).
void emitUnion(NestBody &body, SelectUnionOp op, const Point &lead);
void emitExpand(NestBody &body, SelectExpandOp op, const Point &lead);
/// Parts of a total (NestShares.cpp, NestSets.cpp).
void emitShares(NestBody &body, SelectAllocOp op);
void emitFit(NestBody &body, SelectFitOp op, const Point &lead);
/// Ops along one axis (NestOrder.cpp).
void emitSort(NestBody &body, SortOp op, const Point &lead, StringRef keysArg);
void emitScan(NestBody &body, ScanOp op, const Point &lead);
void emitConcat(NestBody &body, ConcatOp op, const Point &lead);
void emitBlocks(NestBody &body, BlocksOp op, const Point &lead);
void emitScatter(NestBody &body, ScatterOp op, const Point &lead);
void emitEigh(NestBody &body, EighOp op, const Point &lead);

} // namespace mlir::kvcache::cpu
