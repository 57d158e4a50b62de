// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A sequence of a compiled method: the states of its layers, and what a reader sees of them.
// Changed by its execution only (Executor.h).

#pragma once

#include "runtime/Execution.h"
#include "runtime/exec/CodedExport.h"
#include "runtime/exec/ProgramRunner.h"

#include <memory>
#include <utility>
#include <vector>

namespace kvcache::rt {

/// What an execution and its sequences share; it lives until the last of them is gone.
struct ExecutionCore {
  ExecutionCore(std::shared_ptr<const LoadedExecutable> loaded, std::unique_ptr<Arena> pages,
                bool capture)
      : executable(std::move(loaded)), arena(std::move(pages)), runner(executable),
        captureScores(capture) {}

  std::shared_ptr<const LoadedExecutable> executable;
  std::unique_ptr<Arena> arena;
  ProgramRunner runner;
  bool captureScores;
};

class CompiledSequence final : public Sequence {
public:
  CompiledSequence(std::shared_ptr<ExecutionCore> core, std::shared_ptr<const Artefacts> artefacts,
                   const SequenceOptions &options);

  /// Null when memory is out.
  std::unique_ptr<Sequence> fork() const override;
  /// Empty when the layer is out of range.
  LayerReport report(int64_t layer) const override;
  /// Bad input when the layer or head is out of range.
  StatusOr<HeadContents> contents(int64_t layer, int64_t head) const override;
  int64_t length() const override { return static_cast<int64_t>(appended_.size()); }

private:
  friend class CompiledExecution;
  /// What the READ program says of a layer, kept until the sequence changes.
  struct ReadRows {
    int64_t layer = -1;
    uint64_t version = 0;
    std::vector<float> k, v; ///< [heads, rows, width]
    std::vector<int64_t> kExtents, vExtents;
    std::vector<std::pair<int32_t, int64_t>> byPosition; ///< (position, order of arrival), sorted
  };

  /// Gives rows up to `length` that a request table does not reach the entry 0.
  void extendRequests(int64_t length);
  RunItem item(int64_t layer, const LayerRows &rows) const;
  Status readLayer(int64_t layer) const;
  Status takeBuffer(const LoadedProgram &program, const char *name, std::vector<float> &values,
                    std::vector<int64_t> &extents) const;
  int64_t heads() const;
  HeadSlice slice(int64_t rowHeads, int64_t width, int64_t head) const;
  Status findSources(const LayerState &state, int64_t head, int64_t rows,
                     HeadContents &contents) const;
  void addCaptured(const LayerState &state, int64_t head, int64_t rows,
                   HeadContents &contents) const;
  /// Keeps what a program's selection ranked; the program has just run as item `index` of the
  /// batch.
  void capture(const LoadedProgram &program, int64_t layer, size_t index);

  std::shared_ptr<ExecutionCore> core_;
  std::shared_ptr<const Artefacts> artefacts_;
  SequenceOptions options_;
  std::vector<std::unique_ptr<LayerState>> layers_;
  RequestState requests_;
  std::vector<int32_t> appended_; ///< positions in the order of arrival
  Status broken_;                 ///< why the sequence can no longer be used
  bool promptEnded_ = false;      ///< rows may be coded: only decode steps may follow
  uint64_t version_ = 1;
  mutable ReadRows read_;
};

} // namespace kvcache::rt
