// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes one program of an executable (dialect/ScheduleOps.td): slots and buffers, referred to by
// number while it is written, and steps. Knows kernels only by what they say of their arguments
// (EmittedKernel.h).

#pragma once

#include "dialect/ScheduleOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "runtime/abi/StorageLayout.h"
#include "runtime/abi/executable.pb.h"
#include "targets/cpu/EmittedKernel.h"

#include "llvm/ADT/StringMap.h"

#include <map>
#include <string>
#include <vector>

namespace mlir::kvcache::cpu {

namespace proto = ::kvcache::proto;

/// A number known when the program is written, or held by a slot when it runs.
struct Extent {
  int64_t constant = 0;
  int slot = -1;

  static Extent of(int64_t value) { return {value, -1}; }
  static Extent inSlot(int slot) { return {0, slot}; }
  bool isConstant() const { return slot < 0; }
  bool operator==(const Extent &other) const {
    return constant == other.constant && slot == other.slot;
  }
};

/// What the arguments and words of a kernel are in this program.
struct KernelOperands {
  llvm::StringMap<int> buffers;  ///< argument name -> buffer
  llvm::StringMap<int> stores;   ///< argument name -> store
  llvm::StringMap<Extent> words; ///< word -> value
  int64_t heads = 0;             ///< the grid dim "heads"
};

class ProgramBuilder {
public:
  /// Adds a program of `kind` to `executable`, which lies in a module of the `planned` stage: every
  /// kernel launched gets an outline there.
  ProgramBuilder(ExecutableOp executable, proto::Program::Kind kind, ArrayRef<int64_t> layers);

  proto::Program::Kind kind() const { return kind_; }
  /// The program runs for so many rows at a time.
  void chunkRows(int64_t rows) { program_.setChunkRows(rows); }
  /// The program sees one sequence of a source at a time.
  void source(StringRef name, ArrayRef<int64_t> sizes) {
    program_.setSource(name);
    program_.setSizes(sizes);
  }
  /// Whether it runs once for all layers.
  bool seesAllLayers() const {
    return kind_ == proto::Program::PROMPT_MODEL || kind_ == proto::Program::CALIBRATE_MODEL;
  }
  bool calibrates() const {
    return kind_ == proto::Program::CALIBRATE || kind_ == proto::Program::CALIBRATE_MODEL;
  }

  /// A fresh slot that a step writes.
  int newSlot() { return addSlot(proto::SlotBinding::NONE, {}, {}); }
  /// The slot that holds `role`, a number of the event, when the program starts.
  int boundSlot(proto::SlotBinding::Role role);
  /// The slot that holds how many of the last queries there are, at most `rows`.
  int windowSlot(int64_t rows);
  /// A slot that holds a constant (integers, or the bits of a float).
  int constantSlot(int64_t value);
  int slotOf(Extent extent) {
    return extent.isConstant() ? constantSlot(extent.constant) : extent.slot;
  }

  int newBuffer(StringRef name, ::kvcache::abi::ElementType elem, ArrayRef<Extent> dims,
                bool zeroed = false);
  /// The buffer of a role (query, out ..), created on first use with these dims. Persistent tensors
  /// and request tables, and windows of queries, are found by `name`.
  int roleBuffer(proto::Buffer::Role role, StringRef name, ::kvcache::abi::ElementType elem,
                 ArrayRef<Extent> dims);

  /// The slot that holds extent number `dim` of one layer of a carried tensor.
  Extent tensorExtent(StringRef tensor, int64_t dim);
  /// Gives a transient buffer another role, one that whoever runs the program reads. False when it is no transient buffer.
  bool hand(int buffer, proto::Buffer::Role role);
  /// Makes a transient buffer the carried tensor `tensor`, which is declared, and returns its name; the name
  /// that it has if it is one already, and none for a buffer of another role.
  std::string carry(int buffer, StringRef tensor);
  /// The extents of a buffer; those in slots as ShapedType::kDynamic.
  SmallVector<int64_t> staticExtents(int buffer);

  /// Largest row count of a store now, divided up by `divideUp`; measured once until the store
  /// changes.
  Extent storeRows(int store, int64_t divideUp = 1);
  void reserve(int store, Extent rows);
  void truncate(int store, Extent rows);
  void truncateRagged(int store, int lengthsBuffer);
  void beginCode(int store, StringRef column, int due, int dueRowsSlot);
  void endCode(int store, StringRef column, int due);
  /// Steps added by `body` run only when the slot is non-zero.
  void guarded(int slot, llvm::function_ref<void()> body);
  /// Sets a fresh slot to an element of an i32 buffer.
  Extent fetch(int buffer, int64_t index);
  /// What the program's selection ranked, a buffer.
  void ranked(int buffer) { ranked_ = buffer; }
  /// Call once, when all steps are there.
  void finish();

  /// The ops that the next kernels compute: they become the kernels' outlines.
  void setSource(ArrayRef<Operation *> ops);
  /// Takes the source away, to be given back by the caller.
  OwningOpRef<OutlineOp> takeSource() { return std::move(source_); }
  void giveSource(OwningOpRef<OutlineOp> source) { source_ = std::move(source); }

  /// Launches a kernel. Every argument, word and grid dim it names must be in `operands`. `ops` are
  /// the dialect ops it covers, `phase` is where they were written.
  LaunchOp launch(const EmittedKernel &kernel, const KernelOperands &operands,
                  ArrayRef<std::string> ops, StringRef phase, bool writesSlots = false);
  /// The rows per row head that the launch's bytes per row count for.
  void moves(LaunchOp launch, Extent rows) {
    launch.getMovesMutable().assign(slots_[slotOf(rows)]);
  }
  /// One launch reads every row of a column.
  void reads(LaunchOp launch, int store, StringRef column);

private:
  int addSlot(proto::SlotBinding::Role role, FlatSymbolRefAttr store, IntegerAttr value);
  int addBuffer(proto::Buffer::Role role, StringRef name, ::kvcache::abi::ElementType elem,
                ArrayRef<Extent> dims, bool zeroed);
  /// `body` creates a declaration, which stands behind all others and before the steps.
  template <typename Op>
  Op declare(llvm::function_ref<Op()> body);
  FlatSymbolRefAttr nameOf(int store);
  /// The values and constants of a list of extents.
  DenseI64ArrayAttr split(ArrayRef<Extent> extents, SmallVector<Value> &values);
  void outline(StringRef kernel);
  void storeChanged(int store);

  ExecutableOp executable_;
  proto::Program::Kind kind_;
  ProgramOp program_;
  OpBuilder b_; ///< at the end of the steps
  Location loc_;
  Operation *lastDeclaration_ = nullptr;
  int ranked_ = -1;
  OwningOpRef<OutlineOp> source_;
  SmallVector<Value> slots_, buffers_;
  std::map<int, int> bound_;
  std::map<int64_t, int> constants_, windows_;
  std::map<std::pair<std::string, int64_t>, int> tensorExtents_;
  std::map<std::pair<int, int64_t>, int> measured_;
  std::map<std::pair<int, std::string>, int> roleBuffers_;
};

} // namespace mlir::kvcache::cpu
