// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which number goes into which column, for the table of an evaluation and that of the demo.

#include "tools/report/EvalTable.h"

#include "tools/report/DemoLines.h"
#include "tools/report/Format.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvcache::tools {

using rt::CellReport;
using rt::Difference;

static TableCell missing() { return {"-", false}; }

/// A signed difference, grey where its interval covers 0.
static TableCell differenceCell(const std::optional<Difference> &difference) {
  if (!difference) {
    return missing();
  }
  std::string text = (difference->value > 0 ? "+" : "") + numberText(difference->value);
  return {text, difference->interval.covers(0)};
}

static std::string budgetText(const CellReport &cell) {
  return cell.key.budget.empty() ? "-" : cell.key.budget;
}

static double meanAttentionError(const CellReport &cell) {
  double sum = 0;
  for (double error : cell.attentionError) {
    sum += error / cell.attentionError.size();
  }
  return sum;
}

static std::vector<TableCell> evalLine(const CellReport &cell) {
  bool counts = cell.denseOk;
  return {
      {rt::taskName(cell.key.task)},
      {fmt::format("{}", cell.key.length)},
      {rt::questionPlaceName(cell.key.question)},
      {cell.key.method},
      {budgetText(cell)},
      {keptText(cell)},
      {bytesText(cell.bytesMeasured)},
      {bytesText(std::max(0.0, cell.residentBytes))},
      {numberText(cell.bitsPerValueK)},
      {numberText(cell.bitsPerValueV)},
      {numberText(cell.kld.mean)},
      {numberText(cell.kld.p99)},
      {numberText(cell.top1)},
      cell.accuracy ? TableCell{shareText(*cell.accuracy, cell.accuracyInterval), !counts}
                    : missing(),
      differenceCell(cell.accuracyDifference),
      cell.bitsPerByte ? TableCell{numberText(*cell.bitsPerByte)} : missing(),
      differenceCell(cell.bitsDifference),
      cell.attentionError.empty() ? missing() : TableCell{numberText(meanAttentionError(cell))},
      {secondsText(cell.compressSeconds)},
      {numberText(cell.decodeTokensPerSecond)},
  };
}

Table evalTable(const ReportData &data) {
  Table table;
  table.columns = {
      {"task", "What is asked", true},
      {"length", "Tokens of the context"},
      {"question", "Where the question is when the context is compressed", true},
      {"method", "The compression method", true},
      {"budget", "Tokens per head and layer that were asked for: a share, a number, or bytes"},
      {"kept", "Tokens kept per layer and head, least to most"},
      {"bytes", "Bytes of the cache after compression, as its allocator counts them"},
      {"resident",
       "Growth of the process's resident memory while the cache was made: a witness from "
       "outside; memory used again does not show"},
      {"k bits", "Stored bits of keys over values of all tokens seen"},
      {"v bits", "Stored bits of values over values of all tokens seen"},
      {"KLD mean", "KL divergence from dense in nats, mean over all tokens fed after compression"},
      {"KLD p99", "KL divergence from dense in nats, 99th percentile"},
      {"top-1", "Share of tokens whose most likely successor is that of dense"},
      {"accuracy", "Share of right answers with the 95 % Wilson interval"},
      {"vs dense", "Difference in accuracy to dense on the same samples; grey: not significant"},
      {"bits/byte", "Bits per byte of held-out text"},
      {"vs dense", "Difference in bits per byte to dense; grey: not significant"},
      {"attn err", "Relative error of attention outputs for dense's queries, mean over layers"},
      {"compress", "Time to compress one context"},
      {"tokens/s", "Decoded tokens per second of the whole batch"},
  };
  bool anyGreyed = false;
  for (const CellReport &cell : data.cells) {
    table.rows.push_back(evalLine(cell));
    anyGreyed |= !cell.denseOk;
  }
  table.notes.push_back("In parentheses (grey): the 95 % interval of a difference covers 0.");
  if (anyGreyed) {
    table.notes.push_back("An accuracy in parentheses (grey): dense answers less than 90 % there.");
  }
  return table;
}

namespace {

TableCell recallCell(const CellReport *cell) {
  return cell ? TableCell{shareText(*cell->accuracy, cell->accuracyInterval), !cell->denseOk}
              : missing();
}

TableCell timingCell(const ReportedMethod &method) {
  if (!method.timing) {
    return missing();
  }
  const AttendTiming &timing = *method.timing;
  return {fmt::format("{:.2f}x [{:.2f}, {:.2f}]", timing.ratio, timing.ratioLo, timing.ratioHi),
          !timing.differs};
}

} // namespace

/// "0.25 of the tokens ..." of all budgets of the cells.
static std::string budgetsText(const ReportData &data) {
  std::vector<std::string> budgets;
  for (const CellReport &cell : data.cells) {
    bool isNew = std::find(budgets.begin(), budgets.end(), cell.key.budget) == budgets.end();
    if (isNew && !cell.key.budget.empty()) {
      budgets.push_back(cell.key.budget);
    }
  }
  return fmt::format("{} of a context's tokens per layer and KV head, for methods that take one",
                     budgets.empty() ? "none" : fmt::format("{}", fmt::join(budgets, ", ")));
}

Table demoTable(const ReportData &data) {
  Table table;
  table.columns = {
      {"method", "The compression method", true},
      {"settings", "Parameters that differ from the method's defaults", true},
      {"kept", "Tokens kept per layer and head, least to most"},
      {"bytes", "Bytes of the cache after compression, as its allocator counts them"},
      {"bits", "Stored bits over values of all tokens seen, mean of keys and values"},
      {"KLD mean", "KL divergence from dense on held-out text, in nats"},
      {"KLD p99", "Its 99th percentile"},
      {"top-1", "Share of tokens whose most likely successor is that of dense"},
      {"passkey outside", "Right answers, question not in the compressed part"},
      {"passkey inside", "Right answers, question in the compressed part"},
      {"kv outside", "Right answers, question not in the compressed part"},
      {"kv inside", "Right answers, question in the compressed part"},
      {"kernels", "Kernels that run fused, or what does not", true},
      {"attend/dense", "Time of decode attention over that of dense, with 95 % interval"},
      {"tokens/s", "Decoded tokens per second of the whole batch"},
  };
  for (const DemoLine &line : demoLines(data)) {
    const CellReport &text = *line.text;
    table.rows.push_back({
        {text.key.method},
        {line.method->settings},
        {keptText(text)},
        {bytesText(text.bytesMeasured)},
        {numberText((text.bitsPerValueK + text.bitsPerValueV) / 2)},
        {numberText(text.kld.mean)},
        {numberText(text.kld.p99)},
        {numberText(text.top1)},
        recallCell(line.passkeyOutside),
        recallCell(line.passkeyInside),
        recallCell(line.keyValueOutside),
        recallCell(line.keyValueInside),
        {line.method->kernels},
        timingCell(*line.method),
        {numberText(text.decodeTokensPerSecond)},
    });
  }
  table.notes = {"Budget: " + budgetsText(data) + ".",
                 "Recall with its 95 % Wilson interval; in parentheses (grey) where dense answers "
                 "less than 90 %.",
                 "tokens/s: the cache of this model fits in the processor's last-level cache, so "
                 "they say nothing about large models."};
  if (!data.timingGeometry.empty()) {
    table.notes.push_back("attend/dense: decode attention over a synthetic cache, " +
                          data.timingGeometry +
                          "; below 1 is faster, in parentheses (grey) where no difference is shown.");
  }
  return table;
}

rt::Status checkProof(const ReportData &data) {
  for (const CellReport &cell : data.cells) {
    if (!cell.mismatch.empty()) {
      return rt::Status::checkFailed(fmt::format(
          "method '{}', task {}, length {}: bytes are not as claimed: {}", cell.key.method,
          rt::taskName(cell.key.task), cell.key.length, cell.mismatch));
    }
  }
  return rt::Status::ok();
}

} // namespace kvcache::tools
