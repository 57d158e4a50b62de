// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Request tables from text, and what those of a known meaning must hold.

#include "tools/commands/RequestTables.h"

#include "runtime/model/Tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>

namespace kvcache::tools {

using rt::Status;
using rt::StatusOr;

StatusOr<rt::RequestTables> parseRequestTables(const std::vector<std::string> &texts) {
  rt::RequestTables tables;
  for (const std::string &text : texts) {
    size_t equals = text.find('=');
    std::vector<int32_t> table;
    for (size_t begin = equals; begin < text.size();) {
      size_t end = std::min(text.find(',', begin + 1), text.size());
      const char *first = text.data() + begin + 1, *last = text.data() + end;
      int32_t entry = 0;
      auto [stop, error] = std::from_chars(first, last, entry);
      if (error != std::errc() || stop != last) {
        return Status::badInput("--request " + text +
                                ": expected NAME=NUMBER,NUMBER,.. of 32 bits");
      }
      table.push_back(entry);
      begin = end;
    }
    if (equals == 0 || table.empty()) {
      return Status::badInput("--request " + text + ": expected NAME=NUMBER,NUMBER,..");
    }
    if (!tables.emplace(text.substr(0, equals), std::move(table)).second) {
      return Status::badInput("--request " + text + ": the table is given twice");
    }
  }
  return tables;
}

/// Whether rows behind parts follow each other and end with the prompt.
static bool isPartition(const std::vector<int32_t> &ends, int64_t tokens) {
  return !ends.empty() && ends.front() > 0 && ends.back() == tokens &&
         std::adjacent_find(ends.begin(), ends.end(), std::greater_equal<>()) == ends.end();
}

static std::string listed(const std::vector<int32_t> &table) {
  auto shown = static_cast<int64_t>(std::min<size_t>(table.size(), 8));
  std::string text = fmt::format("{}", fmt::join(table.begin(), table.begin() + shown, ","));
  return text + (table.size() > 8 ? fmt::format(",.. ({} entries)", table.size()) : "");
}

Status checkRequestTables(const rt::RequestTables &tables, int64_t tokens,
                          const std::string &place) {
  for (const auto &[name, table] : tables) {
    std::string expected;
    if (name == "question" && (table.size() != 1 || table.front() < 0 || table.front() > tokens)) {
      expected = fmt::format("a number of tokens from 0 to {}", tokens);
    } else if ((name == "segments" || name == "shots") && !isPartition(table, tokens)) {
      expected = "ascending rows from 1 on that end with the prompt";
    } else if (name == "keep" && (static_cast<int64_t>(table.size()) != tokens ||
                                  std::any_of(table.begin(), table.end(), [](int32_t flag) {
                                    return flag != 0 && flag != 1;
                                  }))) {
      expected = "a 0 or 1 for each token";
    }
    if (!expected.empty()) {
      return Status::badInput(fmt::format("{}{}: expected {}, of a prompt of {} tokens, got {}",
                                          place, name, expected, tokens, listed(table)));
    }
  }
  return Status::ok();
}

void addKnownTables(const rt::ModelConfig &config, rt::RequestTables &tables) {
  if (rt::isByteLevel(config)) {
    tables.emplace("special", rt::byteLevelSpecialIds());
    tables.emplace("punctuation", rt::byteLevelPunctuationIds());
  }
}

} // namespace kvcache::tools
