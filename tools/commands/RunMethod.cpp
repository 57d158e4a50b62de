// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Resident memory is read before the first page of a cache exists and again while all caches are
// alive.

#include "tools/commands/RunMethod.h"

#include "runtime/model/Generate.h"
#include "runtime/model/PromptRecording.h"
#include "runtime/model/Tokens.h"
#include "tools/commands/ModelInput.h"
#include "tools/commands/Progress.h"

#include <fmt/format.h>

#include <chrono>

namespace kvcache::tools {

using rt::Execution;
using rt::PromptRecording;
using rt::Sequence;
using rt::SequenceRun;
using rt::Status;
using rt::StatusOr;

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A prompt with its sequence.
struct OwnedRun {
  std::unique_ptr<Sequence> sequence;
  SequenceRun run;
};

StatusOr<std::unique_ptr<OwnedRun>> makeRun(Execution &execution, const NamedPrompt &prompt,
                                            int64_t budget) {
  rt::SequenceOptions options;
  options.budget = budget;
  options.requests = prompt.requests;
  StatusOr<std::unique_ptr<Sequence>> sequence = execution.createSequence(options);
  KVCACHE_RETURN_IF_ERROR(sequence.status());
  auto owned = std::make_unique<OwnedRun>();
  owned->sequence = std::move(*sequence);
  owned->run.sequence = owned->sequence.get();
  owned->run.prompt = prompt.tokens;
  return owned;
}

/// What the prompt's layers compute; the sequence it is recorded with keeps everything.
StatusOr<PromptRecording> record(rt::Decoder &decoder, Execution &execution,
                                 const NamedPrompt &prompt) {
  int64_t all = execution.hasTokenBudget() ? static_cast<int64_t>(prompt.tokens.size()) : -1;
  StatusOr<std::unique_ptr<OwnedRun>> owned = makeRun(execution, prompt, all);
  KVCACHE_RETURN_IF_ERROR(owned.status());
  rt::RecordOptions options;
  options.queryRows = execution.neededQueryRows();
  options.preRopeKeys = execution.needsPreRopeKeys();
  StatusOr<std::vector<PromptRecording>> recordings =
      rt::recordPrompts(decoder, execution, {&(*owned)->run}, options);
  KVCACHE_RETURN_IF_ERROR(recordings.status());
  return std::move((*recordings)[0]);
}

StatusOr<std::unique_ptr<OwnedRun>> replayed(rt::Decoder &decoder, const PromptRecording &recording,
                                             Execution &execution, const NamedPrompt &prompt,
                                             int64_t budget) {
  StatusOr<std::unique_ptr<OwnedRun>> owned = makeRun(execution, prompt, budget);
  KVCACHE_RETURN_IF_ERROR(owned.status());
  KVCACHE_RETURN_IF_ERROR(execution.thinsPrompt()
                              ? decoder.prefill(execution, {&(*owned)->run})
                              : rt::replay(recording, execution, (*owned)->run));
  KVCACHE_RETURN_IF_ERROR(decoder.promptEnd(execution, {&(*owned)->run}));
  return owned;
}

StatusOr<int64_t> budgetOf(const Budget &budget, rt::Decoder &decoder, Execution &execution,
                           const NamedPrompt &prompt) {
  PromptRecording recording;
  auto bytes = [&](int64_t tokens) -> StatusOr<int64_t> {
    if (recording.tokens == 0 && !execution.thinsPrompt()) {
      StatusOr<PromptRecording> recorded = record(decoder, execution, prompt);
      KVCACHE_RETURN_IF_ERROR(recorded.status());
      recording = std::move(*recorded);
    }
    StatusOr<std::unique_ptr<OwnedRun>> owned =
        replayed(decoder, recording, execution, prompt, tokens);
    KVCACHE_RETURN_IF_ERROR(owned.status());
    return proveCompression(*(*owned)->sequence, execution.geometry()).bytesMeasured;
  };
  return resolveBudget(budget, execution, static_cast<int64_t>(prompt.tokens.size()), bytes);
}

StatusOr<std::vector<std::vector<int32_t>>> generate(rt::Decoder &decoder, Execution &execution,
                                                     const std::vector<SequenceRun *> &runs,
                                                     const RunOptions &options) {
  Progress progress("generating", "tokens",
                    options.maxNewTokens * static_cast<int64_t>(runs.size()));
  rt::GenerateOptions generation;
  generation.maxNewTokens = options.maxNewTokens;
  for (int64_t token : decoder.config().eosTokens) {
    generation.stopTokens.push_back(static_cast<int32_t>(token));
  }
  generation.onToken = [&](size_t, int32_t) { progress.advance(); };
  return rt::generateGreedy(decoder, execution, runs, generation);
}

} // namespace

StatusOr<std::vector<RunRow>> runMethod(rt::Decoder &decoder, Execution &execution,
                                        const std::vector<NamedPrompt> &prompts,
                                        const RunOptions &options) {
  std::vector<RunRow> rows;
  for (const NamedPrompt &prompt : prompts) {
    StatusOr<int64_t> budget = budgetOf(options.budget, decoder, execution, prompt);
    KVCACHE_RETURN_IF_ERROR(budget.status());
    RunRow row;
    row.budget = *budget;
    row.residentBefore = residentBytes();
    rows.push_back(std::move(row));
  }
  std::vector<std::unique_ptr<OwnedRun>> owned;
  std::vector<SequenceRun *> runs;
  for (size_t i = 0; i < prompts.size(); ++i) {
    StatusOr<std::unique_ptr<OwnedRun>> made =
        makeRun(execution, prompts[i], rows[i].budget);
    KVCACHE_RETURN_IF_ERROR(made.status());
    runs.push_back(&(*made)->run);
    owned.push_back(std::move(*made));
  }
  Clock::time_point start = Clock::now();
  KVCACHE_RETURN_IF_ERROR(decoder.prefill(execution, runs));
  double prefill = secondsSince(start);
  for (size_t i = 0; i < runs.size(); ++i) {
    rows[i].promptLogits = runs[i]->logits;
  }
  start = Clock::now();
  KVCACHE_RETURN_IF_ERROR(decoder.promptEnd(execution, runs));
  double compress = secondsSince(start);
  start = Clock::now();
  auto generated = generate(decoder, execution, runs, options);
  KVCACHE_RETURN_IF_ERROR(generated.status());
  double decode = secondsSince(start);
  int64_t resident = residentBytes(), total = 0;
  for (const std::vector<int32_t> &tokens : *generated) {
    total += static_cast<int64_t>(tokens.size());
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    RunRow &row = rows[i];
    row.method = execution.methodName();
    row.target = execution.target();
    row.parameters = execution.parameters();
    row.prompt = prompts[i].name;
    row.promptTokens = static_cast<int64_t>(prompts[i].tokens.size());
    row.newTokens = (*generated)[i];
    row.text = rt::isByteLevel(decoder.config()) ? rt::textOfTokens(row.newTokens) : "";
    row.proof = proveCompression(*owned[i]->sequence, execution.geometry());
    row.prefillSeconds = prefill;
    row.compressSeconds = compress;
    row.decodeTokensPerSecond = decode > 0 ? static_cast<double>(total) / decode : 0;
    row.residentAfter = resident;
  }
  return rows;
}

static Json orNull(double value) { return value > 0 ? Json(value) : Json(nullptr); }

Json toJson(const RunRow &row) {
  Json json = {{"method", row.method},
               {"params", row.parameters},
               {"target", row.target},
               {"model", row.model},
               {"prompt", row.prompt},
               {"prompt_tokens", row.promptTokens},
               {"budget", row.budget < 0 ? Json(nullptr) : Json(row.budget)},
               {"new_tokens", row.newTokens},
               {"text", row.text.empty() ? Json(nullptr) : Json(row.text)}};
  addTo(json, row.proof);
  json["read_bytes_per_token"] =
      row.proof.readBytesPerToken > 0 ? Json(row.proof.readBytesPerToken) : Json(nullptr);
  json["prefill_s"] = row.prefillSeconds;
  json["compress_s"] = row.compressSeconds;
  json["decode_tokens_per_s"] = orNull(row.decodeTokensPerSecond);
  json["resident_before_bytes"] = orNull(static_cast<double>(row.residentBefore));
  json["resident_after_bytes"] = orNull(static_cast<double>(row.residentAfter));
  json["verified"] = row.verified;
  return json;
}

std::string toText(const RunRow &row, const std::vector<rt::KernelReport> &kernels) {
  std::string text =
      fmt::format("method          {} on {}, prompt {} of {} tokens, {} new\n", row.method,
                  row.target, row.prompt, row.promptTokens, row.newTokens.size());
  text += toText(row.proof);
  text += fmt::format("read per token  {} bytes by the last step\n", row.proof.readBytesPerToken);
  text += fmt::format("resident memory {} bytes before the caches, {} after the last step\n",
                      row.residentBefore, row.residentAfter);
  text += fmt::format("kernels         {}\n", kernelStatusText(kernels));
  text +=
      fmt::format("time            prefill {:.3f} s, compress {:.3f} s, decode {:.1f} tokens/s\n",
                  row.prefillSeconds, row.compressSeconds, row.decodeTokensPerSecond);
  if (row.verified) {
    text += "verified        prompt attention, kept rows, logits equal those of an independent "
            "reference run\n";
  }
  return text;
}

} // namespace kvcache::tools
