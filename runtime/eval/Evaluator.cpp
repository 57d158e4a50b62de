// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Walks the grid. The unit of work is a part: one batch of samples under one method and budget.

#include "runtime/eval/Evaluator.h"

#include "runtime/eval/CalibrationData.h"
#include "runtime/model/Tokens.h"

#include <algorithm>
#include <optional>
#include <sstream>

namespace kvcache::rt {

namespace {

/// A column of the grid: a method with one of its budgets.
struct Column {
  const EvalMethod *method;
  const EvalBudget *budget; ///< null: the method has none
};

/// A row of the grid: what the samples are.
struct Group {
  Task task;
  int64_t length;
  QuestionPlace question;
};

class Evaluation {
public:
  Evaluation(Decoder &decoder, const TaskMaterial &material, const EvalGrid &grid,
             const std::string &modelHash, Journal &journal, const EvalHooks &hooks)
      : decoder_(decoder), material_(material), grid_(grid), modelHash_(modelHash),
        journal_(journal), hooks_(hooks) {}

  StatusOr<EvalResult> run(const EvalMethod &dense, const std::vector<EvalMethod> &methods);

private:
  Status makeColumns(const EvalMethod &dense, const std::vector<EvalMethod> &methods);
  void makeGroups();
  /// Runs the missing parts of a batch; false when cancelled.
  StatusOr<bool> runBatch(const Group &group, int64_t first);
  StatusOr<Batch> prepare(const Group &group, int64_t first);
  StatusOr<std::vector<int64_t>> budgetsOf(const Batch &batch, const Column &column) const;
  void report(const Group &group, EvalResult &result) const;

  std::string partKey(const Group &group, const Column &column, int64_t first) const;
  int64_t samplesFrom(int64_t first) const { return std::min(grid_.batch, grid_.samples - first); }
  bool measuresAttention(int64_t first) const { return grid_.attentionError && first == 0; }
  CellKey cellKey(const Group &group, const Column &column) const;
  double workOf(const Group &group) const;
  void tell(const Group &group, const Column &column);
  bool cancelled() const { return hooks_.cancel && hooks_.cancel->load(); }

  Decoder &decoder_;
  const TaskMaterial &material_;
  const EvalGrid &grid_;
  const std::string &modelHash_;
  Journal &journal_;
  const EvalHooks &hooks_;
  std::vector<Column> columns_; ///< the first is dense
  std::vector<Group> groups_;
  EvalProgress progress_;
};

Status Evaluation::makeColumns(const EvalMethod &dense, const std::vector<EvalMethod> &methods) {
  columns_.push_back({&dense, nullptr});
  for (const EvalMethod &method : methods) {
    if (!method.execution->hasTokenBudget()) {
      columns_.push_back({&method, nullptr});
      continue;
    }
    if (grid_.budgets.empty()) {
      return Status::badInput("method '" + method.name +
                              "' needs a token budget: expected budgets, got none");
    }
    for (const EvalBudget &budget : grid_.budgets) {
      columns_.push_back({&method, &budget});
    }
  }
  return Status::ok();
}

void Evaluation::makeGroups() {
  for (Task task : grid_.tasks) {
    for (int64_t length : grid_.lengths) {
      if (task == Task::Text) {
        groups_.push_back({task, length, QuestionPlace::None});
        continue;
      }
      for (QuestionPlace question : grid_.questions) {
        // One context with its question inside cannot be asked another.
        if (task != Task::MultiTurn || question == QuestionPlace::Outside) {
          groups_.push_back({task, length, question});
        }
      }
    }
  }
}

std::string Evaluation::partKey(const Group &group, const Column &column, int64_t first) const {
  const Execution &execution = *column.method->execution;
  std::ostringstream key;
  key << "v1 model=" << modelHash_ << " dense=" << columns_[0].method->execution->methodHash()
      << " method=" << execution.methodName() << " hash=" << execution.methodHash()
      << " target=" << execution.target() << " params=";
  for (const auto &[name, value] : execution.parameters()) {
    key << name << '=' << value << ';';
  }
  key << " budget=" << (column.budget ? column.budget->text : "none")
      << " task=" << taskName(group.task) << " length=" << group.length
      << " question=" << questionPlaceName(group.question) << " seed=" << grid_.seed
      << " first=" << first << " count=" << samplesFrom(first)
      << " attention=" << measuresAttention(first)
      << " calibration=" << column.method->calibratedOn;
  if (!column.method->artefacts.empty()) {
    key << " artefacts=" << column.method->artefacts;
  }
  return key.str();
}

CellKey Evaluation::cellKey(const Group &group, const Column &column) const {
  CellKey key{column.method->name, column.method->execution->parameters(),
              group.task,          group.length,
              group.question,      ""};
  if (column.budget) {
    key.budget = column.budget->text;
    key.params.erase("budget"); // a default that the budget of a run replaces
  }
  return key;
}

/// A rough measure of time: a decoded token costs about as much as ten prompt tokens.
double Evaluation::workOf(const Group &group) const {
  double decoded = group.task == Task::Text        ? textAnswerBytes
                   : group.task == Task::MultiTurn ? 15 * turnsPerSample
                                                   : 30;
  return group.length + 10 * decoded;
}

void Evaluation::tell(const Group &group, const Column &column) {
  if (!hooks_.progress) {
    return;
  }
  std::ostringstream cell;
  cell << column.method->name << (column.budget ? " " + column.budget->text : "") << ", "
       << taskName(group.task) << " " << group.length << " " << questionPlaceName(group.question);
  progress_.cell = cell.str();
  hooks_.progress(progress_);
}

StatusOr<Batch> Evaluation::prepare(const Group &group, int64_t first) {
  std::vector<Sample> samples;
  for (int64_t i = first; i < first + samplesFrom(first); ++i) {
    StatusOr<Sample> sample = makeSample(material_, group.task, group.length, grid_.seed, i);
    if (!sample.isOk()) {
      return sample.status();
    }
    samples.push_back(group.question == QuestionPlace::Inside ? questionInside(std::move(*sample))
                                                              : std::move(*sample));
  }
  RecordOptions options;
  options.queryRows = 0;
  for (const Column &column : columns_) {
    int64_t rows = column.method->execution->neededQueryRows();
    options.queryRows = rows < 0 || options.queryRows < 0 ? -1 : std::max(options.queryRows, rows);
    options.preRopeKeys |= column.method->execution->needsPreRopeKeys();
  }
  Execution &dense = *columns_[0].method->execution;
  StatusOr<Batch> batch = prefillBatch(decoder_, dense, std::move(samples), options);
  if (batch.isOk()) {
    KVCACHE_RETURN_IF_ERROR(runReference(decoder_, dense, *batch, measuresAttention(first)));
  }
  return batch;
}

/// Of each sample; -1 for a method without a token budget.
StatusOr<std::vector<int64_t>> Evaluation::budgetsOf(const Batch &batch,
                                                     const Column &column) const {
  std::vector<int64_t> budgets(batch.samples.size(), -1);
  for (size_t i = 0; column.budget && i < budgets.size(); ++i) {
    size_t fed = 0;
    for (const Question &question : batch.samples[i].questions) {
      fed = std::max(fed, question.question.size() + question.answer.size() - 1);
    }
    StatusOr<int64_t> tokens =
        column.budget->tokens(*column.method->execution, batch.recordings[i], fed);
    if (!tokens.isOk()) {
      return tokens.status();
    }
    budgets[i] = *tokens;
  }
  return budgets;
}

StatusOr<bool> Evaluation::runBatch(const Group &group, int64_t first) {
  std::optional<Batch> batch;
  for (const Column &column : columns_) {
    std::string key = partKey(group, column, first);
    if (journal_.find(key)) {
      continue;
    }
    if (cancelled()) {
      return false;
    }
    tell(group, column);
    if (!batch) {
      StatusOr<Batch> prepared = prepare(group, first);
      if (!prepared.isOk()) {
        return prepared.status();
      }
      batch = std::move(*prepared);
    }
    StatusOr<std::vector<int64_t>> budgets = budgetsOf(*batch, column);
    if (!budgets.isOk()) {
      return budgets.status();
    }
    StatusOr<std::vector<SampleOutcome>> outcomes =
        runMethod(decoder_, *column.method->execution, *batch, *budgets, grid_.seed + first);
    if (!outcomes.isOk()) {
      return Status(outcomes.status().code(),
                    "method '" + column.method->name + "': " + outcomes.status().message());
    }
    KVCACHE_RETURN_IF_ERROR(journal_.add(key, std::move(*outcomes)));
    ++progress_.done;
    progress_.doneWork += workOf(group) * samplesFrom(first);
  }
  return true;
}

/// Adds the cells of a group whose parts are all there.
void Evaluation::report(const Group &group, EvalResult &result) const {
  std::vector<SampleOutcome> dense;
  for (const Column &column : columns_) {
    std::vector<SampleOutcome> outcomes;
    bool complete = true;
    for (int64_t first = 0; first < grid_.samples; first += grid_.batch) {
      const std::vector<SampleOutcome> *part = journal_.find(partKey(group, column, first));
      complete &= part != nullptr;
      if (part) {
        outcomes.insert(outcomes.end(), part->begin(), part->end());
      }
    }
    if (!complete) {
      continue;
    }
    if (&column == &columns_.front()) {
      dense = outcomes;
    }
    if (dense.size() == outcomes.size()) {
      result.cells.push_back(reportCell(cellKey(group, column), outcomes, dense,
                                        column.method->execution->geometry()));
    }
  }
}

StatusOr<EvalResult> Evaluation::run(const EvalMethod &dense,
                                     const std::vector<EvalMethod> &methods) {
  KVCACHE_RETURN_IF_ERROR(makeColumns(dense, methods));
  makeGroups();
  for (const Group &group : groups_) {
    for (int64_t first = 0; first < grid_.samples; first += grid_.batch) {
      for (const Column &column : columns_) {
        bool missing = !journal_.find(partKey(group, column, first));
        progress_.total += missing ? 1 : 0;
        progress_.totalWork += missing ? workOf(group) * samplesFrom(first) : 0;
      }
    }
  }
  EvalResult result;
  for (const Group &group : groups_) {
    for (int64_t first = 0; first < grid_.samples && !result.interrupted; first += grid_.batch) {
      StatusOr<bool> finished = runBatch(group, first);
      if (!finished.isOk()) {
        return finished.status();
      }
      result.interrupted = !*finished;
    }
    report(group, result);
  }
  return result;
}

} // namespace

StatusOr<EvalResult> evaluate(Decoder &decoder, const TaskMaterial &material,
                              const EvalMethod &dense, const std::vector<EvalMethod> &methods,
                              const EvalGrid &grid, const std::string &modelHash, Journal &journal,
                              const EvalHooks &hooks) {
  if (grid.samples < 1 || grid.batch < 1) {
    return Status::badInput("expected at least one sample and a batch of at least one, got " +
                            std::to_string(grid.samples) + " and " + std::to_string(grid.batch));
  }
  return Evaluation(decoder, material, grid, modelHash, journal, hooks).run(dense, methods);
}

Status calibrateMethods(Decoder &decoder, Execution &dense, const TaskMaterial &material,
                        const EvalGrid &grid, std::vector<EvalMethod> &methods) {
  constexpr uint64_t calibrationSeed = 0; // that of `kvasir calibrate`
  constexpr int64_t windows = 8, decodedRoom = 256;
  int64_t tokens = decodedRoom;
  for (int64_t length : grid.lengths) {
    tokens = std::max(tokens, length + decodedRoom);
  }
  std::vector<EvalMethod *> waiting;
  RecordOptions options;
  for (EvalMethod &method : methods) {
    if (!method.execution->calibrationSources().empty() && method.artefacts.empty()) {
      KVCACHE_RETURN_IF_ERROR(
          calibrateOnSequences(decoder, dense, material, calibrationSeed, *method.execution)
              .status());
      method.calibratedOn = sampledCalibration;
    } else if (method.execution->needsCalibration()) {
      waiting.push_back(&method);
      options.preRopeKeys |= method.execution->needsPreRopeKeys();
    }
  }
  if (waiting.empty()) {
    return Status::ok();
  }
  Random random{0x63616c6962};
  std::vector<Sample> samples;
  for (int64_t i = 0; i < windows; ++i) {
    StatusOr<std::string> text = drawText(material.calibration, random, tokens - 1);
    if (!text.isOk()) {
      return text.status();
    }
    samples.push_back({{byteLevelBegin}, {}});
    samples.back().context.insert(samples.back().context.end(), text->begin(), text->end());
  }
  StatusOr<Batch> batch = prefillBatch(decoder, dense, std::move(samples), options);
  if (!batch.isOk()) {
    return batch.status();
  }
  for (EvalMethod *method : waiting) {
    for (const PromptRecording &recording : batch->recordings) {
      KVCACHE_RETURN_IF_ERROR(calibrate(recording, *method->execution));
    }
    KVCACHE_RETURN_IF_ERROR(method->execution->finishCalibration());
    method->calibratedOn = tokens;
  }
  return Status::ok();
}

} // namespace kvcache::rt
