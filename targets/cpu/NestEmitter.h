// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Emits one kernel for a list of primitive ops of the dialect. Evaluation is pull-based: the
// outputs are looped over, and whatever lies between them and the inputs is recomputed in registers
// at the point where it is needed, so no intermediate tensor exists unless it is an output.
//
// Dense arrays are row-major with capacity strides. Along a ragged axis only the rows that exist
// are visited; what lies behind them in an output is left as it was. Reductions along a contiguous
// axis sum lane l = i mod 16 inside leaf blocks of 1024, then a fixed tree over lanes, then the
// blocks in index order; other reductions run in index order. Results never depend on threads.

#pragma once

#include "runtime/abi/StorageLayout.h"
#include "targets/cpu/EmittedKernel.h"

#include "mlir/IR/Operation.h"

namespace mlir::kvcache::cpu {

/// A number, or the name of a word of the kernel's scalars that holds it.
struct NestExtent {
  int64_t constant = 0;
  std::string word;

  static NestExtent of(int64_t value) { return {value, {}}; }
  static NestExtent inWord(std::string word) { return {0, std::move(word)}; }
};

/// One axis of a bound value. Axes whose extent is a number in the type need nothing.
struct NestAxis {
  NestExtent
      capacity; ///< what strides are made of, and the bound unless one of the next two is given
  std::string lengths; ///< ragged: i32 buffer with the length for each point of `lengthAxes`
  std::vector<std::string> lengthAxes; ///< names of axes, row-major; empty: one length
  /// Extents of `lengthAxes`, or empty. Along an axis that a value lacks (it was reduced over rows
  /// that are said to be equally long) the first length holds; where extents are given, wherever it
  /// stands.
  std::vector<int64_t> lengthExtents;
  std::string store; ///< ragged: rows of this store's heads, numbered by `lengthAxes` likewise
};

/// One column of a cache argument.
struct NestColumn {
  std::string name;
  ::kvcache::abi::ColumnLayout layout;
  /// Promise that no row is coded when the kernel runs. Without it a column that may hold codes is
  /// refused.
  bool allExact = false;
};

/// A value that enters or leaves the kernel.
struct NestOperand {
  Value value;
  /// Tensors and index sets: the buffer argument. Caches: the store argument. Scalars: the word.
  std::string arg;
  ::kvcache::abi::ElementType elem =
      ::kvcache::abi::ElementType::F32; ///< of the buffer; i1 is held as U8, positions as I32
  std::vector<NestAxis> axes;           ///< one per axis of the type (caches: row axes)
  /// Inputs: names of the axes in the order memory has them, when that is not the type's order.
  std::vector<std::string> order;
  std::vector<NestColumn> columns; ///< caches: every column, in the order of the store
};

/// What one kernel computes.
struct NestKernel {
  std::string name;
  std::vector<Operation *> ops;    ///< in an order in which operands come first
  std::vector<NestOperand> inputs; ///< every value the ops use and do not define, except constants
  /// Results that others read. Index outputs of topk, select.where and select.complement have a
  /// `lengths` buffer on their last axis, which the kernel writes.
  std::vector<NestOperand> outputs;
};

/// A buffer the kernel works in; its contents mean nothing before and after.
struct NestScratch {
  std::string arg;
  ::kvcache::abi::ElementType elem;
  std::vector<NestExtent> dims;
};

struct NestResult {
  EmittedKernel kernel;
  std::vector<NestScratch> scratch;
  std::vector<std::string> ops; ///< names of the ops covered
};

/// Emits `kernel` into `module`. Reports on the op that it cannot compile and leaves `module` as it
/// was.
FailureOr<NestResult> emitNest(ModuleOp module, const NestKernel &kernel);

/// A kernel of scalar ops (arith, math on scalars): one task, reads and writes words. `inputs` and
/// `outputs` name a word each; their `axes` and `columns` are not used.
FailureOr<NestResult> emitScalars(ModuleOp module, const NestKernel &kernel);

} // namespace mlir::kvcache::cpu
