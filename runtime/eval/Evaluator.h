// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs a grid of methods, tasks, lengths, question places and budgets. The dense prefill of a batch
// of samples is computed once and shared by all methods. Invariant: every number but times and
// resident memory depends on the grid, the model and the methods alone, whether the run was
// interrupted or not.

#pragma once

#include "runtime/eval/BatchRun.h"
#include "runtime/eval/Cell.h"
#include "runtime/eval/Journal.h"

#include <atomic>
#include <functional>
#include <string>
#include <vector>

namespace kvcache::rt {

/// Stands in EvalMethod::calibratedOn for a method that says itself which sequences it sees.
constexpr int64_t sampledCalibration = -1;

/// A method that is evaluated; calibrated when it needs it.
struct EvalMethod {
  std::string name;
  Execution *execution = nullptr; ///< not owned
  /// Tokens of a calibration window, or `sampledCalibration`; 0: nothing was calibrated here.
  int64_t calibratedOn = 0;
  std::string artefacts = {};     ///< a checksum of artefacts that were given; empty: none were
};

/// A budget as it was asked for, and what it comes to: tokens per KV head and layer for a method
/// and a recorded prompt, after which at most `fed` tokens are decoded. Must give the same for the
/// same arguments.
struct EvalBudget {
  std::string text;
  std::function<StatusOr<int64_t>(Execution &, const PromptRecording &, int64_t fed)> tokens;
};

struct EvalGrid {
  std::vector<Task> tasks;
  std::vector<int64_t> lengths; ///< tokens of a context, its question not counted
  std::vector<QuestionPlace>
      questions;                   ///< Outside, Inside or both; tasks that ask nothing run once
  std::vector<EvalBudget> budgets; ///< for methods with a token budget
  int64_t samples = 100;           ///< per cell
  int64_t batch = 12;              ///< samples that run together
  bool attentionError = true;      ///< measure it, on the first batch of each cell
  uint64_t seed = 1;
};

struct EvalProgress {
  int64_t done = 0, total = 0;        ///< parts: a batch under one method
  double doneWork = 0, totalWork = 0; ///< tokens; what the journal had counts as neither
  std::string cell;                   ///< what comes next
};

struct EvalHooks {
  std::function<void(const EvalProgress &)> progress; ///< may be empty
  const std::atomic<bool> *cancel = nullptr;          ///< set: stop before the next part
};

struct EvalResult {
  std::vector<CellReport> cells; ///< in the order of the grid; only finished ones
  bool interrupted = false;
};

/// Evaluates `methods` and, before them, `dense`, which takes the same way as they do. Parts that
/// `journal` has are not run again. `modelHash` goes into the keys. Bad input when a task does not
/// fit, a budget is refused, or there are budgets missing for a method that needs one.
StatusOr<EvalResult> evaluate(Decoder &decoder, const TaskMaterial &material,
                              const EvalMethod &dense, const std::vector<EvalMethod> &methods,
                              const EvalGrid &grid, const std::string &modelHash, Journal &journal,
                              const EvalHooks &hooks = {});

/// Calibrates those of `methods` that need it on 8 windows of the calibration text, drawn with a
/// fixed seed and prefilled with `dense`, and sets `calibratedOn`. A window has room for the
/// longest context of the grid and what is decoded after it: keys after RoPE depend on their
/// positions, so positions that calibration never saw would be coded badly. Methods that say which
/// sequences they see get those, unless artefacts were given.
Status calibrateMethods(Decoder &decoder, Execution &dense, const TaskMaterial &material,
                        const EvalGrid &grid, std::vector<EvalMethod> &methods);

} // namespace kvcache::rt
