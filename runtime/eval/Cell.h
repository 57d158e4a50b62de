// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One cell of an evaluation as a report shows it: the outcomes of its samples, summed up, and the
// differences to dense over the same samples.

#pragma once

#include "runtime/Execution.h"
#include "runtime/eval/Metrics.h"
#include "runtime/eval/Outcome.h"
#include "runtime/eval/Tasks.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kvcache::rt {

/// Where the question is when the context is compressed.
enum class QuestionPlace {
  None,    ///< the task asks nothing (text)
  Outside, ///< not in the compressed part
  Inside,  ///< in the compressed part, except its last byte
};
/// none, outside or inside.
const char *questionPlaceName(QuestionPlace place);

/// What distinguishes a cell.
struct CellKey {
  std::string method;
  std::map<std::string, std::string> params;
  Task task = Task::Passkey;
  int64_t length = 0;
  QuestionPlace question = QuestionPlace::Outside;
  std::string budget; ///< as it was asked for; empty for a method without a token budget
};

struct Difference {
  double value = 0;
  Interval interval; ///< 95 %, paired
};

struct CellReport {
  CellKey key;
  int64_t samples = 0;
  /// Share of right answers, of all questions; none for text.
  std::optional<double> accuracy;
  Interval accuracyInterval;                    ///< Wilson
  std::vector<double> turnAccuracy;             ///< per turn, of a task with several questions
  std::optional<Difference> accuracyDifference; ///< to dense
  Distribution kld;                             ///< nats
  double top1 = 0;                              ///< share of tokens with dense's arg-max
  std::optional<double> bitsPerByte, bitsPerByteDense; ///< text only
  std::optional<Difference> bitsDifference;            ///< to dense
  std::vector<double> attentionError;                  ///< [L]; empty: not measured
  std::vector<std::vector<double>> keptTokens;         ///< [L][row heads], mean over samples
  double tokens = 0; ///< prompt tokens, and all below: mean over samples
  double bytesMeasured = 0, bytesClaimed = 0, bytesDense = 0;
  double bitsPerValueK = 0, bitsPerValueV = 0;
  double readBytesPerToken = 0, residentBytes = 0;
  double prefillSeconds = 0, compressSeconds = 0;
  double decodeTokensPerSecond = 0; ///< of the whole batch
  bool denseOk = true;              ///< dense answers 90 % or more
  std::string mismatch;             ///< measured against claimed bytes; empty: they agree
};

/// Dense has to answer this share for a cell to count in averages.
constexpr double denseMustAnswer = 0.9;

/// Sums up a cell. `dense` are the outcomes of dense over the same samples, in the same order.
CellReport reportCell(const CellKey &key, const std::vector<SampleOutcome> &outcomes,
                      const std::vector<SampleOutcome> &dense, const Geometry &geometry);

} // namespace kvcache::rt
