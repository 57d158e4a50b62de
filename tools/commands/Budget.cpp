// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Shares truncate in float64: a fraction keeps int(T * f), a ratio int(T * (1 - r)).

#include "tools/commands/Budget.h"

#include "tools/commands/Command.h"

#include <cstdlib>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

namespace {

/// The whole of `text` as a number >= 0; false otherwise.
bool readNumber(const std::string &text, double &value) {
  char *end = nullptr;
  value = std::strtod(text.c_str(), &end);
  bool plain = !text.empty() && text.find_first_not_of("0123456789.eE+-") == std::string::npos;
  return plain && *end == '\0' && value >= 0 && value < 9e15;
}

StatusOr<Budget> readBudget(const std::string &text) {
  Budget budget;
  budget.text = "--budget " + text;
  double value = 0;
  size_t unit = text.find_first_not_of("0123456789.");
  if (unit != std::string::npos) {
    const std::pair<const char *, double> units[] = {
        {"B", 1}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
    for (const auto &[name, bytes] : units) {
      if (text.substr(unit) == name && readNumber(text.substr(0, unit), value)) {
        budget.kind = Budget::Kind::Bytes;
        budget.amount = static_cast<int64_t>(value * bytes);
        return budget;
      }
    }
  }
  bool isFraction = text.find('.') != std::string::npos;
  if (!readNumber(text, value) || unit != std::string::npos || (isFraction && value > 1)) {
    return Status::badInput(
        budget.text + ": expected tokens (512), a fraction of at most 1.0 (0.25) or bytes (64MiB)");
  }
  budget.kind = isFraction ? Budget::Kind::Fraction : Budget::Kind::Tokens;
  budget.share = value;
  budget.amount = static_cast<int64_t>(value);
  return budget;
}

/// The largest number of tokens in [1, tokens] whose bytes fit; bytes never fall when tokens grow.
StatusOr<int64_t> largestThatFits(const Budget &budget, int64_t tokens,
                                  const BytesOfBudget &bytes) {
  int64_t fits = 0, beyond = tokens + 1;
  while (beyond - fits > 1) {
    int64_t middle = fits == 0 && beyond == tokens + 1 ? tokens : fits + (beyond - fits) / 2;
    StatusOr<int64_t> used = bytes(middle);
    KVCACHE_RETURN_IF_ERROR(used.status());
    (*used <= budget.amount ? fits : beyond) = middle;
    if (fits == 0 && beyond == 1) {
      return Status::badInput(budget.text + ": one token per head and layer already takes " +
                              std::to_string(*used) + " bytes");
    }
  }
  return fits;
}

} // namespace

StatusOr<Budget> parseBudget(const std::string &budget, const std::string &ratio) {
  if (!budget.empty() && !ratio.empty()) {
    return Status::badInput("expected --budget or --ratio, got both");
  }
  if (!budget.empty()) {
    return readBudget(budget);
  }
  Budget parsed;
  if (!ratio.empty()) {
    parsed.kind = Budget::Kind::Ratio;
    parsed.text = "--ratio " + ratio;
    if (!readNumber(ratio, parsed.share) || parsed.share > 1) {
      return Status::badInput(parsed.text + ": expected the share of tokens to drop, from 0 to 1");
    }
  }
  return parsed;
}

static bool hasOptionalBudget(const rt::Execution &execution) {
  std::map<std::string, std::string> parameters = execution.parameters();
  auto budget = parameters.find("budget");
  return budget != parameters.end() && budget->second == "-1";
}

StatusOr<int64_t> resolveBudget(const Budget &budget, const rt::Execution &execution,
                                int64_t tokens, const BytesOfBudget &bytes) {
  if (!execution.hasTokenBudget()) {
    return budget.given()
               ? StatusOr<int64_t>(Status::badInput(budget.text + ": " + execution.budgetRefusal()))
               : StatusOr<int64_t>(int64_t(-1));
  }
  if (!budget.given() && hasOptionalBudget(execution)) {
    return noBudgetLimit;
  }
  if (!budget.given()) {
    return Status::badInput(
        "method '" + execution.methodName() +
        "' needs a token budget: expected --budget (512, 0.25, 64MiB) or --ratio");
  }
  int64_t kept = budget.amount;
  switch (budget.kind) {
  case Budget::Kind::Fraction:
    kept = static_cast<int64_t>(static_cast<double>(tokens) * budget.share);
    break;
  case Budget::Kind::Ratio:
    kept = static_cast<int64_t>(static_cast<double>(tokens) * (1 - budget.share));
    break;
  case Budget::Kind::Bytes:
    return largestThatFits(budget, tokens, bytes);
  default:
    break;
  }
  if (kept < 1) {
    return Status::badInput(budget.text + " keeps 0 of " + std::to_string(tokens) +
                            " tokens, expected at least 1: raise the budget");
  }
  if (kept > tokens && budget.kind != Budget::Kind::Exact) {
    printNote("note", budget.text + " exceeds the " + std::to_string(tokens) +
                          " tokens of the prompt: all of them are kept");
  }
  return kept;
}

} // namespace kvcache::tools
