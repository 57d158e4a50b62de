// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Teacher-forced decoding of a batch, and what is measured on the way.

#include "runtime/eval/BatchRun.h"

#include "runtime/eval/Metrics.h"
#include "runtime/eval/ResidentMemory.h"
#include "runtime/model/Generate.h"

#include <chrono>
#include <cmath>
#include <functional>

namespace kvcache::rt {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Called for each token fed: the sample, the question, its place among the question's tokens, and
/// the logits that followed.
using OnToken =
    std::function<void(size_t sample, size_t question, size_t place, const float *logits)>;
/// Called for each layer of each step; `samples` tells which sample each of `rows` belongs to.
using OnLayer = std::function<Status(int64_t layer, const std::vector<size_t> &samples,
                                     const std::vector<Sequence *> &sequences,
                                     const std::vector<LayerRows> &rows)>;

/// The tokens that a question feeds: all but the last of its answer.
size_t fedTokens(const Question &question) {
  return question.question.size() + question.answer.size() - 1;
}

int32_t fedToken(const Question &question, size_t place) {
  size_t asked = question.question.size();
  return place < asked ? question.question[place] : question.answer[place - asked];
}

/// The sequences of a batch under one method.
class BatchRun {
public:
  BatchRun(Decoder &decoder, Execution &execution, const Batch &batch)
      : decoder_(decoder), execution_(execution), batch_(batch) {}

  /// Makes the caches: replay and end of the prompt, both timed.
  Status compress(const std::vector<int64_t> &budgets, uint64_t seed);
  /// Feeds all questions; each but the last of a sample is asked of a fork.
  Status ask(const OnToken &onToken, const OnLayer &onLayer);

  const Sequence &sequence(size_t sample) const { return *sequences_[sample]; }
  double feedSeconds = 0, compressSeconds = 0, decodeSeconds = 0;

private:
  Status askOne(size_t question, const OnToken &onToken, const OnLayer &onLayer);

  Decoder &decoder_;
  Execution &execution_;
  const Batch &batch_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<SequenceRun> runs_;
};

Status BatchRun::compress(const std::vector<int64_t> &budgets, uint64_t seed) {
  runs_.resize(batch_.samples.size());
  std::vector<SequenceRun *> all;
  for (size_t i = 0; i < batch_.samples.size(); ++i) {
    StatusOr<std::unique_ptr<Sequence>> sequence =
        execution_.createSequence({budgets[i], seed + i, batch_.recordings[i].requests});
    if (!sequence.isOk()) {
      return sequence.status();
    }
    sequences_.push_back(std::move(*sequence));
    runs_[i].sequence = sequences_.back().get();
    auto fed = Clock::now();
    KVCACHE_RETURN_IF_ERROR(feedPrompt(decoder_, batch_.recordings[i], execution_, runs_[i]));
    feedSeconds += secondsSince(fed);
    all.push_back(&runs_[i]);
  }
  auto start = Clock::now();
  KVCACHE_RETURN_IF_ERROR(decoder_.promptEnd(execution_, all));
  compressSeconds = secondsSince(start);
  return Status::ok();
}

Status BatchRun::ask(const OnToken &onToken, const OnLayer &onLayer) {
  size_t questions = 0;
  for (const Sample &sample : batch_.samples) {
    questions = std::max(questions, sample.questions.size());
  }
  for (size_t question = 0; question < questions; ++question) {
    KVCACHE_RETURN_IF_ERROR(askOne(question, onToken, onLayer));
  }
  return Status::ok();
}

Status BatchRun::askOne(size_t question, const OnToken &onToken, const OnLayer &onLayer) {
  std::vector<SequenceRun> runs = runs_;
  std::vector<std::unique_ptr<Sequence>> forks(runs.size());
  size_t longest = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::vector<Question> &questions = batch_.samples[i].questions;
    if (question < questions.size()) {
      longest = std::max(longest, fedTokens(questions[question]));
    }
    if (question + 1 < questions.size()) {
      forks[i] = sequences_[i]->fork();
      if (!forks[i]) {
        return Status::unavailable("out of memory for a copy of a compressed context");
      }
      runs[i].sequence = forks[i].get();
    }
  }
  for (size_t place = 0; place < longest; ++place) {
    std::vector<SequenceRun *> active;
    std::vector<size_t> samples;
    std::vector<int32_t> tokens;
    std::vector<Sequence *> sequences;
    for (size_t i = 0; i < runs.size(); ++i) {
      const std::vector<Question> &questions = batch_.samples[i].questions;
      if (question < questions.size() && place < fedTokens(questions[question])) {
        active.push_back(&runs[i]);
        samples.push_back(i);
        sequences.push_back(runs[i].sequence);
        tokens.push_back(fedToken(questions[question], place));
      }
    }
    LayerObserver observer;
    double observing = 0;
    if (onLayer) {
      observer = [&](int64_t layer, const std::vector<size_t> &indices,
                     const std::vector<LayerRows> &rows) {
        auto start = Clock::now();
        std::vector<size_t> seen;
        std::vector<Sequence *> seenSequences;
        for (size_t index : indices) {
          seen.push_back(samples[index]);
          seenSequences.push_back(sequences[index]);
        }
        Status status = onLayer(layer, seen, seenSequences, rows);
        observing += secondsSince(start);
        return status;
      };
    }
    auto start = Clock::now();
    KVCACHE_RETURN_IF_ERROR(decoder_.step(execution_, active, tokens.data(), nullptr, observer));
    decodeSeconds += secondsSince(start) - observing;
    for (size_t i = 0; i < active.size(); ++i) {
      onToken(samples[i], question, place, active[i]->logits.data());
    }
  }
  return Status::ok();
}

/// The place of a question's first token among all tokens that a sample feeds.
size_t firstPlace(const Sample &sample, size_t question) {
  size_t place = 0;
  for (size_t i = 0; i < question; ++i) {
    place += fedTokens(sample.questions[i]);
  }
  return place;
}

/// Compares logits with the reference and counts right answers.
void scoreToken(const Sample &sample, const DenseReference &reference, int64_t vocabulary,
                size_t question, size_t place, const float *logits, SampleOutcome &outcome) {
  const Question &asked = sample.questions[question];
  const float *dense =
      reference.logits.data() + (firstPlace(sample, question) + place) * vocabulary;
  int32_t best = argMax(logits, vocabulary);
  outcome.klds.push_back(klDivergence(dense, logits, vocabulary));
  outcome.agreed += best == argMax(dense, vocabulary) ? 1 : 0;
  if (place + 1 >= asked.question.size()) {
    int32_t expected = asked.answer[place + 1 - asked.question.size()];
    outcome.answerBits += bitsOf(logits, vocabulary, expected);
    ++outcome.answerBytes;
    outcome.correct[question] &= best == expected ? 1 : 0;
  }
}

/// Attends with the dense run's queries over the caches of a method and adds up the error.
class AttentionErrors {
public:
  AttentionErrors(Execution &execution, const Batch &batch)
      : execution_(execution), batch_(batch), geometry_(execution.geometry()),
        steps_(batch.samples.size()),
        sums_(batch.samples.size(), std::vector<double>(geometry_.layers, 0.0)) {}

  Status add(int64_t layer, const std::vector<size_t> &samples,
             const std::vector<Sequence *> &sequences) {
    int64_t width = geometry_.queryHeads * geometry_.headDim;
    std::vector<float> out(width);
    for (size_t i = 0; i < samples.size(); ++i) {
      size_t sample = samples[i];
      const DenseReference &reference = batch_.references[sample];
      int64_t offset = (steps_[sample] * geometry_.layers + layer) * width;
      KVCACHE_RETURN_IF_ERROR(execution_.attend(
          layer, *sequences[i], 1, reference.queries.data() + offset, out.data(), nullptr));
      for (int64_t head = 0; head < geometry_.queryHeads; ++head) {
        int64_t at = head * geometry_.headDim;
        sums_[sample][layer] +=
            relativeError(out.data() + at, reference.outputs.data() + offset + at,
                          geometry_.headDim) /
            geometry_.queryHeads;
      }
      steps_[sample] += layer + 1 == geometry_.layers ? 1 : 0;
    }
    return Status::ok();
  }

  std::vector<double> mean(size_t sample) const {
    std::vector<double> means = sums_[sample];
    for (double &value : means) {
      value /= std::max<int64_t>(1, steps_[sample]);
    }
    return means;
  }

private:
  Execution &execution_;
  const Batch &batch_;
  Geometry geometry_;
  std::vector<int64_t> steps_; ///< tokens seen by all layers, per sample
  std::vector<std::vector<double>> sums_;
};

} // namespace

StatusOr<Batch> prefillBatch(Decoder &decoder, Execution &dense, std::vector<Sample> samples,
                             const RecordOptions &options) {
  Batch batch;
  batch.samples = std::move(samples);
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<SequenceRun> runs(batch.samples.size());
  std::vector<SequenceRun *> all;
  for (size_t i = 0; i < runs.size(); ++i) {
    StatusOr<std::unique_ptr<Sequence>> sequence = dense.createSequence({});
    if (!sequence.isOk()) {
      return sequence.status();
    }
    sequences.push_back(std::move(*sequence));
    runs[i].sequence = sequences.back().get();
    runs[i].prompt = batch.samples[i].context;
    runs[i].requests = requestsOf(batch.samples[i]);
    all.push_back(&runs[i]);
  }
  auto start = Clock::now();
  StatusOr<std::vector<PromptRecording>> recordings = recordPrompts(decoder, dense, all, options);
  if (!recordings.isOk()) {
    return recordings.status();
  }
  batch.prefillSeconds = secondsSince(start);
  batch.recordings = std::move(*recordings);
  return batch;
}

Status runReference(Decoder &decoder, Execution &dense, Batch &batch, bool attention) {
  int64_t vocabulary = decoder.config().vocabSize;
  batch.references.assign(batch.samples.size(), {});
  BatchRun run(decoder, dense, batch);
  KVCACHE_RETURN_IF_ERROR(run.compress(std::vector<int64_t>(batch.samples.size(), -1), 0));
  OnLayer onLayer;
  if (attention) {
    int64_t width = dense.geometry().queryHeads * dense.geometry().headDim;
    // The rows of a step arrive layer by layer, so appending keeps [token, layer, head, channel].
    onLayer = [&batch, width](int64_t, const std::vector<size_t> &samples,
                              const std::vector<Sequence *> &, const std::vector<LayerRows> &rows) {
      for (size_t i = 0; i < samples.size(); ++i) {
        DenseReference &reference = batch.references[samples[i]];
        reference.queries.insert(reference.queries.end(), rows[i].q, rows[i].q + width);
        reference.outputs.insert(reference.outputs.end(), rows[i].out, rows[i].out + width);
      }
      return Status::ok();
    };
  }
  return run.ask(
      [&](size_t sample, size_t, size_t, const float *logits) {
        std::vector<float> &kept = batch.references[sample].logits;
        kept.insert(kept.end(), logits, logits + vocabulary);
      },
      onLayer);
}

StatusOr<std::vector<SampleOutcome>> runMethod(Decoder &decoder, Execution &method,
                                               const Batch &batch,
                                               const std::vector<int64_t> &budgets, uint64_t seed) {
  size_t count = batch.samples.size();
  std::vector<SampleOutcome> outcomes(count);
  BatchRun run(decoder, method, batch);
  int64_t residentBefore = residentBytes();
  KVCACHE_RETURN_IF_ERROR(run.compress(budgets, seed));
  int64_t grown = residentBytes() - residentBefore;
  for (size_t i = 0; i < count; ++i) {
    outcomes[i].correct.assign(batch.samples[i].questions.size(), 1);
    outcomes[i].cache = figuresOf(run.sequence(i), method.geometry(), batch.recordings[i].tokens);
  }
  // The bytes a step reads are taken at the last question, the only one that is not asked of a
  // fork.
  OnLayer onLayer;
  AttentionErrors errors(method, batch);
  bool attention = !batch.references.empty() && !batch.references[0].outputs.empty();
  if (attention) {
    onLayer = [&](int64_t layer, const std::vector<size_t> &samples,
                  const std::vector<Sequence *> &sequences,
                  const std::vector<LayerRows> &) { return errors.add(layer, samples, sequences); };
  }
  int64_t vocabulary = decoder.config().vocabSize;
  KVCACHE_RETURN_IF_ERROR(run.ask(
      [&](size_t sample, size_t question, size_t place, const float *logits) {
        scoreToken(batch.samples[sample], batch.references[sample], vocabulary, question, place,
                   logits, outcomes[sample]);
        bool first = question + 1 == batch.samples[sample].questions.size() && place == 0;
        for (int64_t layer = 0; first && layer < method.geometry().layers; ++layer) {
          outcomes[sample].cache.readBytesPerToken +=
              run.sequence(sample).report(layer).readBytesPerToken;
        }
      },
      onLayer));
  for (size_t i = 0; i < count; ++i) {
    SampleOutcome &outcome = outcomes[i];
    // The dense prefill serves every method but those whose layers see other rows.
    outcome.prefillSeconds = (method.thinsPrompt() ? run.feedSeconds : batch.prefillSeconds) / count;
    outcome.compressSeconds = run.compressSeconds / count;
    outcome.decodeSeconds = run.decodeSeconds / count;
    outcome.decodedTokens = outcome.klds.size();
    outcome.residentBytes = grown / static_cast<int64_t>(count);
    if (attention) {
      outcome.attentionError = errors.mean(i);
    }
  }
  return outcomes;
}

CacheFigures figuresOf(const Sequence &sequence, const Geometry &geometry, int64_t tokens) {
  CacheFigures figures;
  figures.tokens = tokens;
  figures.bytesDense = 2 * 2 * geometry.layers * geometry.kvHeads * geometry.headDim * tokens;
  for (int64_t layer = 0; layer < geometry.layers; ++layer) {
    LayerReport report = sequence.report(layer);
    figures.keptRows.push_back(report.keptRows);
    figures.bytesMeasured += report.bytesMeasured;
    figures.bytesClaimed += report.bytesClaimed;
    figures.bitsK += report.bitsK;
    figures.bitsV += report.bitsV;
    double slack = static_cast<double>(report.bytesOnePage) * static_cast<double>(report.keptRows.size());
    if (figures.mismatch.empty() &&
        !(std::abs(report.bytesMeasured - report.bytesClaimed) <= slack)) {
      figures.mismatch = "layer " + std::to_string(layer) + ": expected " +
                         std::to_string(std::llround(report.bytesClaimed)) +
                         " bytes within one page a head (" + std::to_string(std::llround(slack)) +
                         "), got " + std::to_string(report.bytesMeasured);
    }
  }
  return figures;
}

} // namespace kvcache::rt
