// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the executor does with a program, on a method small enough to know every result
// (ToyMethod.h).

#include "ToyMethod.h"

#include "runtime/exec/Executor.h"
#include "runtime/exec/Kvx.h"
#include "runtime/parallel/Parallel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace kvcache::rt {

using toy::Rows;

static std::unique_ptr<CompiledExecution> makeExecution(bool captureScores = false) {
  CompiledOptions options;
  options.captureScores = captureScores;
  auto execution = CompiledExecution::create(toy::makeExecutable(), options);
  EXPECT_TRUE(execution.isOk()) << execution.status().message();
  return execution.isOk() ? std::move(*execution) : nullptr;
}

static std::unique_ptr<Sequence> makeSequence(CompiledExecution &execution, int64_t budget) {
  auto sequence = execution.createSequence({budget, 0});
  EXPECT_TRUE(sequence.isOk()) << sequence.status().message();
  return std::move(*sequence);
}

/// Feeds tokens [first, first + count) to all layers; returns the outputs, layer after layer.
static std::vector<float> feed(CompiledExecution &execution, Sequence &sequence, int64_t first,
                               int64_t count, bool decoding) {
  std::vector<float> outputs;
  for (int64_t layer = 0; layer < toy::layers; ++layer) {
    Rows rows(layer, first, count);
    Status status = decoding ? execution.decode(layer, {&sequence}, {rows.view()})
                             : execution.prefill(layer, {&sequence}, {rows.view()});
    EXPECT_TRUE(status.isOk()) << status.message();
    outputs.insert(outputs.end(), rows.out.begin(), rows.out.end());
  }
  return outputs;
}

static float sumOfKeys(int64_t layer, const std::vector<int64_t> &tokens, int64_t head,
                       int64_t channel) {
  float total = 0;
  for (int64_t token : tokens) {
    total += Rows::key(layer, token, head, channel);
  }
  return total;
}

TEST(Executor, CutsEachHeadAndGoesOnFromThere) {
  auto execution = makeExecution(true);
  auto sequence = makeSequence(*execution, 5);
  feed(*execution, *sequence, 0, 30, false);
  feed(*execution, *sequence, 30, 10, false);
  EXPECT_EQ(sequence->report(1).keptRows, (std::vector<int64_t>{40, 40}));
  ASSERT_TRUE(execution->promptEnd({sequence.get()}).isOk());
  EXPECT_EQ(sequence->report(1).keptRows, (std::vector<int64_t>{5, 6}));
  std::vector<float> out = feed(*execution, *sequence, 40, 1, true);
  for (int64_t layer = 0; layer < toy::layers; ++layer) {
    for (int64_t h = 0; h < toy::queryHeads; ++h) {
      std::vector<int64_t> kept = {0, 1, 2, 3, 4, 40};
      if (h / 2 == 1) {
        kept.push_back(5);
      }
      for (int64_t d = 0; d < toy::headDim; ++d) {
        EXPECT_EQ(out[(layer * toy::queryHeads + h) * toy::headDim + d],
                  sumOfKeys(layer, kept, h / 2, d));
      }
    }
  }
  ASSERT_TRUE(execution->stepEnd({sequence.get()}).isOk());
  EXPECT_EQ(sequence->length(), 41);
  LayerReport report = sequence->report(0);
  EXPECT_EQ(report.keptRows, (std::vector<int64_t>{6, 7}));
  EXPECT_EQ(report.bitsK, 13 * 4 * 32);
  EXPECT_EQ(report.bitsV, 4 * 4 * 32 + 9 * (4 * 8 + 32));
  EXPECT_EQ(report.readBytesPerToken, 13 * 4 * 4);
  EXPECT_GE(report.bytesMeasured, report.bytesClaimed);
  EXPECT_LE(report.bytesMeasured,
            report.bytesClaimed + 2 * static_cast<double>(report.bytesOnePage));
  EXPECT_EQ(execution->cacheBytes(), report.bytesMeasured + sequence->report(1).bytesMeasured);
}

TEST(Executor, ShowsWhatAReaderSees) {
  auto execution = makeExecution(true);
  auto sequence = makeSequence(*execution, 6);
  feed(*execution, *sequence, 100, 9, false);
  ASSERT_TRUE(execution->promptEnd({sequence.get()}).isOk());
  feed(*execution, *sequence, 109, 1, true);
  ASSERT_TRUE(execution->stepEnd({sequence.get()}).isOk());
  auto contents = sequence->contents(1, 1);
  ASSERT_TRUE(contents.isOk()) << contents.status().message();
  EXPECT_EQ(contents->positions, (std::vector<int32_t>{100, 101, 102, 103, 104, 105, 106, 109}));
  EXPECT_EQ(contents->source, (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 9}));
  ASSERT_EQ(contents->k.size(), 8u * toy::headDim);
  for (size_t row = 0; row < 8; ++row) {
    for (int64_t d = 0; d < toy::headDim; ++d) {
      EXPECT_EQ(contents->k[row * toy::headDim + d], Rows::key(1, contents->positions[row], 1, d));
      EXPECT_EQ(contents->v[row * toy::headDim + d], Rows::value(contents->positions[row], 1, d));
    }
  }
  EXPECT_FALSE(contents->kCoded);
  ASSERT_TRUE(contents->vCoded);
  const CodedRows &coded = contents->codedV;
  EXPECT_EQ(coded.first, 0);
  ASSERT_EQ(coded.rows, 6);
  EXPECT_EQ(coded.layout, "lsb(channel)");
  EXPECT_EQ(coded.groupShape, (std::vector<int64_t>{6, 1}));
  EXPECT_EQ(coded.packed, coded.codes); // of 8 bits
  EXPECT_EQ(coded.codes[4 * 5 + 2], static_cast<uint8_t>(Rows::value(105, 1, 2)));
  EXPECT_EQ(coded.scales,
            (std::vector<uint8_t>{0, 0x3c, 0, 0x3c, 0, 0x3c, 0, 0x3c, 0, 0x3c, 0, 0x3c}));
  EXPECT_EQ(coded.zeros, (std::vector<uint8_t>{1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0}));
  ASSERT_EQ(contents->scores.size(), 9u);
  EXPECT_EQ(contents->scores[0], std::numeric_limits<float>::infinity()); // forced
  EXPECT_EQ(contents->scores[8], Rows::key(1, 108, 1, 0));
  EXPECT_FALSE(sequence->contents(1, 2).isOk());
}

TEST(Executor, WhatAReaderSeesFollowsEveryChange) {
  auto execution = makeExecution();
  auto sequence = makeSequence(*execution, 6);
  for (int64_t layer = 0; layer < toy::layers; ++layer) {
    Rows rows(layer, 0, 9);
    rows.v[0] += 0.5f;
    ASSERT_TRUE(execution->prefill(layer, {sequence.get()}, {rows.view()}).isOk());
  }
  auto rowsOf = [](const Sequence &of) {
    auto contents = of.contents(0, 0);
    EXPECT_TRUE(contents.isOk()) << contents.status().message();
    return contents->source;
  };
  EXPECT_EQ(rowsOf(*sequence).size(), 9u);
  EXPECT_EQ(sequence->contents(0, 0)->v[0], Rows::value(0, 0, 0) + 0.5f);
  ASSERT_TRUE(execution->promptEnd({sequence.get()}).isOk());
  EXPECT_EQ(rowsOf(*sequence), (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(sequence->contents(0, 0)->codedV.rows, 4);
  EXPECT_EQ(sequence->contents(0, 0)->v[0], Rows::value(0, 0, 0)) << "coded without its fraction";
  feed(*execution, *sequence, 9, 1, true);
  EXPECT_EQ(rowsOf(*sequence), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 9}));
  ASSERT_TRUE(execution->stepEnd({sequence.get()}).isOk());
  EXPECT_EQ(sequence->contents(0, 0)->codedV.rows, 5);
  auto fork = sequence->fork();
  EXPECT_EQ(rowsOf(*fork), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 9}));
}

TEST(Executor, KeysHeldBeforeRoPEAreSeenAtTheirCacheIndex) {
  auto message = toy::makeExecutable();
  message->mutable_stores(0)->mutable_columns(0)->set_rope_view(true);
  auto execution = CompiledExecution::create(message);
  ASSERT_TRUE(execution.isOk()) << execution.status().message();
  auto sequence = makeSequence(**execution, 4);
  feed(**execution, *sequence, 50, 2, false);
  feed(**execution, *sequence, 90, 2, false); // positions need not be dense
  auto contents = sequence->contents(0, 0);
  ASSERT_TRUE(contents.isOk()) << contents.status().message();
  EXPECT_EQ(contents->positions, (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(contents->source, (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(contents->k[2 * toy::headDim], Rows::key(0, 90, 0, 0));
}

TEST(Executor, AttendsToEveryEntryWithoutChangingTheSequence) {
  auto execution = makeExecution();
  auto sequence = makeSequence(*execution, 3);
  feed(*execution, *sequence, 0, 8, false);
  ASSERT_TRUE(execution->promptEnd({sequence.get()}).isOk());
  std::vector<float> q(2 * toy::queryHeads * toy::headDim, 0), out(q.size()),
      lse(2 * toy::queryHeads);
  ASSERT_TRUE(execution->attend(1, *sequence, 2, q.data(), out.data(), lse.data()).isOk());
  EXPECT_EQ(lse, (std::vector<float>{3, 3, 4, 4, 3, 3, 4, 4}));
  EXPECT_EQ(out[(1 * toy::queryHeads + 3) * toy::headDim + 2], sumOfKeys(1, {0, 1, 2, 3}, 1, 2));
  std::vector<float> again(out.size());
  ASSERT_TRUE(execution->attend(1, *sequence, 2, q.data(), again.data(), nullptr).isOk());
  EXPECT_EQ(again, out);
  EXPECT_EQ(sequence->length(), 8);
}

TEST(Executor, BatchesSequencesOfDifferentLengthsAndBudgets) {
  auto execution = makeExecution();
  auto together = std::vector<std::unique_ptr<Sequence>>();
  const int64_t budgets[] = {4, 100, 7}, lengths[] = {70, 20, 5};
  std::vector<Sequence *> batch;
  for (int64_t budget : budgets) {
    together.push_back(makeSequence(*execution, budget));
    batch.push_back(together.back().get());
  }
  for (int64_t layer = 0; layer < toy::layers; ++layer) {
    Rows a(layer, 0, lengths[0]), b(layer, 0, lengths[1]), c(layer, 0, lengths[2]);
    ASSERT_TRUE(execution->prefill(layer, batch, {a.view(), b.view(), c.view()}).isOk());
  }
  ASSERT_TRUE(execution->promptEnd(batch).isOk());
  EXPECT_EQ(batch[0]->report(0).keptRows, (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(batch[1]->report(0).keptRows,
            (std::vector<int64_t>{20, 20})); // the guard left it alone
  EXPECT_EQ(batch[2]->report(0).keptRows, (std::vector<int64_t>{5, 5}));
  Rows a(0, 70, 1), b(0, 20, 1), c(0, 5, 1);
  ASSERT_TRUE(execution->decode(0, batch, {a.view(), b.view(), c.view()}).isOk());
  for (int i = 0; i < 3; ++i) {
    auto alone = makeSequence(*execution, budgets[i]);
    feed(*execution, *alone, 0, lengths[i], false);
    ASSERT_TRUE(execution->promptEnd({alone.get()}).isOk());
    Rows row(0, lengths[i], 1);
    ASSERT_TRUE(execution->decode(0, {alone.get()}, {row.view()}).isOk());
    EXPECT_EQ(row.out, (i == 0 ? a : i == 1 ? b : c).out) << "sequence " << i;
  }
}

/// Everything a run of 300 prompt rows and 40 steps leaves behind.
static std::vector<float> trace(int threadCount) {
  EXPECT_TRUE(setThreads(threadCount).isOk());
  auto execution = makeExecution(true);
  auto sequence = makeSequence(*execution, 90);
  std::vector<float> all = feed(*execution, *sequence, 0, 300, false);
  EXPECT_TRUE(execution->promptEnd({sequence.get()}).isOk());
  for (int64_t step = 0; step < 40; ++step) {
    std::vector<float> out = feed(*execution, *sequence, 300 + step, 1, true);
    all.insert(all.end(), out.begin(), out.end());
    EXPECT_TRUE(execution->stepEnd({sequence.get()}).isOk());
  }
  for (int64_t head = 0; head < toy::kvHeads; ++head) {
    auto contents = sequence->contents(1, head);
    EXPECT_TRUE(contents.isOk());
    for (const std::vector<float> *values : {&contents->k, &contents->v, &contents->scores}) {
      all.insert(all.end(), values->begin(), values->end());
    }
  }
  EXPECT_TRUE(setThreads(0).isOk());
  return all;
}

/// The toy method with a program that adds the last three queries and their positions into a tensor
/// state.
static std::shared_ptr<proto::Executable> methodThatLooksBack(proto::Program::Kind kind) {
  auto message = toy::makeExecutable();
  EXPECT_TRUE(packObject(toy::compileKernels(R"C(
#include <stdint.h>
int32_t look(int64_t task, void *const *args) {
  const float *q = args[0];
  float *state = args[2];
  int64_t rows = *(int64_t *)args[3];
  state[0] += (float)rows;
  for (int64_t r = 0; r < rows; ++r) {
    state[1] += q[r * 16];
    state[2] += (float)((const int32_t *)args[1])[r];
  }
  return state[2] > 4000 ? 77 : state[2] < 3000 ? 78 : 0;
}
)C"),
                         *message->mutable_code(0))
                  .isOk());
  message->clear_programs();
  message->clear_stores();
  message->set_needed_query_rows(3);
  message->add_tensors()->add_dims(3);
  for (proto::Program::Kind feeding : {proto::Program::INGEST, proto::Program::DECODE}) {
    message->add_programs()->set_kind(feeding);
  }
  proto::Program &program = *message->add_programs();
  program.set_kind(kind);
  program.set_slots(1);
  program.add_bindings()->set_role(proto::SlotBinding::WINDOW_ROWS);
  program.add_buffers()->set_role(proto::Buffer::LAST_QUERIES);
  program.add_buffers()->set_role(proto::Buffer::LAST_POSITIONS);
  program.mutable_buffers(1)->set_elem(static_cast<uint32_t>(ElementType::I32));
  program.add_buffers()->set_role(proto::Buffer::TENSOR);
  proto::Step::Kernel &kernel = *program.add_steps()->mutable_kernel();
  kernel.set_symbol("look");
  for (int buffer = 0; buffer < 3; ++buffer) {
    kernel.add_args()->set_buffer(buffer);
  }
  kernel.add_args()->mutable_scalars()->add_slots(0);
  return message;
}

TEST(Executor, LastQueriesReachTheProgramsThatLookBack) {
  for (proto::Program::Kind kind : {proto::Program::PROMPT_END, proto::Program::STEP_END}) {
    auto execution = CompiledExecution::create(methodThatLooksBack(kind));
    ASSERT_TRUE(execution.isOk()) << execution.status().message();
    auto sequence = makeSequence(**execution, 4);
    bool atStep = kind == proto::Program::STEP_END;
    // Chunks of positions 0..999 and 1000..1001: the sum of the last three is 3000, and 3003 after
    // one step more.
    for (int64_t layer = 0; layer < toy::layers; ++layer) {
      Rows first(layer, 0, 1000), second(layer, 1000, 2);
      LayerRows noQueries = second.view();
      noQueries.q = nullptr;
      EXPECT_NE((*execution)
                    ->ingest(layer, {sequence.get()}, {noQueries})
                    .message()
                    .find("no queries given"),
                std::string::npos);
      ASSERT_TRUE((*execution)->ingest(layer, {sequence.get()}, {first.view()}).isOk());
      ASSERT_TRUE((*execution)->ingest(layer, {sequence.get()}, {second.view()}).isOk());
    }
    ASSERT_TRUE((*execution)->promptEnd({sequence.get()}).isOk());
    for (int64_t layer = 0; layer < toy::layers; ++layer) {
      Rows row(layer, 1002, 1);
      ASSERT_TRUE((*execution)->decode(layer, {sequence.get()}, {row.view()}).isOk());
    }
    ASSERT_TRUE((*execution)->stepEnd({sequence.get()}).isOk());
    if (atStep) {
      // The state now holds 3003: one call more passes 4000 and fails with a status of its own.
      EXPECT_EQ((*execution)->stepEnd({sequence.get()}).message(),
                "kernel 'append' returned status 77 in phase step_end, layer 0");
    }
  }
}

TEST(Executor, ThePromptEndsOnce) {
  auto execution = makeExecution();
  auto sequence = makeSequence(*execution, 5);
  feed(*execution, *sequence, 0, 20, false);
  ASSERT_TRUE(execution->promptEnd({sequence.get()}).isOk());
  Rows more(0, 20, 1);
  for (const Status &status : {execution->promptEnd({sequence.get()}), execution->ingest(0, {sequence.get()}, {more.view()}),
                               execution->ingest(0, {sequence->fork().get()}, {more.view()})}) {
    EXPECT_EQ(status.code(), StatusCode::BadInput);
    EXPECT_NE(status.message().find("the prompt of a sequence ends once"), std::string::npos) << status.message();
  }
}

TEST(Executor, ThreadCountChangesNothing) {
  std::vector<float> one = trace(1);
  EXPECT_GT(one.size(), 5000u);
  EXPECT_EQ(trace(4), one);
}

TEST(Executor, AForkGoesItsOwnWay) {
  auto execution = makeExecution();
  auto sequence = makeSequence(*execution, 5);
  feed(*execution, *sequence, 0, 20, false);
  ASSERT_TRUE(execution->promptEnd({sequence.get()}).isOk());
  auto fork = sequence->fork();
  ASSERT_NE(fork, nullptr);
  std::vector<float> first = feed(*execution, *fork, 20, 1, true);
  feed(*execution, *fork, 21, 1, true);
  EXPECT_EQ(sequence->length(), 20);
  EXPECT_EQ(sequence->report(0).keptRows, (std::vector<int64_t>{5, 6}));
  EXPECT_EQ(feed(*execution, *sequence, 20, 1, true), first);
  int64_t before = execution->cacheBytes();
  int64_t held = fork->report(0).bytesMeasured + fork->report(1).bytesMeasured;
  fork.reset();
  EXPECT_EQ(execution->cacheBytes(), before - held);
}

TEST(Executor, NaNScoresNameOpPhaseAndLayer) {
  auto execution = makeExecution();
  auto sequence = makeSequence(*execution, 4);
  for (int64_t layer = 0; layer < toy::layers; ++layer) {
    Rows rows(layer, 0, 12);
    if (layer == 1) {
      rows.k[5 * toy::kvHeads * toy::headDim] = std::nanf("");
    }
    ASSERT_TRUE(execution->prefill(layer, {sequence.get()}, {rows.view()}).isOk());
  }
  Status status = execution->promptEnd({sequence.get()});
  EXPECT_EQ(status.code(), StatusCode::BadInput);
  EXPECT_EQ(status.message(), "NaN in the scores of select.topk in phase select, layer 1");
  Status later = execution->stepEnd({sequence.get()});
  EXPECT_NE(later.message().find("not usable after an error"), std::string::npos)
      << later.message();
}

TEST(Executor, FetchesAnElementIntoASlot) {
  auto message = toy::makeExecutable();
  proto::Program &promptEnd = *message->mutable_programs(3);
  // In place of the ragged cut, every head is cut to the length of head 1, which goes through a
  // slot.
  promptEnd.set_slots(promptEnd.slots() + 1);
  proto::Program changed = promptEnd;
  changed.clear_steps();
  for (int s = 0; s < 3; ++s) { // compare, guard, rank
    *changed.add_steps() = promptEnd.steps(s);
  }
  proto::Step::Fetch &fetch = *changed.add_steps()->mutable_fetch();
  fetch.set_buffer(1);
  fetch.set_index(1);
  fetch.set_slot(promptEnd.slots() - 1);
  proto::Step::Truncate &cut = *changed.add_steps()->mutable_truncate();
  cut.mutable_rows()->set_slot(promptEnd.slots() - 1);
  promptEnd = changed;
  auto execution = CompiledExecution::create(message);
  ASSERT_TRUE(execution.isOk()) << execution.status().message();
  auto sequence = makeSequence(**execution, 4);
  feed(**execution, *sequence, 0, 9, false);
  ASSERT_TRUE((*execution)->promptEnd({sequence.get()}).isOk());
  EXPECT_EQ(sequence->report(0).keptRows, (std::vector<int64_t>{5, 5})); // head 1 keeps budget + 1
}

TEST(Executor, RefusesWhatTheCallerGetsWrong) {
  auto execution = makeExecution();
  EXPECT_NE(execution->createSequence({0, 0}).status().message().find("budget of at least 1"),
            std::string::npos);
  auto sequence = makeSequence(*execution, 4);
  Rows rows(0, 0, 3);
  auto message = [](const Status &status) { return status.message(); };
  EXPECT_NE(message(execution->prefill(2, {sequence.get()}, {rows.view()}))
                .find("expected a layer below 2, got 2"),
            std::string::npos);
  EXPECT_NE(
      message(execution->prefill(0, {sequence.get()}, {})).find("rows for 1 sequences, got 0"),
      std::string::npos);
  EXPECT_NE(message(execution->decode(0, {sequence.get()}, {rows.view()}))
                .find("decode takes 1 row, got 3"),
            std::string::npos);
  EXPECT_NE(
      message(execution->prefill(0, {sequence.get(), sequence.get()}, {rows.view(), rows.view()}))
          .find("twice"),
      std::string::npos);
  LayerRows noKeys = rows.view();
  noKeys.k = nullptr;
  EXPECT_NE(
      message(execution->prefill(0, {sequence.get()}, {noKeys})).find("layer 0: no keys given"),
      std::string::npos);
  LayerRows noOutput = rows.view();
  noOutput.out = nullptr;
  auto other = makeSequence(*execution, 4);
  EXPECT_NE(message(execution->prefill(0, {other.get()}, {noOutput}))
                .find("needs 'out', which was not given"),
            std::string::npos);
  EXPECT_TRUE(execution->ingest(0, {sequence.get()}, {noOutput}).isOk());
  auto stranger = makeExecution();
  EXPECT_NE(
      message(stranger->prefill(0, {sequence.get()}, {rows.view()})).find("another execution"),
      std::string::npos);
  Geometry model = execution->geometry();
  EXPECT_TRUE(checkGeometry(execution->geometry(), model).isOk());
  model.kvHeads = 4;
  EXPECT_EQ(message(checkGeometry(execution->geometry(), model)),
            "the method is compiled for KV heads 2, the model has 4");
}

TEST(Executor, ChecksEveryReferenceOfAProgram) {
  auto refusal = [](const std::function<void(proto::Executable &)> &damage) {
    auto message = toy::makeExecutable();
    damage(*message);
    auto execution = CompiledExecution::create(message);
    return execution.isOk() ? std::string("accepted") : execution.status().message();
  };
  EXPECT_EQ(refusal([](auto &) {}), "accepted");
  EXPECT_EQ(
      refusal([](auto &e) {
        e.mutable_programs(0)->mutable_steps(1)->mutable_kernel()->mutable_args(1)->set_buffer(17);
      }),
      "executable of method 'toy', program 0 (prefill), step 1: expected a buffer below 4, got 17");
  EXPECT_NE(refusal([](auto &e) {
              e.mutable_programs(0)->mutable_steps(1)->mutable_kernel()->set_symbol("gone");
            }).find("no kernel 'gone'"),
            std::string::npos);
  EXPECT_NE(refusal([](auto &e) {
              e.mutable_programs(0)->mutable_steps(0)->mutable_reserve()->set_store(-1);
            }).find("store below 1, got -1"),
            std::string::npos);
  EXPECT_NE(refusal([](auto &e) {
              e.mutable_programs(3)->mutable_steps(1)->mutable_guard()->set_steps(99);
            }).find("steps to skip"),
            std::string::npos);
  EXPECT_NE(refusal([](auto &e) {
              e.mutable_programs(5)->add_steps()->mutable_reserve();
            }).find("only reads changes a store"),
            std::string::npos);
  EXPECT_NE(refusal([](auto &e) {
              e.mutable_stores(0)->mutable_columns(0)->set_storage("f99");
            }).find("column 'k'"),
            std::string::npos);
  EXPECT_NE(
      refusal([](auto &e) { e.mutable_geometry()->set_kv_heads(3); }).find("geometry is not valid"),
      std::string::npos);
  EXPECT_NE(
      refusal([](auto &e) { e.mutable_programs(0)->add_layers(2); }).find("layer below 2, got 2"),
      std::string::npos);
}

TEST(Executor, ReportsKernels) {
  auto execution = makeExecution();
  auto sequence = makeSequence(*execution, 4);
  feed(*execution, *sequence, 0, 10, false);
  std::vector<KernelReport> kernels = execution->kernels();
  ASSERT_EQ(kernels[1].name, "sum");
  EXPECT_EQ(kernels[1].bytesRead, toy::layers * toy::kvHeads * 10 * 16);
  EXPECT_GT(kernels[1].seconds, 0);
  EXPECT_EQ(execution->target(), "cpu");
  EXPECT_EQ(execution->parameters().at("keep"), "2");
}

} // namespace kvcache::rt
