// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Draws sequences, lets the model answer, records activations.

#include "runtime/eval/CalibrationData.h"

#include "runtime/eval/Tasks.h"
#include "runtime/model/Generate.h"
#include "runtime/model/PromptRecording.h"
#include "runtime/model/Tokens.h"

#include <algorithm>
#include <set>

namespace kvcache::rt {

namespace {

/// One number for each source, so that their streams differ.
uint64_t keyOf(const std::string &name) {
  uint64_t key = 0;
  for (char c : name) {
    key = key << 8 | static_cast<unsigned char>(c);
  }
  return key;
}

StatusOr<CalibrationSequence> drawTextSequence(const TaskMaterial &material, Random &random,
                                               int64_t tokens) {
  StatusOr<std::string> text = drawText(material.calibration, random, tokens - 1);
  KVCACHE_RETURN_IF_ERROR(text.status());
  CalibrationSequence sequence{{byteLevelBegin}, {}};
  sequence.tokens.insert(sequence.tokens.end(), text->begin(), text->end());
  return sequence;
}

/// Random tokens among those that the texts have: others have no meaning to the model.
CalibrationSequence drawRepeat(const TaskMaterial &material, Random &random, int64_t period,
                               int64_t times) {
  std::set<int32_t> known;
  for (const std::string &text : material.calibration) {
    known.insert(text.begin(), text.end());
  }
  std::vector<int32_t> ids(known.begin(), known.end()), once;
  for (int64_t i = 0; i < period; ++i) {
    once.push_back(
        ids[static_cast<size_t>(random.between(0, static_cast<int64_t>(ids.size()) - 1))]);
  }
  CalibrationSequence sequence{{byteLevelBegin}, {}};
  for (int64_t i = 0; i < times; ++i) {
    sequence.tokens.insert(sequence.tokens.end(), once.begin(), once.end());
  }
  return sequence;
}

/// A prompt of `tokens` tokens that asks for a key; the needle is the line that states it.
StatusOr<CalibrationSequence> drawNeedle(const TaskMaterial &material, int64_t tokens,
                                         uint64_t seed, int64_t index) {
  // The length of the question does not depend on the sample.
  const int64_t asked = static_cast<int64_t>(std::string(passkeyQuestion).size());
  StatusOr<Sample> sample = makeSample(material, Task::Passkey, tokens - asked, seed, index);
  KVCACHE_RETURN_IF_ERROR(sample.status());
  const Question &question = sample->questions.front();
  CalibrationSequence sequence{sample->context, {}};
  sequence.tokens.insert(sequence.tokens.end(), question.question.begin(), question.question.end());
  std::string key(question.answer.begin(), question.answer.end()), line = passkeyLine(key);
  auto first =
      std::search(sequence.tokens.begin(), sequence.tokens.end(), line.begin(), line.end());
  if (first == sequence.tokens.end()) {
    return Status::internal("a prompt does not hold its needle");
  }
  std::vector<int32_t> needle(sequence.tokens.size(), 0);
  std::fill_n(needle.begin() + (first - sequence.tokens.begin()), line.size(), 1);
  sequence.tables["produced"].assign(sequence.tokens.size(), -1);
  sequence.tables["needle"] = std::move(needle);
  return sequence;
}

StatusOr<PromptRecording> recordSequence(Decoder &decoder, Execution &dense,
                                         const std::vector<int32_t> &tokens) {
  StatusOr<std::unique_ptr<Sequence>> sequence = dense.createSequence({});
  KVCACHE_RETURN_IF_ERROR(sequence.status());
  SequenceRun run;
  run.sequence = sequence->get();
  run.prompt = tokens;
  RecordOptions options;
  options.preRopeKeys = true;
  StatusOr<std::vector<PromptRecording>> recordings =
      recordPrompts(decoder, dense, {&run}, options);
  KVCACHE_RETURN_IF_ERROR(recordings.status());
  return std::move(recordings->front());
}

/// Appends the model's own answer, one token for each of the key; the last one is not fed.
Status answerNeedle(Decoder &decoder, Execution &dense, CalibrationSequence &sequence) {
  StatusOr<std::unique_ptr<Sequence>> cache = dense.createSequence({});
  KVCACHE_RETURN_IF_ERROR(cache.status());
  SequenceRun run;
  run.sequence = cache->get();
  run.prompt = sequence.tokens;
  KVCACHE_RETURN_IF_ERROR(decoder.prefill(dense, {&run}));
  KVCACHE_RETURN_IF_ERROR(decoder.promptEnd(dense, {&run}));
  GenerateOptions options;
  options.maxNewTokens = needleAnswerTokens;
  auto answers = generateGreedy(decoder, dense, {&run}, options);
  KVCACHE_RETURN_IF_ERROR(answers.status());
  std::vector<int32_t> &produced = sequence.tables["produced"];
  for (int32_t token : answers->front()) {
    produced.back() = token;
    sequence.tokens.push_back(token);
    produced.push_back(-1);
    sequence.tables["needle"].push_back(0);
  }
  sequence.tokens.pop_back(); // nothing is produced behind it
  produced.pop_back();
  sequence.tables["needle"].pop_back();
  return Status::ok();
}

} // namespace

StatusOr<std::vector<CalibrationSequence>>
drawSequences(const TaskMaterial &material, const CalibrationSource &source, uint64_t seed) {
  TaskMaterial kept = material; // filler of needles, too, is text kept for calibration
  kept.evaluation = material.calibration;
  std::vector<CalibrationSequence> sequences;
  if (source.name == "repeat") {
    Random random{seed, keyOf(source.name)};
    sequences.push_back(drawRepeat(kept, random, source.count, source.size));
    return sequences;
  }
  bool needle = source.name == "needle";
  if (!needle && source.name != "text") {
    return Status::badInput("expected a source text, repeat or needle, got '" + source.name + "'");
  }
  for (int64_t i = 0; i < source.count; ++i) {
    Random random{seed, keyOf(source.name), static_cast<uint64_t>(i)};
    StatusOr<CalibrationSequence> drawn = needle ? drawNeedle(kept, source.size, seed, i)
                                                 : drawTextSequence(kept, random, source.size);
    if (!drawn.isOk()) {
      return Status(drawn.status().code(),
                    describeSource(source) + ": " + drawn.status().message());
    }
    sequences.push_back(std::move(*drawn));
  }
  return sequences;
}

StatusOr<std::vector<CalibrationSequence>> calibrateOnSequences(Decoder &decoder, Execution &dense,
                                                                const TaskMaterial &material,
                                                                uint64_t seed, Execution &method) {
  std::vector<CalibrationSource> sources = method.calibrationSources();
  std::vector<CalibrationSequence> fed;
  for (size_t number = 0; number < sources.size(); ++number) {
    StatusOr<std::vector<CalibrationSequence>> drawn =
        drawSequences(material, sources[number], seed);
    KVCACHE_RETURN_IF_ERROR(drawn.status());
    for (CalibrationSequence &sequence : *drawn) {
      if (sources[number].name == "needle") {
        KVCACHE_RETURN_IF_ERROR(answerNeedle(decoder, dense, sequence));
      }
      StatusOr<PromptRecording> recording = recordSequence(decoder, dense, sequence.tokens);
      KVCACHE_RETURN_IF_ERROR(recording.status());
      KVCACHE_RETURN_IF_ERROR(calibrateSequence(*recording, number, sequence.tables, method));
      fed.push_back(std::move(sequence));
    }
  }
  KVCACHE_RETURN_IF_ERROR(method.finishCalibration());
  return fed;
}

std::string describeSource(const CalibrationSource &source) {
  return source.name + "(" + std::to_string(source.count) + ", " + std::to_string(source.size) +
         ")";
}

std::string describeSources(const Execution &method) {
  std::string text;
  for (const CalibrationSource &source : method.calibrationSources()) {
    text += (text.empty() ? "" : ", ") + describeSource(source);
  }
  return text;
}

} // namespace kvcache::rt
