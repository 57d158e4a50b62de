// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Places are taken cell by cell, so that a task with large divergences does not decide alone.

#include "tools/report/RankTable.h"

#include "tools/report/Format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

namespace kvcache::tools {

using rt::CellReport;

namespace {

/// What is summed up over the cells of a method under one budget.
struct Standing {
  std::string method;
  double places = 0, divergence = 0, bytes = 0, recall = 0;
  int64_t cells = 0, recallCells = 0;

  double meanPlace() const { return places / static_cast<double>(cells); }
};

using Question = std::tuple<rt::Task, int64_t, rt::QuestionPlace>;

/// Not a number is worse than any number.
double divergenceOf(const CellReport &cell) {
  return std::isnan(cell.kld.mean) ? std::numeric_limits<double>::infinity() : cell.kld.mean;
}

/// The place of `cell` among `rivals`, which hold it: the mean of the places of equal ones.
double placeAmong(const CellReport &cell, const std::vector<const CellReport *> &rivals) {
  double better = 0, equal = 0;
  for (const CellReport *rival : rivals) {
    better += divergenceOf(*rival) < divergenceOf(cell) ? 1 : 0;
    equal += divergenceOf(*rival) == divergenceOf(cell) ? 1 : 0;
  }
  return better + (equal + 1) / 2;
}

/// The methods under one budget, best first; of equal ones the first in the report.
std::vector<Standing> standings(const std::vector<const CellReport *> &cells) {
  std::map<Question, std::vector<const CellReport *>> byQuestion;
  for (const CellReport *cell : cells) {
    byQuestion[{cell->key.task, cell->key.length, cell->key.question}].push_back(cell);
  }
  std::vector<Standing> all;
  for (const CellReport *cell : cells) {
    auto standing = std::find_if(all.begin(), all.end(), [&](const Standing &one) {
      return one.method == cell->key.method;
    });
    if (standing == all.end()) {
      standing = all.insert(all.end(), Standing{cell->key.method});
    }
    const auto &rivals = byQuestion[{cell->key.task, cell->key.length, cell->key.question}];
    standing->places += placeAmong(*cell, rivals);
    standing->divergence += cell->kld.mean;
    standing->bytes += cell->bytesMeasured / cell->bytesDense;
    standing->cells += 1;
    if (cell->accuracy && cell->denseOk) {
      standing->recall += *cell->accuracy;
      standing->recallCells += 1;
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Standing &a, const Standing &b) {
    return a.meanPlace() < b.meanPlace();
  });
  return all;
}

} // namespace

Table rankTable(const ReportData &data) {
  Table table;
  table.columns = {
      {"budget", "Tokens that were asked for; none: at the method's own settings", true},
      {"rank", "Order by mean place"},
      {"method", "The compression method", true},
      {"mean place", "Mean of the places in divergence from dense, over tasks, lengths, questions"},
      {"KLD mean", "Mean divergence from dense in nats, over the same cells"},
      {"recall", "Mean share of right answers, over cells that dense answers"},
      {"bytes/dense", "Measured bytes over those of dense, mean over cells"},
      {"cells", "Tasks, lengths and questions that were evaluated"},
  };
  std::vector<std::string> budgets;
  std::map<std::string, std::vector<const CellReport *>> byBudget;
  for (const CellReport &cell : data.cells) {
    if (cell.key.method == "dense") {
      continue;
    }
    std::vector<const CellReport *> &cells = byBudget[cell.key.budget];
    if (cells.empty()) {
      budgets.push_back(cell.key.budget);
    }
    cells.push_back(&cell);
  }
  std::stable_partition(budgets.begin(), budgets.end(),
                        [](const std::string &budget) { return !budget.empty(); });
  for (const std::string &budget : budgets) {
    int64_t rank = 0;
    for (const Standing &one : standings(byBudget[budget])) {
      double cells = static_cast<double>(one.cells);
      table.rows.push_back(
          {{budget.empty() ? "none" : budget},
           {std::to_string(++rank)},
           {one.method},
           {fmt::format("{:.2f}", one.meanPlace())},
           {numberText(one.divergence / cells)},
           {one.recallCells == 0 ? "-"
                                 : numberText(one.recall / static_cast<double>(one.recallCells))},
           {fmt::format("{:.3f}", one.bytes / cells)},
           {std::to_string(one.cells)}});
    }
  }
  table.notes = {"Rank: by the mean of the places that a method takes in divergence from dense in "
                 "each task, length and question, among the methods with the same budget."};
  return table;
}

} // namespace kvcache::tools
