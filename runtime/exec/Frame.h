// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One sequence's side of a running program: its slots, its buffers and the arguments of the kernel
// that is launched next. A frame is used again for the next program, so that a steady sequence of
// decode steps allocates nothing.

#pragma once

#include "runtime/exec/CarriedTensor.h"
#include "runtime/exec/LayerState.h"
#include "runtime/exec/Scratch.h"

#include <memory>
#include <vector>

namespace kvcache::rt {

/// The request tables of a sequence, and where its prompt ended.
struct RequestState {
  RequestTables tables;                   ///< as given, then 0 for rows behind their ends
  std::map<std::string, int32_t> entries; ///< how many were given
  int64_t promptLength = -1;              ///< rows of the prompt; -1 until it has ended
};

/// What a program runs on for one sequence.
struct RunItem {
  LayerState *state = nullptr;
  const Artefacts *artefacts = nullptr; ///< written by CALIBRATE programs only
  const RequestState *requests = nullptr; ///< null in CALIBRATE programs that see no sequences
  LayerRows rows;                       ///< rows 0 and null pointers where the event has none
  float *lse = nullptr;                 ///< [rows, Hq], ATTEND
  CarriedTensors *carried = nullptr;    ///< by tensor number, at the end of a prompt and of calibration
  int64_t budget = -1;
  uint64_t seed = 0;
};

class Frame {
public:
  /// Starts a program: slots as bound, no buffers yet.
  void begin(const LoadedExecutable &executable, const LoadedProgram &program, int64_t layer,
             const RunItem &item);

  const RunItem &item() const { return item_; }
  int64_t value(const LoadedDim &dim) const {
    return dim.slot < 0 ? dim.constant : slots_[dim.slot];
  }
  int64_t slot(int32_t slot) const { return slots_[slot]; }
  void setSlot(int32_t slot, int64_t value) { slots_[slot] = value; }

  /// Start of a buffer; a transient one is made at its first use. Bad input when the event does not
  /// provide it, Unavailable when memory is out.
  Status buffer(int32_t index, void *&data);
  /// Start of a buffer that a step has used, null when none has.
  const void *used(int32_t index) const { return buffers_[index]; }
  /// Bytes of a buffer with its extents as they are now; -1 when they are not valid.
  int64_t bufferBytes(int32_t index) const;
  /// Extents of a buffer as they are now.
  std::vector<int64_t> extents(int32_t index) const;

  /// Builds the argument pointers of a kernel, which `args` returns until the next call.
  Status gather(const LoadedKernel &kernel);
  void *const *args() const { return pointers_.data(); }
  /// Writes the scalars of the last gathered kernel back to their slots.
  void scatter(const LoadedKernel &kernel);

  int32_t skipUntil = 0; ///< steps before this number are left out for this sequence

private:
  int64_t promptLength() const;
  int64_t windowRows(const LoadedBuffer &buffer) const;
  int64_t bound(const proto::SlotBinding &binding, int64_t layer) const;
  void *provided(const LoadedBuffer &buffer) const;
  /// Where the entries of a request table start that a buffer of `bytes` bytes shows. Bad input when
  /// there is no such table or it is too short.
  Status request(const LoadedBuffer &buffer, int64_t bytes, void *&data) const;
  /// The values of a carried tensor: those of this layer, or of all layers in a program of model scope.
  Status carried(int32_t index, void *&data) const;
  /// Memory of a transient buffer of `bytes` bytes: its own, or that of the buffer it is in.
  Status transient(int32_t index, int64_t bytes, void *&data);

  const LoadedExecutable *executable_ = nullptr;
  const LoadedProgram *program_ = nullptr;
  int64_t layer_ = 0;
  RunItem item_;
  Scratch scratch_;
  std::vector<int64_t> slots_, words_;
  std::vector<void *> buffers_, pointers_;
  struct Block {
    char *data = nullptr;
    int64_t bytes = 0;
  };
  std::vector<Block> blocks_; ///< memory of transient buffers, by the number of its owner
};

} // namespace kvcache::rt
