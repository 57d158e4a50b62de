// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the decoder promises beside its numbers: threads, batches, chunks,
// recordings, errors.

#include "runtime/model/Decoder.h"
#include "runtime/model/Generate.h"
#include "runtime/model/PromptRecording.h"
#include "runtime/parallel/Parallel.h"
#include "test/model/ModelFixtures.h"

#include <cstring>

using namespace kvcache::rt;
using namespace kvcache::test;

static const char *const windowModel = "mistral-window-untied-bf16-sharded";

/// Logits of two prompts and of six steps after each, all in one vector.
static std::vector<float> logitsOfBatch(Decoder &decoder, int64_t chunk) {
  PlainAttention attention(decoder.geometry(ElementType::F32));
  OwnedRun first(attention, someTokens(90, decoder.config().vocabSize, 1));
  OwnedRun second(attention, someTokens(37, decoder.config().vocabSize, 2));
  std::vector<SequenceRun *> runs = {&first.run, &second.run};
  PrefillOptions options;
  options.chunk = chunk;
  options.allLogits = true;
  expectOk(decoder.prefill(attention, runs, options));
  expectOk(decoder.promptEnd(attention, runs));
  std::vector<float> all = first.run.logits;
  all.insert(all.end(), second.run.logits.begin(), second.run.logits.end());
  std::vector<float> logits(static_cast<size_t>(2 * decoder.config().vocabSize));
  for (int32_t t = 0; t < 6; ++t) {
    int32_t tokens[2] = {t, t + 1};
    expectOk(decoder.step(attention, runs, tokens, logits.data()));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

TEST(Decoder, thread_count_changes_no_bit) {
  auto decoder = loadDecoder(bundledModel());
  ASSERT_TRUE(decoder);
  expectOk(setThreads(1));
  std::vector<float> one = logitsOfBatch(*decoder, 512);
  for (int count : {2, 5}) {
    expectOk(setThreads(count));
    std::vector<float> many = logitsOfBatch(*decoder, 512);
    ASSERT_EQ(many.size(), one.size());
    EXPECT_EQ(std::memcmp(many.data(), one.data(), one.size() * sizeof(float)), 0) << count;
  }
  expectOk(setThreads(0));
}

TEST(Decoder, chunk_size_changes_nothing_but_rounding) {
  auto decoder = loadDecoder(bundledModel());
  ASSERT_TRUE(decoder);
  std::vector<float> whole = logitsOfBatch(*decoder, 512);
  EXPECT_LT(largestDifference(whole, logitsOfBatch(*decoder, 16)), 1e-4);
  EXPECT_LT(largestDifference(whole, logitsOfBatch(*decoder, 1)), 1e-4);
}

TEST(Decoder, batch_of_different_lengths_equals_single_sequences) {
  auto decoder = loadDecoder(bundledModel());
  ASSERT_TRUE(decoder);
  PlainAttention attention(decoder->geometry(ElementType::F32));
  int64_t vocab = decoder->config().vocabSize;
  std::vector<int64_t> lengths = {1, 530, 37, 512, 100};
  std::vector<OwnedRun> batch, single;
  std::vector<SequenceRun *> runs;
  for (size_t i = 0; i < lengths.size(); ++i) {
    batch.emplace_back(attention, someTokens(lengths[i], vocab, 7 + static_cast<uint32_t>(i)));
    single.emplace_back(attention, batch.back().run.prompt);
  }
  for (OwnedRun &one : batch) {
    runs.push_back(&one.run);
  }
  expectOk(decoder->prefill(attention, runs));
  expectOk(decoder->promptEnd(attention, runs));
  std::vector<int32_t> tokens = someTokens(static_cast<int64_t>(lengths.size()), vocab, 99);
  std::vector<std::vector<float>> afterPrompt;
  for (SequenceRun *run : runs) {
    afterPrompt.push_back(run->logits);
  }
  expectOk(decoder->step(attention, runs, tokens.data()));
  for (size_t i = 0; i < lengths.size(); ++i) {
    expectOk(decoder->prefill(attention, {&single[i].run}));
    EXPECT_LT(largestDifference(single[i].run.logits, afterPrompt[i]), 1e-4) << i;
    expectOk(decoder->promptEnd(attention, {&single[i].run}));
    expectOk(decoder->step(attention, {&single[i].run}, &tokens[i]));
    EXPECT_LT(largestDifference(single[i].run.logits, runs[i]->logits), 1e-4) << i;
    EXPECT_EQ(single[i].run.position, lengths[i] + 1);
  }
}

TEST(Decoder, observer_sees_every_layer_with_its_attention_output) {
  auto decoder = loadDecoder(tinyModel(windowModel));
  ASSERT_TRUE(decoder);
  PlainAttention attention(decoder->geometry(ElementType::F32));
  OwnedRun owned(attention, someTokens(9, 96, 3));
  std::vector<int64_t> layers;
  PrefillOptions options;
  options.preRopeKeys = true;
  options.observer = [&](int64_t layer, const std::vector<size_t> &runs,
                         const std::vector<LayerRows> &rows) {
    layers.push_back(layer);
    EXPECT_EQ(runs, std::vector<size_t>{0});
    EXPECT_EQ(rows[0].rows, 9);
    // The first token attends to itself alone: its output is its value, and its
    // key is not rotated.
    EXPECT_EQ(std::memcmp(rows[0].out, rows[0].v, 16 * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(rows[0].k, rows[0].kPre, 16 * sizeof(float)), 0);
    EXPECT_NE(std::memcmp(rows[0].k + 32, rows[0].kPre + 32, 16 * sizeof(float)), 0);
    return Status::ok();
  };
  expectOk(decoder->prefill(attention, {&owned.run}, options));
  EXPECT_EQ(layers, (std::vector<int64_t>{0, 1}));
}

namespace {
/// Plain attention that passes on every second row and the newest ones of layer `at`.
class ThinningAttention : public PlainAttention {
public:
  ThinningAttention(Geometry geometry, int64_t at) : PlainAttention(std::move(geometry)), at_(at) {}
  bool thinsPrompt() const override { return true; }
  StatusOr<std::vector<int64_t>> passedRows(int64_t layer,
                                            const Sequence &sequence) const override {
    int64_t rows = static_cast<int64_t>(
        static_cast<const PlainSequence &>(sequence).positions[static_cast<size_t>(layer)].size());
    std::vector<int64_t> passed;
    for (int64_t row = 0; row < rows; ++row) {
      if (layer != at_ || row % 2 == 0 || row + 3 > rows) {
        passed.push_back(row);
      }
    }
    return passed;
  }

private:
  int64_t at_;
};
} // namespace

// A row's keys in a layer depend on the layers before it alone: those of the rows that go on are
// those of the whole prompt.
TEST(Decoder, thinned_prompt_takes_rows_out_of_the_residual_stream) {
  auto decoder = loadDecoder(bundledModel());
  ASSERT_TRUE(decoder);
  Geometry geometry = decoder->geometry(ElementType::F32);
  const int64_t width = geometry.kvHeads * geometry.headDim, at = 2;
  PlainAttention whole(geometry);
  ThinningAttention thinned(geometry, at);
  OwnedRun all(whole, someTokens(90, decoder->config().vocabSize, 1));
  OwnedRun first(thinned, someTokens(90, decoder->config().vocabSize, 1));
  OwnedRun second(thinned, someTokens(37, decoder->config().vocabSize, 2));
  PrefillOptions options;
  options.chunk = 16; // not for a prompt that thins out
  expectOk(decoder->prefill(whole, {&all.run}));
  expectOk(decoder->prefill(thinned, {&second.run, &first.run}, options));
  const auto &expected = static_cast<const PlainSequence &>(*all.run.sequence);
  const auto &found = static_cast<const PlainSequence &>(*first.run.sequence);
  EXPECT_LT(largestDifference(found.k[at], expected.k[at]), 1e-4);
  std::vector<float> keys;
  std::vector<int32_t> positions;
  for (int32_t row = 0; row < 90; ++row) {
    if (row % 2 == 0 || row + 3 > 90) {
      positions.push_back(row);
      keys.insert(keys.end(), expected.k[at + 1].begin() + row * width,
                  expected.k[at + 1].begin() + (row + 1) * width);
    }
  }
  EXPECT_EQ(found.positions[at + 1], positions);
  ASSERT_EQ(found.k[at + 1].size(), keys.size());
  EXPECT_LT(largestDifference(found.k[at + 1], keys), 1e-4);
  EXPECT_EQ(found.positions.back().size(), positions.size());
  // The next token stands behind the whole prompt, in every layer.
  EXPECT_EQ(first.run.position, 90);
  EXPECT_EQ(first.run.logits.size(), static_cast<size_t>(decoder->config().vocabSize));
  expectOk(decoder->promptEnd(thinned, {&first.run}));
  int32_t token = 7;
  expectOk(decoder->step(thinned, {&first.run}, &token));
  EXPECT_EQ(found.positions.front().back(), 90);
  EXPECT_EQ(found.positions.back().back(), 90);
}

TEST(Decoder, negative_thinned_prompt_has_no_logits_of_all_rows_and_no_recording) {
  auto decoder = loadDecoder(tinyModel(windowModel));
  ASSERT_TRUE(decoder);
  ThinningAttention thinned(decoder->geometry(ElementType::F32), 0);
  OwnedRun owned(thinned, someTokens(9, 96, 3));
  PrefillOptions options;
  options.allLogits = true;
  expectBadInput(decoder->prefill(thinned, {&owned.run}, options), {"'plain'", "drops rows"});
  auto recordings = recordPrompts(*decoder, thinned, {&owned.run}, RecordOptions());
  expectBadInput(recordings.status(), {"'plain'", "not recorded"});
}

TEST(PromptRecording, replay_gives_the_sequence_the_same_rows) {
  auto decoder = loadDecoder(bundledModel());
  ASSERT_TRUE(decoder);
  PlainAttention attention(decoder->geometry(ElementType::F32));
  OwnedRun first(attention, someTokens(150, 264, 1)), second(attention, someTokens(40, 264, 2));
  RecordOptions options;
  options.queryRows = 60;
  options.chunk = 64;
  auto recordings = recordPrompts(*decoder, attention, {&first.run, &second.run}, options);
  ASSERT_TRUE(recordings.isOk()) << recordings.status().message();
  EXPECT_EQ((*recordings)[0].queryRows, 60);
  EXPECT_EQ((*recordings)[1].queryRows, 40);
  EXPECT_EQ((*recordings)[0].layers[5].q.size(), 60u * 4 * 64);
  attention.queryRows = 60;
  OwnedRun again(attention, {});
  expectOk(replay((*recordings)[0], attention, again.run, 50));
  EXPECT_EQ(again.run.position, 150);
  const auto &original = static_cast<PlainSequence &>(*first.sequence);
  const auto &copy = static_cast<PlainSequence &>(*again.sequence);
  EXPECT_EQ(original.k, copy.k);
  EXPECT_EQ(original.v, copy.v);
  EXPECT_EQ(original.positions, copy.positions);
  // Both continue alike.
  expectOk(decoder->promptEnd(attention, {&first.run, &again.run}));
  int32_t tokens[2] = {65, 65};
  expectOk(decoder->step(attention, {&first.run, &again.run}, tokens));
  EXPECT_LT(largestDifference(first.run.logits, again.run.logits), 1e-4);
}

TEST(PromptRecording, negative_method_needs_more_than_was_recorded) {
  auto decoder = loadDecoder(tinyModel(windowModel));
  ASSERT_TRUE(decoder);
  PlainAttention attention(decoder->geometry(ElementType::F32));
  OwnedRun owned(attention, someTokens(20, 96, 1));
  RecordOptions options;
  options.queryRows = 5;
  auto recordings = recordPrompts(*decoder, attention, {&owned.run}, options);
  ASSERT_TRUE(recordings.isOk());
  OwnedRun again(attention, {});
  attention.queryRows = -1;
  expectBadInput(replay(recordings->front(), attention, again.run),
                 {"plain", "last 20 rows", "found 5"});
  attention.queryRows = 5;
  attention.preRopeKeys = true;
  expectBadInput(replay(recordings->front(), attention, again.run), {"plain", "before RoPE"});
}

TEST(Generate, greedy_follows_the_largest_logit_and_stops) {
  auto decoder = loadDecoder(tinyModel(windowModel));
  ASSERT_TRUE(decoder);
  PlainAttention attention(decoder->geometry(ElementType::F32));
  OwnedRun first(attention, someTokens(12, 96, 1)), second(attention, someTokens(5, 96, 2));
  std::vector<SequenceRun *> runs = {&first.run, &second.run};
  expectOk(decoder->prefill(attention, runs));
  expectOk(decoder->promptEnd(attention, runs));
  GenerateOptions options;
  options.maxNewTokens = 10;
  std::vector<size_t> order;
  options.onToken = [&](size_t run, int32_t) { order.push_back(run); };
  auto tokens = generateGreedy(*decoder, attention, runs, options);
  ASSERT_TRUE(tokens.isOk()) << tokens.status().message();
  ASSERT_EQ((*tokens)[0].size(), 10u);
  EXPECT_EQ(order.size(), 20u);
  EXPECT_EQ(first.run.position, 12 + 9);
  // The same by prefill alone: each token is the arg-max after those before it.
  std::vector<int32_t> text = someTokens(12, 96, 1);
  for (int32_t token : (*tokens)[0]) {
    OwnedRun check(attention, text);
    expectOk(decoder->prefill(attention, {&check.run}));
    EXPECT_EQ(argMax(check.run.logits.data(), 96), token);
    text.push_back(token);
  }
  OwnedRun stopped(attention, someTokens(12, 96, 1));
  expectOk(decoder->prefill(attention, {&stopped.run}));
  expectOk(decoder->promptEnd(attention, {&stopped.run}));
  options.stopTokens = {(*tokens)[0][4]};
  auto fewer = generateGreedy(*decoder, attention, {&stopped.run}, options);
  ASSERT_TRUE(fewer.isOk());
  auto end = std::find((*tokens)[0].begin(), (*tokens)[0].end(), (*tokens)[0][4]);
  EXPECT_EQ((*fewer)[0], std::vector<int32_t>((*tokens)[0].begin(), end));
}

TEST(Generate, arg_max_takes_the_lowest_of_equals) {
  float values[5] = {1, 3, 2, 3, 0};
  EXPECT_EQ(argMax(values, 5), 1);
}

TEST(Decoder, negative_input) {
  auto decoder = loadDecoder(tinyModel(windowModel));
  ASSERT_TRUE(decoder);
  PlainAttention attention(decoder->geometry(ElementType::F32));
  OwnedRun empty(attention, {}), foreign(attention, {1, 96}), good(attention, {1, 2});
  expectBadInput(decoder->prefill(attention, {&good.run, &empty.run}), {"sequence 1", "empty"});
  expectBadInput(decoder->prefill(attention, {&foreign.run}),
                 {"token 1 of sequence 0", "0..95", "found 96"});
  PrefillOptions options;
  options.chunk = 0;
  expectBadInput(decoder->prefill(attention, {&good.run}, options), {"chunk", "found 0"});
  int32_t token = -1;
  expectBadInput(decoder->step(attention, {&good.run}, &token),
                 {"token 0 of sequence 0", "found -1"});
  Geometry other = decoder->geometry(ElementType::F32);
  other.slidingWindow = 0;
  PlainAttention wrong(other);
  expectBadInput(decoder->prefill(wrong, {&good.run}), {"another model", "window=8", "window=0"});
}
