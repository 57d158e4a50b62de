// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Outcomes as JSON lines. Doubles are written with as many digits as their value needs; values that
// JSON cannot hold (a NaN of a broken method) are written as null and read back as NaN.

#include "runtime/eval/Journal.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <unistd.h>

namespace kvcache::rt {

using Json = nlohmann::json;

/// JSON has no infinity and no NaN; both come back as NaN, which a report shows as missing.
static double numberOf(const Json &json) {
  return json.is_null() ? std::numeric_limits<double>::quiet_NaN() : json.get<double>();
}

static std::vector<double> numbersOf(const Json &json) {
  std::vector<double> values;
  for (const Json &value : json) {
    values.push_back(numberOf(value));
  }
  return values;
}

static Json toJson(const SampleOutcome &outcome) {
  const CacheFigures &cache = outcome.cache;
  return {{"correct", outcome.correct},
          {"klds", outcome.klds},
          {"agreed", outcome.agreed},
          {"answer_bits", outcome.answerBits},
          {"answer_bytes", outcome.answerBytes},
          {"attention_error", outcome.attentionError},
          {"tokens", cache.tokens},
          {"kept", cache.keptRows},
          {"bytes_measured", cache.bytesMeasured},
          {"bytes_claimed", cache.bytesClaimed},
          {"bytes_dense", cache.bytesDense},
          {"bits_k", cache.bitsK},
          {"bits_v", cache.bitsV},
          {"read_bytes", cache.readBytesPerToken},
          {"mismatch", cache.mismatch},
          {"prefill_s", outcome.prefillSeconds},
          {"compress_s", outcome.compressSeconds},
          {"decode_s", outcome.decodeSeconds},
          {"decoded", outcome.decodedTokens},
          {"resident_bytes", outcome.residentBytes}};
}

static SampleOutcome outcomeOf(const Json &json) {
  SampleOutcome outcome;
  outcome.correct = json.at("correct").get<std::vector<int64_t>>();
  outcome.klds = numbersOf(json.at("klds"));
  outcome.agreed = json.at("agreed");
  outcome.answerBits = numberOf(json.at("answer_bits"));
  outcome.answerBytes = json.at("answer_bytes");
  outcome.attentionError = numbersOf(json.at("attention_error"));
  CacheFigures &cache = outcome.cache;
  cache.tokens = json.at("tokens");
  cache.keptRows = json.at("kept").get<std::vector<std::vector<int64_t>>>();
  cache.bytesMeasured = json.at("bytes_measured");
  cache.bytesClaimed = numberOf(json.at("bytes_claimed"));
  cache.bytesDense = json.at("bytes_dense");
  cache.bitsK = numberOf(json.at("bits_k"));
  cache.bitsV = numberOf(json.at("bits_v"));
  cache.readBytesPerToken = json.at("read_bytes");
  cache.mismatch = json.at("mismatch");
  outcome.prefillSeconds = json.at("prefill_s");
  outcome.compressSeconds = json.at("compress_s");
  outcome.decodeSeconds = json.at("decode_s");
  outcome.decodedTokens = json.at("decoded");
  outcome.residentBytes = json.at("resident_bytes");
  return outcome;
}

/// Reads one line into `parts`; false when it is no entry.
static bool readLine(const std::string &line,
                     std::map<std::string, std::vector<SampleOutcome>> &parts) {
  Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return false;
  }
  // The library reports a missing or wrong field by throwing; it stays inside this function.
  try {
    std::vector<SampleOutcome> outcomes;
    for (const Json &outcome : json.at("outcomes")) {
      outcomes.push_back(outcomeOf(outcome));
    }
    parts[json.at("key").get<std::string>()] = std::move(outcomes);
  } catch (const Json::exception &) {
    return false;
  }
  return true;
}

Journal::~Journal() {
  if (file_) {
    std::fclose(file_);
  }
}

Status Journal::open(const std::string &path) {
  path_ = path;
  std::string text;
  if (std::ifstream existing(path, std::ios::binary); existing) {
    std::ostringstream all;
    all << existing.rdbuf();
    text = all.str();
  }
  size_t number = 0;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find('\n', at);
    ++number;
    if (end == std::string::npos) {
      break; // cut off while it was written
    }
    if (end > at && !readLine(text.substr(at, end - at), parts_)) {
      return Status::badInput(path + ":" + std::to_string(number) +
                              ": expected an entry of an evaluation journal, got something else");
    }
    at = end + 1;
  }
  file_ = std::fopen(path.c_str(), "ab");
  if (!file_) {
    return Status::unavailable(path + ": cannot be written: " + std::strerror(errno));
  }
  size_t complete = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  if (complete < text.size() && ftruncate(fileno(file_), static_cast<off_t>(complete)) != 0) {
    return Status::unavailable(path + ": cannot be shortened: " + std::strerror(errno));
  }
  return Status::ok();
}

const std::vector<SampleOutcome> *Journal::find(const std::string &key) const {
  auto part = parts_.find(key);
  return part == parts_.end() ? nullptr : &part->second;
}

Status Journal::add(const std::string &key, std::vector<SampleOutcome> outcomes) {
  if (file_) {
    Json json = {{"key", key}, {"outcomes", Json::array()}};
    for (const SampleOutcome &outcome : outcomes) {
      json["outcomes"].push_back(toJson(outcome));
    }
    std::string line = json.dump() + "\n";
    if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fflush(file_) != 0) {
      return Status::unavailable(path_ + ": cannot be written: " + std::strerror(errno));
    }
  }
  parts_[key] = std::move(outcomes);
  return Status::ok();
}

} // namespace kvcache::rt
