// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What `search` maximises, and how: candidates are vectors of one number for each layer, evaluated
// as the artefact of a method on samples of tasks. Layers are searched in groups, first to last,
// the others held at the best found so far.

#pragma once

#include "runtime/eval/BatchRun.h"
#include "runtime/eval/Journal.h"

#include <functional>
#include <string>
#include <vector>

namespace kvcache::tools {

/// score (1 + lambda CacheScore) for a mean budget against its target: CacheScore is 1 - gamma (1 -
/// mean / target) up to the target, max(0, 1 - (mean - target) / target) beyond it; lambda = 0.3,
/// gamma = 0.2.
double searchObjective(double score, double mean, double target);

struct BudgetSearchOptions {
  int64_t target = 0;       ///< mean budget
  int64_t longest = 0;      ///< most tokens a layer can keep
  int64_t group = 8;        ///< layers of a group
  int64_t generations = 10; ///< of each group
  double sigma = 0.3;       ///< first step, relative to the target
  uint64_t seed = 1;
  std::string key;                ///< what the scores depend on besides the candidate
  std::function<void()> progress; ///< after each candidate; may be empty
};

struct Candidate {
  std::vector<int64_t> budgets; ///< [L], each >= 1
  double score = 0;             ///< share of questions answered right
  double objective = 0;
};

struct BudgetSearchResult {
  Candidate start, best;
  int64_t evaluated = 0; ///< candidates, the start included
};

/// Evaluates an artefact with one number for each layer on batches of samples.
class BudgetSearch {
public:
  /// `artefact` is the number of it among those of `method`; batches were prefilled and hold
  /// references.
  BudgetSearch(rt::Decoder &decoder, rt::Execution &method, size_t artefact,
               const std::vector<rt::Batch> &batches, rt::Journal &journal,
               BudgetSearchOptions options)
      : decoder_(decoder), method_(method), artefact_(artefact), batches_(batches),
        journal_(journal), options_(std::move(options)) {}

  /// Candidates that `run` evaluates at most, the start included.
  int64_t candidates() const;
  rt::StatusOr<BudgetSearchResult> run();
  /// The share of questions that `budgets` answers right on `batches`, taken from the journal where
  /// it has it.
  rt::StatusOr<double> score(const std::vector<int64_t> &budgets,
                             const std::vector<rt::Batch> &batches, const std::string &what);

private:
  rt::Status searchGroup(size_t first, size_t size, BudgetSearchResult &result);
  rt::StatusOr<Candidate> evaluated(std::vector<int64_t> budgets);

  rt::Decoder &decoder_;
  rt::Execution &method_;
  size_t artefact_;
  const std::vector<rt::Batch> &batches_;
  rt::Journal &journal_;
  BudgetSearchOptions options_;
};

} // namespace kvcache::tools
