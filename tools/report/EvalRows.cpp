// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows of the JSON reports; keys are those of docs/schema. A value that is missing is null.

#include "tools/report/DemoLines.h"
#include "tools/report/EvalTable.h"

#include <cmath>

namespace kvcache::tools {

using rt::CellReport;
using rt::Difference;

static Json jsonOf(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

template <typename T>
static Json jsonOf(const std::optional<T> &value) {
  return value ? jsonOf(*value) : Json(nullptr);
}

/// A number where the budget is one, else its text; null for a method without a token budget.
static Json budgetJson(const std::string &budget) {
  Json number = Json::parse(budget, nullptr, /*allow_exceptions=*/false);
  return budget.empty() ? Json(nullptr) : number.is_number() ? number : Json(budget);
}

/// NAME, NAME_lo, NAME_hi; all null when there is none.
static void addInterval(Json &row, const std::string &name, const std::optional<double> &value,
                        const rt::Interval &interval) {
  row[name] = jsonOf(value);
  row[name + "_lo"] = value ? jsonOf(interval.lo) : Json(nullptr);
  row[name + "_hi"] = value ? jsonOf(interval.hi) : Json(nullptr);
}

static void addDifference(Json &row, const std::string &name,
                          const std::optional<Difference> &difference) {
  std::optional<double> value;
  rt::Interval interval;
  if (difference) {
    value = difference->value;
    interval = difference->interval;
  }
  addInterval(row, name, value, interval);
}

static Json evalRow(const CellReport &cell, uint64_t seed) {
  Json row = {{"method", cell.key.method},
              {"params", cell.key.params},
              {"task", rt::taskName(cell.key.task)},
              {"length", cell.key.length},
              {"question", rt::questionPlaceName(cell.key.question)},
              {"budget", budgetJson(cell.key.budget)},
              {"seed", seed},
              {"samples", cell.samples}};
  addInterval(row, "accuracy", cell.accuracy, cell.accuracyInterval);
  addDifference(row, "accuracy_vs_dense", cell.accuracyDifference);
  row["accuracy_per_turn"] = cell.turnAccuracy.empty() ? Json(nullptr) : Json(cell.turnAccuracy);
  row["kld_mean_nats"] = jsonOf(cell.kld.mean);
  row["kld_median_nats"] = jsonOf(cell.kld.median);
  row["kld_p99_nats"] = jsonOf(cell.kld.p99);
  row["kld_max_nats"] = jsonOf(cell.kld.max);
  row["top1"] = jsonOf(cell.top1);
  row["bits_per_byte"] = jsonOf(cell.bitsPerByte);
  row["bits_per_byte_dense"] = jsonOf(cell.bitsPerByteDense);
  addDifference(row, "bits_per_byte_vs_dense", cell.bitsDifference);
  Json errors = Json::array();
  for (double error : cell.attentionError) {
    errors.push_back(jsonOf(error));
  }
  row["attn_error"] = errors.empty() ? Json(nullptr) : errors;
  row["kept_tokens"] = cell.keptTokens;
  row["bytes_measured"] = jsonOf(cell.bytesMeasured);
  row["bytes_claimed"] = jsonOf(cell.bytesClaimed);
  row["bytes_dense"] = jsonOf(cell.bytesDense);
  row["resident_bytes"] = jsonOf(cell.residentBytes);
  row["bits_per_value_k"] = jsonOf(cell.bitsPerValueK);
  row["bits_per_value_v"] = jsonOf(cell.bitsPerValueV);
  row["read_bytes_per_token"] = jsonOf(cell.readBytesPerToken);
  row["prefill_s"] = jsonOf(cell.prefillSeconds);
  row["compress_s"] = jsonOf(cell.compressSeconds);
  row["decode_tokens_per_s"] = jsonOf(cell.decodeTokensPerSecond);
  row["dense_ok"] = cell.denseOk;
  return row;
}

Json evalRows(const ReportData &data) {
  Json rows = Json::array();
  for (const CellReport &cell : data.cells) {
    rows.push_back(evalRow(cell, data.seed));
  }
  return rows;
}

static void addRecall(Json &row, const std::string &name, const CellReport *cell) {
  addInterval(row, name, cell ? cell->accuracy : std::nullopt,
              cell ? cell->accuracyInterval : rt::Interval{});
}

Json demoRows(const ReportData &data) {
  Json rows = Json::array();
  for (const DemoLine &line : demoLines(data)) {
    const CellReport &text = *line.text;
    const std::optional<AttendTiming> &timing = line.method->timing;
    Json row = {{"method", text.key.method},
                {"params", text.key.params},
                {"length", text.key.length},
                {"budget", budgetJson(text.key.budget)},
                {"samples", text.samples},
                {"kept_tokens", text.keptTokens},
                {"bytes_measured", jsonOf(text.bytesMeasured)},
                {"bytes_claimed", jsonOf(text.bytesClaimed)},
                {"bytes_dense", jsonOf(text.bytesDense)},
                {"bits_per_value_k", jsonOf(text.bitsPerValueK)},
                {"bits_per_value_v", jsonOf(text.bitsPerValueV)},
                {"kld_mean_nats", jsonOf(text.kld.mean)},
                {"kld_p99_nats", jsonOf(text.kld.p99)},
                {"top1", jsonOf(text.top1)}};
    addRecall(row, "passkey_outside", line.passkeyOutside);
    addRecall(row, "passkey_inside", line.passkeyInside);
    addRecall(row, "kv_outside", line.keyValueOutside);
    addRecall(row, "kv_inside", line.keyValueInside);
    row["kernel_status"] = line.method->kernels;
    row["attend_median_s"] = timing ? jsonOf(timing->medianSeconds) : Json(nullptr);
    row["attend_ratio_vs_dense"] = timing ? jsonOf(timing->ratio) : Json(nullptr);
    row["attend_ratio_lo"] = timing ? jsonOf(timing->ratioLo) : Json(nullptr);
    row["attend_ratio_hi"] = timing ? jsonOf(timing->ratioHi) : Json(nullptr);
    row["decode_tokens_per_s"] = jsonOf(text.decodeTokensPerSecond);
    rows.push_back(row);
  }
  return rows;
}

} // namespace kvcache::tools
