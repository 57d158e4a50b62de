// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Everything that a report of an evaluation shows. Terminal table, JSON and HTML are made from this
// one struct, so that they cannot disagree.

#pragma once

#include "runtime/Execution.h"
#include "runtime/eval/Cell.h"

#include <nlohmann/json.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kvcache::tools {

using Json = nlohmann::ordered_json;

/// Decode attention of a method's storage against dense, at a geometry that is stated.
struct AttendTiming {
  double medianSeconds = 0;
  /// Time over dense's time, paired by rounds: median and 95 % interval.
  double ratio = 0, ratioLo = 0, ratioHi = 0;
  /// The interval is further from 1 than what dense against itself gave.
  bool differs = false;
};

/// What is said of a method beside its cells.
struct ReportedMethod {
  std::string name;
  std::string settings; ///< parameters that were chosen; "-": none, all are defaults
  std::string kernels;  ///< "3 fused", or what is not and why
  std::optional<AttendTiming> timing;
  std::string timingMissing; ///< why there is no timing; empty when there is one
};

struct ReportData {
  std::string title;
  std::vector<std::string> argv;
  std::string version;
  Json host;
  uint64_t seed = 0;
  std::string model; ///< folder
  std::string modelHash;
  std::string settingsName;   ///< file of settings that apply; empty: published defaults
  std::string settingsText;   ///< its content
  /// "heads 32/8, D 128, T 32768, 2 threads; control: ..."; empty: nothing was timed.
  std::string timingGeometry;
  std::vector<rt::CellReport> cells;
  std::vector<ReportedMethod> methods; ///< in the order of the report, dense first
  bool interrupted = false;
};

} // namespace kvcache::tools
