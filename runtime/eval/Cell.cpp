// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sums of outcomes, in the order of the samples.

#include "runtime/eval/Cell.h"

#include <algorithm>

namespace kvcache::rt {

const char *questionPlaceName(QuestionPlace place) {
  switch (place) {
  case QuestionPlace::None:
    return "none";
  case QuestionPlace::Outside:
    return "outside";
  case QuestionPlace::Inside:
    return "inside";
  }
  return "";
}

namespace {

/// Counts right answers of `outcomes`, and questions.
std::pair<int64_t, int64_t> countAnswers(const std::vector<SampleOutcome> &outcomes) {
  int64_t right = 0, asked = 0;
  for (const SampleOutcome &outcome : outcomes) {
    for (int64_t correct : outcome.correct) {
      right += correct;
      ++asked;
    }
  }
  return {right, asked};
}

void reportAnswers(const std::vector<SampleOutcome> &outcomes,
                   const std::vector<SampleOutcome> &dense, CellReport &report) {
  auto [right, asked] = countAnswers(outcomes);
  auto [denseRight, denseAsked] = countAnswers(dense);
  report.accuracy = double(right) / std::max<int64_t>(1, asked);
  report.accuracyInterval = wilson(right, asked);
  report.denseOk = denseRight >= denseMustAnswer * denseAsked;
  int64_t only = 0, onlyDense = 0;
  size_t turns = 0;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    turns = std::max(turns, outcomes[i].correct.size());
    for (size_t turn = 0; turn < outcomes[i].correct.size(); ++turn) {
      only += outcomes[i].correct[turn] > dense[i].correct[turn] ? 1 : 0;
      onlyDense += outcomes[i].correct[turn] < dense[i].correct[turn] ? 1 : 0;
    }
  }
  report.accuracyDifference = Difference{double(only - onlyDense) / std::max<int64_t>(1, asked),
                                         pairedShares(only, onlyDense, asked)};
  for (size_t turn = 0; turns > 1 && turn < turns; ++turn) {
    double sum = 0;
    for (const SampleOutcome &outcome : outcomes) {
      sum += outcome.correct[turn];
    }
    report.turnAccuracy.push_back(sum / outcomes.size());
  }
}

void reportText(const std::vector<SampleOutcome> &outcomes, const std::vector<SampleOutcome> &dense,
                CellReport &report) {
  double bits = 0, denseBits = 0, bytes = 0;
  std::vector<double> differences;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    bits += outcomes[i].answerBits;
    denseBits += dense[i].answerBits;
    bytes += outcomes[i].answerBytes;
    differences.push_back((outcomes[i].answerBits - dense[i].answerBits) / outcomes[i].answerBytes);
  }
  report.bitsPerByte = bits / bytes;
  report.bitsPerByteDense = denseBits / bytes;
  report.bitsDifference = Difference{(bits - denseBits) / bytes, pairedMean(differences, 1)};
}

void reportCache(const std::vector<SampleOutcome> &outcomes, const Geometry &geometry,
                 CellReport &report) {
  double n = outcomes.size(), bitsK = 0, bitsV = 0, decoded = 0, decodeSeconds = 0;
  report.keptTokens.resize(geometry.layers);
  for (const SampleOutcome &outcome : outcomes) {
    const CacheFigures &cache = outcome.cache;
    for (size_t layer = 0; layer < cache.keptRows.size(); ++layer) {
      report.keptTokens[layer].resize(cache.keptRows[layer].size(), 0.0);
      for (size_t head = 0; head < cache.keptRows[layer].size(); ++head) {
        report.keptTokens[layer][head] += cache.keptRows[layer][head] / n;
      }
    }
    report.tokens += cache.tokens / n;
    report.bytesMeasured += cache.bytesMeasured / n;
    report.bytesClaimed += cache.bytesClaimed / n;
    report.bytesDense += cache.bytesDense / n;
    report.readBytesPerToken += cache.readBytesPerToken / n;
    report.residentBytes += outcome.residentBytes / n;
    report.prefillSeconds += outcome.prefillSeconds / n;
    report.compressSeconds += outcome.compressSeconds / n;
    bitsK += cache.bitsK;
    bitsV += cache.bitsV;
    decoded += outcome.decodedTokens;
    decodeSeconds += outcome.decodeSeconds;
    if (report.mismatch.empty()) {
      report.mismatch = cache.mismatch;
    }
  }
  double values = report.tokens * n * geometry.layers * geometry.kvHeads * geometry.headDim;
  report.bitsPerValueK = bitsK / values;
  report.bitsPerValueV = bitsV / values;
  report.decodeTokensPerSecond = decodeSeconds > 0 ? decoded / decodeSeconds : 0;
}

void reportLogits(const std::vector<SampleOutcome> &outcomes, CellReport &report) {
  std::vector<double> klds;
  double agreed = 0, measured = 0;
  for (const SampleOutcome &outcome : outcomes) {
    klds.insert(klds.end(), outcome.klds.begin(), outcome.klds.end());
    agreed += outcome.agreed;
    if (outcome.attentionError.empty()) {
      continue;
    }
    ++measured;
    report.attentionError.resize(outcome.attentionError.size(), 0.0);
    for (size_t layer = 0; layer < outcome.attentionError.size(); ++layer) {
      report.attentionError[layer] += outcome.attentionError[layer];
    }
  }
  for (double &error : report.attentionError) {
    error /= measured;
  }
  report.top1 = agreed / std::max<size_t>(1, klds.size());
  report.kld = distributionOf(std::move(klds));
}

} // namespace

CellReport reportCell(const CellKey &key, const std::vector<SampleOutcome> &outcomes,
                      const std::vector<SampleOutcome> &dense, const Geometry &geometry) {
  CellReport report;
  report.key = key;
  report.samples = outcomes.size();
  if (key.task == Task::Text) {
    reportText(outcomes, dense, report);
  } else {
    reportAnswers(outcomes, dense, report);
  }
  reportLogits(outcomes, report);
  reportCache(outcomes, geometry, report);
  return report;
}

} // namespace kvcache::rt
