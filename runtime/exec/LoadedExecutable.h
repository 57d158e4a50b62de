// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An executable (runtime/abi/executable.proto) checked and made ready to run: every number that a
// program refers to by is in range, every kernel is an address, every storage term a layout.
// Nothing changes after `load`; executions and their sequences share it.

#pragma once

#include "runtime/Execution.h"
#include "runtime/abi/executable.pb.h"
#include "runtime/cache/Store.h"
#include "runtime/exec/CodeObject.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kvcache::rt {

/// A number that is known (`slot` < 0) or that a slot holds.
struct LoadedDim {
  int64_t constant = 0;
  int32_t slot = -1;
};

struct LoadedBuffer {
  std::string name;
  proto::Buffer::Role role = proto::Buffer::TRANSIENT;
  ElementType elem = ElementType::F32;
  std::vector<LoadedDim> dims;
  int32_t index = 0; ///< TENSOR: number of the tensor
  bool zeroed = false;
  int32_t memory = -1; ///< TRANSIENT: the buffer whose memory it is in, -1: its own
};

struct LoadedArg {
  enum class Kind { Buffer, Store, Scalars };
  Kind kind = Kind::Buffer;
  int32_t index = 0;          ///< Buffer, Store
  std::vector<int32_t> slots; ///< Scalars
};

struct LoadedKernel {
  kvcache_kernel_fn function = nullptr;
  std::vector<LoadedDim> grid;
  std::vector<LoadedArg> args;
  int32_t info = 0; ///< number of its KernelInfo
  bool writesSlots = false;
  std::vector<std::pair<int32_t, int32_t>>
      reads; ///< (store, column) of which a launch reads every row
  bool hasMovedRows = false;
  LoadedDim movedRows;     ///< rows per row head that the per-row bytes count for
  int32_t firstStore = -1; ///< first store argument
};

struct LoadedStep {
  enum class Kind { Kernel, Reserve, Truncate, BeginCode, EndCode, Guard, StoreRows, Fetch };
  Kind kind = Kind::Kernel;
  LoadedKernel kernel;
  int32_t store = 0, column = 0;
  int32_t buffer = 0;   ///< Truncate: lengths, i32 [H]; BeginCode: due, i64 [H, 2]; Fetch: i32
  int32_t slot = -1;    ///< BeginCode: largest count; Guard: condition; StoreRows, Fetch: result
  LoadedDim rows;       ///< Reserve, Truncate
  bool ragged = false;  ///< Truncate
  int32_t steps = 0;    ///< Guard
  int64_t divideUp = 1; ///< StoreRows
  int64_t element = 0;  ///< Fetch
};

struct LoadedProgram {
  proto::Program::Kind kind = proto::Program::PREFILL;
  int32_t slots = 0;
  int64_t chunkRows = 0; ///< prefill, ingest: rows at a time, 0: all
  std::string
      source; ///< calibrate: which sequences it sees one at a time; empty: all rows of texts
  std::vector<int64_t> sizes; ///< of the source: CalibrationSource::count and ::size
  std::vector<proto::SlotBinding> bindings;
  std::vector<LoadedBuffer> buffers;
  std::vector<LoadedStep> steps;
  bool hasRanked = false;
  int32_t rankedBuffer = -1, rankedFirstSlot = -1, rankedLastSlot = -1, rankedCountsBuffer = -1;
  int64_t mostWords = 0;    ///< scalar words of the step that has most
  int64_t mostPointers = 0; ///< argument pointers of the step that has most

  bool uses(proto::Buffer::Role role) const;
  /// Number of the buffer called `name`, -1 when there is none.
  int32_t buffer(const std::string &name) const;
  /// Number of the first buffer of the role, -1 when there is none.
  int32_t buffer(proto::Buffer::Role role) const;
};

struct LoadedTensor {
  std::string name;
  ElementType elem = ElementType::F32;
  std::vector<int64_t> dims;
  int64_t bytes = 0; ///< of one layer's instance
  bool artefact = false;
  bool carried = false; ///< made by one program of an event for a later one; no dims
};

/// Whether a buffer of this role is memory that the program itself fills.
inline bool isMade(proto::Buffer::Role role) {
  return role == proto::Buffer::TRANSIENT || role == proto::Buffer::PASSED ||
         role == proto::Buffer::PASSED_ROWS;
}

/// Whether a buffer of this role shows a request table, which its name tells.
inline bool isRequest(proto::Buffer::Role role) {
  return role == proto::Buffer::REQUEST || role == proto::Buffer::REQUEST_ROWS ||
         role == proto::Buffer::REQUEST_SIZE;
}

/// What a program kind is called in messages: "prefill", "prompt_end" ...
const char *programKindName(proto::Program::Kind kind);

class LoadedExecutable {
public:
  /// Bad input, naming the method, program and step at fault, when something refers to what is not
  /// there. `code` may be null when the programs launch no kernels.
  static StatusOr<std::shared_ptr<const LoadedExecutable>>
  load(std::shared_ptr<const proto::Executable> message, std::shared_ptr<const CodeObject> code);

  const proto::Executable &message() const { return *message_; }
  const Geometry &geometry() const { return geometry_; }
  const std::vector<std::shared_ptr<const StoreSchema>> &stores() const { return stores_; }
  const std::vector<LoadedTensor> &tensors() const { return tensors_; }
  /// The programs of a kind that apply to a layer, in their order.
  const std::vector<const LoadedProgram *> &programs(proto::Program::Kind kind,
                                                     int64_t layer) const {
    return byKind_[kind][layer];
  }
  /// True when a program of the kind, for any layer, has a buffer of the role.
  bool anyUses(proto::Program::Kind kind, proto::Buffer::Role role) const;
  /// True when layers may pass on fewer rows of the prompt than they see.
  bool thinsPrompt() const { return anyUses(proto::Program::PREFILL, proto::Buffer::PASSED); }
  /// True when a program needs the token ids of its rows.
  bool usesIds() const;
  /// Names of the request tables that programs read, in order.
  std::vector<std::string> requests() const;
  /// (store, column) of the first column called `name`; (-1, -1) when there is none.
  std::pair<int32_t, int32_t> findColumn(const std::string &name) const;

private:
  friend class ExecutableLoader;
  LoadedExecutable() = default;
  std::shared_ptr<const proto::Executable> message_;
  std::shared_ptr<const CodeObject> code_;
  Geometry geometry_;
  std::vector<std::shared_ptr<const StoreSchema>> stores_;
  std::vector<LoadedTensor> tensors_;
  std::vector<std::unique_ptr<LoadedProgram>> programs_;
  std::vector<std::vector<const LoadedProgram *>> byKind_[proto::Program::Kind_ARRAYSIZE];
};

} // namespace kvcache::rt
