// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The reference prefills the prompt; an observer hands the activations of each layer to the target
// as well, so that a difference is found in the layer where it begins and does not grow from there.
// A second pass is shared in the same way; each side drafts by itself, and both then score with the
// reference's draft.

#include "tools/commands/VerifyRun.h"

#include "runtime/model/Draft.h"
#include "runtime/model/Generate.h"
#include "tools/commands/CompareResults.h"
#include "tools/commands/Progress.h"

#include <fmt/format.h>

#include <cmath>

namespace kvcache::tools {

using rt::Execution;
using rt::LayerRows;
using rt::Sequence;
using rt::SequenceRun;
using rt::Status;
using rt::StatusOr;

namespace {

/// Relative L2 tolerance of queries decoded on caches of two targets: eight tokens of a whole
/// model, as of its logits.
constexpr double draftTolerance = 2e-3;

/// ||a - b|| / ||b||; infinite when a value is not finite.
double relativeError(const float *actual, const float *expected, size_t count) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < count; ++i) {
    difference += (double(actual[i]) - expected[i]) * (double(actual[i]) - expected[i]);
    norm += double(expected[i]) * expected[i];
  }
  return std::isfinite(difference) ? std::sqrt(difference / std::max(norm, 1e-60)) : INFINITY;
}

Status compareLogits(const char *what, const std::vector<float> &actual,
                     const std::vector<float> &expected, double tolerance) {
  double error = actual.size() == expected.size()
                     ? relativeError(actual.data(), expected.data(), expected.size())
                     : INFINITY;
  return error <= tolerance ? Status::ok()
                            : Status::checkFailed(fmt::format(
                                  "--verify: the logits of {} differ by {:.3g} (relative L2) from "
                                  "the reference, expected at most {:g}",
                                  what, error, tolerance));
}

/// One side of the comparison.
struct Side {
  Execution &execution;
  std::unique_ptr<Sequence> sequence;
  SequenceRun run;

  explicit Side(Execution &execution) : execution(execution) {}

  Status start(const NamedPrompt &prompt, int64_t budget) {
    rt::SequenceOptions options;
    options.budget = budget;
    options.requests = prompt.requests;
    StatusOr<std::unique_ptr<Sequence>> made = execution.createSequence(options);
    KVCACHE_RETURN_IF_ERROR(made.status());
    sequence = std::move(*made);
    run.sequence = sequence.get();
    run.prompt = prompt.tokens;
    return Status::ok();
  }

  /// What a reader sees of every head.
  StatusOr<ApplyResult> read() const {
    ApplyResult result;
    for (int64_t layer = 0; layer < execution.geometry().layers; ++layer) {
      LayerResult to;
      int64_t heads = static_cast<int64_t>(sequence->report(layer).keptRows.size());
      for (int64_t head = 0; head < heads; ++head) {
        StatusOr<rt::HeadContents> contents = sequence->contents(layer, head);
        KVCACHE_RETURN_IF_ERROR(contents.status());
        to.scores.push_back(contents->scores);
        to.heads.push_back(std::move(*contents));
      }
      result.layers.push_back(std::move(to));
    }
    return result;
  }
};

/// How a target takes rows of a prompt: Execution::prefill or Execution::probe.
using Feed = Status (Execution::*)(int64_t, const std::vector<Sequence *> &,
                                   const std::vector<LayerRows> &);

/// Gives the rows that the reference has just attended with to the target and compares the outputs.
Status compareRows(Side &target, Feed feed, int64_t layer, const LayerRows &expected) {
  const rt::Geometry &geometry = target.execution.geometry();
  size_t count = static_cast<size_t>(expected.rows * geometry.queryHeads * geometry.headDim);
  std::vector<float> output(count);
  LayerRows rows = expected;
  rows.out = output.data();
  KVCACHE_RETURN_IF_ERROR((target.execution.*feed)(layer, {target.sequence.get()}, {rows}));
  double error = relativeError(output.data(), expected.out, count),
         tolerance = outputTolerance(geometry.act, /*integerProducts=*/false);
  return error <= tolerance
             ? Status::ok()
             : Status::checkFailed(fmt::format(
                   "--verify: layers.{}: the attention output of prompt rows {} to {} differs by "
                   "{:.3g} (relative L2) from the reference, expected at most {:g}",
                   layer, expected.positions[0], expected.positions[expected.rows - 1], error,
                   tolerance));
}

Status prefillBoth(rt::Decoder &decoder, Side &target, Side &reference) {
  const int64_t layers = decoder.config().layers;
  int64_t tokens = static_cast<int64_t>(reference.run.prompt.size());
  const int64_t chunk = reference.execution.thinsPrompt() ? tokens : 512;
  Progress progress("verifying", "layers", (tokens + chunk - 1) / chunk * layers);
  rt::PrefillOptions options;
  options.chunk = chunk;
  options.preRopeKeys = target.execution.needsPreRopeKeys();
  options.observer = [&](int64_t layer, const std::vector<size_t> &,
                         const std::vector<LayerRows> &rows) {
    progress.advance();
    return compareRows(target, &Execution::prefill, layer, rows.front());
  };
  return decoder.prefill(reference.execution, {&reference.run}, options);
}

/// Lets each side draft, compares the queries, and gives those of the reference to both.
Status draftBoth(rt::Decoder &decoder, Side &target, Side &reference) {
  StatusOr<rt::DraftQueries> actual = rt::draftAnswer(decoder, target.execution, target.run),
                             expected =
                                 rt::draftAnswer(decoder, reference.execution, reference.run);
  KVCACHE_RETURN_IF_ERROR(actual.status());
  KVCACHE_RETURN_IF_ERROR(expected.status());
  for (size_t layer = 0; layer < expected->layers.size(); ++layer) {
    const std::vector<float> &a = actual->layers[layer], &b = expected->layers[layer];
    double error = a.size() == b.size() ? relativeError(a.data(), b.data(), a.size()) : INFINITY;
    if (!(error <= draftTolerance)) {
      return Status::checkFailed(
          fmt::format("--verify: layers.{}: the queries of {} drafted tokens differ by {:.3g} "
                      "(relative L2) from {} of the reference, expected at most {:g}",
                      layer, actual->rows, error, expected->rows, draftTolerance));
    }
  }
  KVCACHE_RETURN_IF_ERROR(rt::giveDraft(target.execution, *target.sequence, *expected));
  return rt::giveDraft(reference.execution, *reference.sequence, *expected);
}

/// Ends the prompt of both sides.
Status endBoth(rt::Decoder &decoder, Side &target, Side &reference) {
  if (reference.execution.needsProbe()) {
    auto observer = [&](int64_t layer, const std::vector<size_t> &,
                        const std::vector<LayerRows> &rows) {
      return compareRows(target, &Execution::probe, layer, rows.front());
    };
    KVCACHE_RETURN_IF_ERROR(decoder.secondPass(reference.execution, {&reference.run}, observer));
  }
  if (reference.execution.draftSteps() > 0) {
    KVCACHE_RETURN_IF_ERROR(draftBoth(decoder, target, reference));
  }
  KVCACHE_RETURN_IF_ERROR(target.execution.promptEnd({target.sequence.get()}));
  return reference.execution.promptEnd({reference.sequence.get()});
}

Status verifyPrompt(rt::Decoder &decoder, Side &target, Side &reference, const RunRow &row) {
  KVCACHE_RETURN_IF_ERROR(prefillBoth(decoder, target, reference));
  target.run.position = reference.run.position;
  target.run.logits = reference.run.logits;
  std::vector<float> promptLogits = reference.run.logits;
  KVCACHE_RETURN_IF_ERROR(endBoth(decoder, target, reference));
  StatusOr<ApplyResult> actual = target.read(), expected = reference.read();
  KVCACHE_RETURN_IF_ERROR(actual.status());
  KVCACHE_RETURN_IF_ERROR(expected.status());
  Comparison comparison =
      compareResults(*actual, *expected, target.execution,
                     outputTolerance(target.execution.geometry().act, /*integerProducts=*/false));
  KVCACHE_RETURN_IF_ERROR(comparison.status);
  const double tolerance = 2e-3;
  KVCACHE_RETURN_IF_ERROR(compareLogits("the prompt", row.promptLogits, promptLogits, tolerance));
  int32_t token = rt::argMax(promptLogits.data(), static_cast<int64_t>(promptLogits.size()));
  for (Side *side : {&target, &reference}) {
    KVCACHE_RETURN_IF_ERROR(decoder.step(side->execution, {&side->run}, &token));
  }
  // Other rows kept at a tie give other logits, though close ones.
  return compareLogits("the first step", target.run.logits, reference.run.logits,
                       comparison.boundarySwaps > 0 ? 5e-2 : tolerance);
}

} // namespace

Status verifyRun(rt::Decoder &decoder, Execution &execution, Execution &reference,
                 const std::vector<NamedPrompt> &prompts, std::vector<RunRow> &rows) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    Side target(execution), expected(reference);
    KVCACHE_RETURN_IF_ERROR(target.start(prompts[i], rows[i].budget));
    KVCACHE_RETURN_IF_ERROR(expected.start(prompts[i], rows[i].budget));
    Status verified = verifyPrompt(decoder, target, expected, rows[i]);
    if (!verified.isOk()) {
      return prompts.size() == 1
                 ? verified
                 : Status(verified.code(), prompts[i].name + ": " + verified.message());
    }
    rows[i].verified = true;
  }
  return Status::ok();
}

} // namespace kvcache::tools
