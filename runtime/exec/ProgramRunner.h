// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs a program for a batch of sequences: steps in order, each for all sequences before the next;
// a kernel's tasks of all sequences are one parallel loop. Invariant: results do not depend on how
// many threads there are or on what else is in the batch.

#pragma once

#include "runtime/exec/Frame.h"

#include <vector>

namespace kvcache::rt {

/// What the launches of each kernel added up to, by KernelInfo number.
struct KernelCounters {
  std::vector<int64_t> bytesRead, bytesWritten;
  std::vector<double> seconds;
};

class ProgramRunner {
public:
  explicit ProgramRunner(std::shared_ptr<const LoadedExecutable> executable);

  /// Runs a program on a layer. On failure, what it changed is not undone.
  Status run(const LoadedProgram &program, int64_t layer, const std::vector<RunItem> &items);
  /// The frame of an item of the last run: its buffers and slots stay until the next one.
  Frame &frame(size_t item) { return *frames_[item]; }
  /// Gives the memory of all frames back.
  void releaseScratch() { frames_.clear(); }

  const KernelCounters &counters() const { return counters_; }

private:
  /// The part of a launch that belongs to one sequence.
  struct Part {
    int64_t firstTask;
    Frame *frame;
  };

  Status launch(const LoadedKernel &kernel, int32_t step);
  Status runTasks(const LoadedKernel &kernel, int64_t tasks);
  Status fetch(const LoadedStep &step, Frame &frame);
  Status storeStep(const LoadedStep &step, Frame &frame);
  Status truncate(const LoadedStep &step, Frame &frame);
  Status beginCode(const LoadedStep &step, Frame &frame);
  void count(const LoadedKernel &kernel, Frame &frame);
  Status failure(const LoadedKernel &kernel, int32_t code) const;

  std::shared_ptr<const LoadedExecutable> executable_;
  const LoadedProgram *program_ = nullptr;
  int64_t layer_ = 0;
  size_t items_ = 0;
  std::vector<std::unique_ptr<Frame>> frames_;
  std::vector<Part> parts_;
  KernelCounters counters_;
};

} // namespace kvcache::rt
