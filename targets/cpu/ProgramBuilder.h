// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes one program of an executable: slots, buffers and steps, each referred to by number
// (runtime/abi/executable.proto). Knows kernels only by what they say of their arguments
// (EmittedKernel.h).

#pragma once

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
  ProgramBuilder(proto::Executable &executable, proto::Program &program)
      : executable_(executable), program_(program) {}

  proto::Program &program() { return program_; }
  proto::Executable &executable() { return executable_; }

  /// A fresh slot that a step writes.
  int newSlot();
  /// The slot that holds `role` when the program starts.
  int boundSlot(proto::SlotBinding::Role role, int index = 0);
  /// A slot that holds a constant (integers, or the bits of a float).
  int constantSlot(int64_t value);
  int slotOf(Extent extent) {
    return extent.isConstant() ? constantSlot(extent.constant) : extent.slot;
  }

  int newBuffer(StringRef name, ::kvcache::abi::ElementType elem, ArrayRef<Extent> dims,
                bool zeroed = false);
  /// The buffer of a role (query, out ..), created on first use with these dims.
  int roleBuffer(proto::Buffer::Role role, StringRef name, ::kvcache::abi::ElementType elem,
                 ArrayRef<Extent> dims, int index = 0);

  /// Largest row count of a store now, divided up by `divideUp`; measured once until the store
  /// changes.
  Extent storeRows(int store, int64_t divideUp = 1);
  void reserve(int store, Extent rows);
  void truncate(int store, Extent rows);
  void truncateRagged(int store, int lengthsBuffer);
  void beginCode(int store, int column, int due, int dueRowsSlot);
  void endCode(int store, int column, int due);
  /// Steps added by `body` run only when the slot is non-zero.
  void guarded(int slot, llvm::function_ref<void()> body);

  /// Launches a kernel. Every argument, word and grid dim it names must be in `operands`. `ops` are
  /// the dialect ops it covers, `phase` is where they were written.
  proto::Step::Kernel *launch(const EmittedKernel &kernel, const KernelOperands &operands,
                              ArrayRef<std::string> ops, StringRef phase, bool writesSlots = false);
  proto::KernelInfo *lastInfo() {
    return executable_.mutable_kernels(executable_.kernels_size() - 1);
  }
  /// Sets a fresh slot to an element of an i32 buffer.
  Extent fetch(int buffer, int64_t index);

private:
  proto::Dim toDim(Extent extent);
  void storeChanged(int store);

  proto::Executable &executable_;
  proto::Program &program_;
  std::map<std::pair<int, int>, int> bound_;
  std::map<int64_t, int> constants_;
  std::map<std::pair<int, int64_t>, int> measured_;
  std::map<std::pair<int, int>, int> roleBuffers_;
};

} // namespace mlir::kvcache::cpu
