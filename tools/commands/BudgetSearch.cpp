// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each score is in the journal before the next candidate runs, and candidates follow from the seed
// and the scores alone, so that a search goes on where it was interrupted.

#include "tools/commands/BudgetSearch.h"

#include "runtime/Artefacts.h"
#include "runtime/eval/CmaEs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

double searchObjective(double score, double mean, double target) {
  constexpr double lambda = 0.3, gamma = 0.2;
  double cache = mean <= target ? 1 - gamma * (1 - mean / target)
                                : std::max(0.0, 1 - (mean - target) / target);
  return score * (1 + lambda * cache);
}

static double meanOf(const std::vector<int64_t> &budgets) {
  return static_cast<double>(std::accumulate(budgets.begin(), budgets.end(), int64_t{0})) /
         static_cast<double>(budgets.size());
}

int64_t BudgetSearch::candidates() const {
  int64_t count = 1, layers = method_.geometry().layers;
  for (int64_t first = 0; first < layers; first += options_.group) {
    auto size = static_cast<size_t>(std::min(options_.group, layers - first));
    count += options_.generations * rt::CmaEs(std::vector<double>(size, 1), 1, 0).population();
  }
  return count;
}

StatusOr<double> BudgetSearch::score(const std::vector<int64_t> &budgets,
                                     const std::vector<rt::Batch> &batches,
                                     const std::string &what) {
  std::vector<float> values(budgets.begin(), budgets.end());
  for (int64_t layer = 0; layer < method_.geometry().layers; ++layer) {
    KVCACHE_RETURN_IF_ERROR(method_.artefactHolder()->setArtefactValues(artefact_, layer, values));
  }
  auto budget = static_cast<int64_t>(std::llround(meanOf(budgets)));
  int64_t right = 0, questions = 0;
  for (size_t b = 0; b < batches.size(); ++b) {
    std::string key = fmt::format("search {} {} batch={} budgets={}", options_.key, what, b,
                                  fmt::join(budgets, ","));
    if (journal_.find(key) == nullptr) {
      StatusOr<std::vector<rt::SampleOutcome>> outcomes =
          rt::runMethod(decoder_, method_, batches[b],
                        std::vector<int64_t>(batches[b].samples.size(), budget), options_.seed);
      KVCACHE_RETURN_IF_ERROR(outcomes.status());
      KVCACHE_RETURN_IF_ERROR(journal_.add(key, std::move(*outcomes)));
    }
    for (const rt::SampleOutcome &outcome : *journal_.find(key)) {
      right += std::accumulate(outcome.correct.begin(), outcome.correct.end(), int64_t{0});
      questions += static_cast<int64_t>(outcome.correct.size());
    }
  }
  return static_cast<double>(right) / static_cast<double>(std::max<int64_t>(questions, 1));
}

StatusOr<Candidate> BudgetSearch::evaluated(std::vector<int64_t> budgets) {
  StatusOr<double> found = score(budgets, batches_, "found-on");
  KVCACHE_RETURN_IF_ERROR(found.status());
  double objective = searchObjective(*found, meanOf(budgets), static_cast<double>(options_.target));
  if (options_.progress) {
    options_.progress();
  }
  return Candidate{std::move(budgets), *found, objective};
}

Status BudgetSearch::searchGroup(size_t first, size_t size, BudgetSearchResult &result) {
  auto target = static_cast<double>(options_.target);
  std::vector<double> mean;
  for (size_t i = 0; i < size; ++i) {
    mean.push_back(static_cast<double>(result.best.budgets[first + i]) / target);
  }
  rt::CmaEs search(std::move(mean), options_.sigma, options_.seed * 1009 + first);
  for (int64_t generation = 0; generation < options_.generations; ++generation) {
    std::vector<rt::CmaEs::Point> points = search.ask();
    std::vector<double> values;
    for (const rt::CmaEs::Point &point : points) {
      std::vector<int64_t> budgets = result.best.budgets;
      for (size_t i = 0; i < size; ++i) {
        budgets[first + i] =
            std::clamp<int64_t>(std::llround(point[i] * target), 1, options_.longest);
      }
      StatusOr<Candidate> candidate = evaluated(std::move(budgets));
      KVCACHE_RETURN_IF_ERROR(candidate.status());
      values.push_back(candidate->objective);
      ++result.evaluated;
      if (candidate->objective > result.best.objective) {
        result.best = std::move(*candidate);
      }
    }
    search.tell(points, values);
  }
  return Status::ok();
}

StatusOr<BudgetSearchResult> BudgetSearch::run() {
  int64_t layers = method_.geometry().layers;
  BudgetSearchResult result;
  StatusOr<Candidate> start =
      evaluated(std::vector<int64_t>(static_cast<size_t>(layers), options_.target));
  KVCACHE_RETURN_IF_ERROR(start.status());
  result.start = result.best = *start;
  result.evaluated = 1;
  for (int64_t first = 0; first < layers; first += options_.group) {
    KVCACHE_RETURN_IF_ERROR(
        searchGroup(static_cast<size_t>(first),
                    static_cast<size_t>(std::min(options_.group, layers - first)), result));
  }
  return result;
}

} // namespace kvcache::tools
