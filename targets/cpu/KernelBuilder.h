// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Builds one kernel: `func.func @name(%task: index, args...) -> i32` over rank-1 memrefs
// (runtime/abi/KernelAbi.h), and offers the idioms its body is written with. Vectors have 16 lanes
// everywhere; LLVM splits them on narrower machines.
//
// Invariant: nothing here lets LLVM reassociate or contract. A product and a sum are fused only
// where the caller asks for `fma`; horizontal sums have one fixed order. So the same IR gives the
// same bits on every instruction set.

#pragma once

#include "runtime/abi/ElementType.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"

#include <functional>
#include <string>
#include <vector>

namespace mlir::kvcache::cpu {

/// Lanes of every vector in kernels.
constexpr int64_t lanes = 16;

/// What a kernel argument is. A store becomes two function arguments, `<name>.arena` and
/// `<name>.view`.
struct KernelArg {
  enum class Kind { Buffer, Scalars, Store };
  Kind kind = Kind::Buffer;
  std::string name;
  ::kvcache::abi::ElementType elem = ::kvcache::abi::ElementType::F32; ///< Buffer only

  static KernelArg buffer(std::string name, ::kvcache::abi::ElementType elem) {
    return {Kind::Buffer, std::move(name), elem};
  }
  static KernelArg scalars(std::string name) { return {Kind::Scalars, std::move(name), {}}; }
  static KernelArg store(std::string name) { return {Kind::Store, std::move(name), {}}; }
};

/// Insertion point, location and idioms of one kernel body. All `Value` parameters called index,
/// start, count, offset are of type `index`; masks are vector<16xi1> or null (all lanes); "vector"
/// without more is vector<16xf32>.
class KernelBuilder {
public:
  using LoopBody = llvm::function_ref<void(Value iv)>;
  using CarryBody = llvm::function_ref<SmallVector<Value>(Value iv, ValueRange carried)>;
  using VectorBody = llvm::function_ref<void(Value start, Value mask)>;
  using VectorCarryBody =
      llvm::function_ref<SmallVector<Value>(Value start, Value mask, ValueRange carried)>;

  /// Creates the function at the end of `module` and puts the insertion point into its body.
  KernelBuilder(ModuleOp module, StringRef name, ArrayRef<KernelArg> args);

  /// Ends the kernel: returns `status` (i32), or KVCACHE_KERNEL_OK when null. Call exactly once.
  void finish(Value status = {});

  OpBuilder &builder() { return b_; }
  Location loc() const { return loc_; }
  /// The task number, from 0.
  Value task() const { return task_; }
  /// A buffer (memref<?xT>) or scalars (memref<?xi64>) argument by its name.
  Value arg(StringRef name) const;
  /// The memref<?xi8> of a store's pages and the memref<?xi64> of its view.
  Value arena(StringRef store) const { return arg((store + ".arena").str()); }
  Value view(StringRef store) const { return arg((store + ".view").str()); }

  // ---- constants and types
  // ------------------------------------------------------------------------------------

  Value index(int64_t value);
  Value i1(bool value);
  Value i32(int64_t value);
  Value i64(int64_t value);
  Value f32(double value);
  /// A vector<16xf32> / vector<16xi32> with every lane equal to `value`.
  Value splatF32(double value, int64_t n = lanes);
  Value splatI32(int64_t value, int64_t n = lanes);
  /// `scalar` in every lane of a vector of n lanes.
  Value broadcast(Value scalar, int64_t n = lanes);
  VectorType vec(Type elem, int64_t n = lanes) { return VectorType::get({n}, elem); }
  Type f32Type() { return b_.getF32Type(); }
  Type i32Type() { return b_.getI32Type(); }
  /// The MLIR type of elements in memory (U8 and I8 are i8).
  Type elemType(::kvcache::abi::ElementType elem);

  // ---- integers and floats (scalars or vectors of equal type; folded when constant)
  // ----------------------------

  Value add(Value a, Value b);
  Value sub(Value a, Value b);
  Value mul(Value a, Value b);
  Value add(Value a, int64_t b) { return add(a, index(b)); }
  Value mul(Value a, int64_t b) { return mul(a, index(b)); }
  /// Non-negative integers.
  Value floorDiv(Value a, Value b);
  Value rem(Value a, Value b);
  Value floorDiv(Value a, int64_t b) { return floorDiv(a, index(b)); }
  Value rem(Value a, int64_t b) { return rem(a, index(b)); }
  Value ceilDiv(Value a, int64_t b) { return floorDiv(add(a, index(b - 1)), index(b)); }
  /// Smaller / larger: signed integers, or floats (the second operand when one is not a number).
  Value min(Value a, Value b);
  Value max(Value a, Value b);
  /// Signed comparisons of integers; ordered ones of floats (false when one is not a number).
  Value lt(Value a, Value b);
  Value le(Value a, Value b);
  Value gt(Value a, Value b) { return lt(b, a); }
  Value ge(Value a, Value b) { return le(b, a); }
  Value eq(Value a, Value b);
  Value ne(Value a, Value b);
  Value select(Value condition, Value a, Value b);
  Value andi(Value a, Value b);
  Value ori(Value a, Value b);
  Value xori(Value a, Value b);
  Value shl(Value a, Value b);
  Value shru(Value a, Value b);
  Value div(Value a, Value b); ///< floats, IEEE
  Value neg(Value a);          ///< floats
  /// a * b + c with one rounding, in the caller's explicit wish.
  Value fma(Value a, Value b, Value c);
  /// Integer scalars or vectors to `index`, i32, i64 (signed); i32 to f32 and back (to nearest
  /// even, in range).
  Value toIndex(Value integer);
  Value toI32(Value integer);
  Value toI64(Value integer);
  Value intToF32(Value integer);
  Value f32ToInt(Value number);
  /// The same bits as another scalar or vector type of equal size.
  Value bitcast(Value value, Type type);
  /// i8 vector / scalar to i32, without sign.
  Value extendU8(Value value);

  // ---- control
  // --------------------------------------------------------------------------------------------------

  /// for (iv = lo; iv < hi; iv += step)
  void forLoop(Value lo, Value hi, Value step, LoopBody body);
  void forLoop(Value count, LoopBody body) { forLoop(index(0), count, index(1), body); }
  /// The same with values carried from one turn to the next; returns the last ones.
  SmallVector<Value> forLoop(Value lo, Value hi, Value step, ValueRange init, CarryBody body);
  /// Full vectors of [0, count) with a null mask, then, when a remainder is left, once more with a
  /// mask. `body` is called twice to emit the two copies.
  void forVectors(Value count, VectorBody body);
  SmallVector<Value> forVectors(Value count, ValueRange init, VectorCarryBody body);
  /// Same over [lo, hi).
  SmallVector<Value> forVectors(Value lo, Value hi, ValueRange init, VectorCarryBody body);
  void ifThen(Value condition, llvm::function_ref<void()> then);
  SmallVector<Value> ifElse(Value condition, TypeRange types,
                            llvm::function_ref<SmallVector<Value>()> then,
                            llvm::function_ref<SmallVector<Value>()> otherwise);
  /// while (condition(carried)) carried = body(carried)
  SmallVector<Value> whileLoop(ValueRange init, llvm::function_ref<Value(ValueRange)> condition,
                               llvm::function_ref<SmallVector<Value>(ValueRange)> body);
  /// Splits the task number over a grid, last dim fastest.
  SmallVector<Value> splitTask(ArrayRef<Value> grid);
  /// Splits any index likewise.
  SmallVector<Value> delinearize(Value linear, ArrayRef<Value> dims);
  /// Lanes l with start + l < end.
  Value tailMask(Value start, Value end, int64_t n = lanes);
  /// vector<16xi32> {0, 1, .. 15}
  Value laneNumbers(int64_t n = lanes);

  // ---- memory
  // ---------------------------------------------------------------------------------------------------

  /// Scalar element as it lies in memory / as f32 (f32, f16, bf16; integers are converted) .
  Value load(Value memref, Value index);
  Value loadScalarF32(Value memref, Value index);
  void store(Value value, Value memref, Value index);
  /// Rounds an f32 to the element type of `memref` (to nearest even) and stores it.
  void storeScalarF32(Value value, Value memref, Value index);
  /// n lanes from element `index` on, as they lie in memory; masked-off lanes read as 0 and are not
  /// touched.
  Value loadVector(Value memref, Value index, Value mask = {}, int64_t n = lanes);
  void storeVector(Value vector, Value memref, Value index, Value mask = {});
  /// The same widened to f32 from f32, f16, bf16 (integers: converted), and narrowed to nearest
  /// even.
  Value loadF32(Value memref, Value index, Value mask = {}, int64_t n = lanes);
  void storeF32(Value vector, Value memref, Value index, Value mask = {});
  /// Integers (i8 taken as unsigned) as vector<nxi32>.
  Value loadI32(Value memref, Value index, Value mask = {}, int64_t n = lanes);
  /// Elements index + offsets[l] (vector<16xi32>), as they lie in memory; masked-off lanes read as
  /// 0.
  Value gather(Value memref, Value index, Value offsets, Value mask = {});
  /// Widens a scalar or vector as it lies in memory to f32; narrows f32 to `elem`.
  Value widen(Value value);
  Value narrow(Value f32Value, Type elem);
  /// memref<?xT> that starts at byte `offset` of a memref<?xi8>; the address must be aligned to T.
  Value typedAt(Value bytes, Value offset, ::kvcache::abi::ElementType elem);
  /// n bytes at any address of a memref<?xi8> as a vector of `elem` (n bytes in all): one unaligned
  /// load.
  Value loadBytesAs(Value bytes, Value offset, VectorType type);
  void storeBytesOf(Value vector, Value bytes, Value offset);
  /// Word `i` of a scalars argument.
  Value scalarIndex(Value scalars, int64_t i);
  Value scalarI64(Value scalars, int64_t i);
  Value scalarF32(Value scalars, int64_t i);
  Value scalarF64(Value scalars, int64_t i);

  // ---- vector idioms
  // --------------------------------------------------------------------------------------------

  Value extractLane(Value vector, int64_t lane);
  /// Lanes lo .. lo + n - 1.
  Value extractLanes(Value vector, int64_t lo, int64_t n);
  /// Any permutation / choice of the lanes of a and b (vector.shuffle numbering).
  Value shuffle(Value a, Value b, ArrayRef<int64_t> which);
  /// lane l + lane l + 8, then l + 4, l + 2, l + 1: the one order of horizontal sums.
  Value reduceAdd(Value vector);
  Value reduceMax(Value vector);
  Value reduceMin(Value vector);
  /// The same tree with another combination of two values.
  Value reduceTree(Value vector, llvm::function_ref<Value(Value, Value)> combine);
  /// Sums of 16 vectors at once, lane i of the result = reduceAdd(vectors[i]) with the same order
  /// of additions.
  Value reduceAddRows(ArrayRef<Value> vectors);
  /// e^x in f32 (about 1 ulp): -inf -> 0, results below 2^-126 -> 0, above the largest f32 -> inf,
  /// nan -> nan.
  Value exp(Value x);
  /// e^x for x <= 0 (up to 0.5 by rounding): cheaper. -inf -> 0, nan -> nan.
  Value expNonPositive(Value x);
  Value sqrt(Value x);
  Value abs(Value x);
  /// To the nearest integer, ties to even, as f32.
  Value roundEven(Value x);
  /// An LLVM intrinsic, for example "llvm.x86.avx512.permvar.sf.512".
  Value callIntrinsic(StringRef name, Type result, ValueRange operands);
  /// Address of element 0 of a memref as !llvm.ptr, for calls of external functions.
  Value pointerTo(Value memref);

private:
  OpBuilder b_;
  Location loc_;
  ModuleOp module_;
  Value task_;
  std::vector<std::pair<std::string, Value>> args_;
};

} // namespace mlir::kvcache::cpu
