// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The evaluator on the bundled model with a toy method: dense against itself, budgets, proof of
// compression, resumption.

#include "runtime/eval/Evaluator.h"
#include "test/eval/ToyEviction.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace kvcache::rt;
using kvcache::test::ToyEviction;

namespace {

const std::string modelFolder = std::string(KVASIR_SOURCE_DIR) + "/models/kvref-s";

EvalBudget tokensOf(int64_t tokens) {
  return {std::to_string(tokens),
          [tokens](Execution &, const PromptRecording &recording, int64_t) -> StatusOr<int64_t> {
            return std::min(tokens, recording.tokens);
          }};
}

/// Everything of a cell that must not change from run to run.
std::string textOf(const CellReport &cell) {
  std::ostringstream text;
  text.precision(17);
  text << cell.key.method << ' ' << cell.key.budget << ' ' << taskName(cell.key.task) << ' '
       << cell.key.length << ' ' << questionPlaceName(cell.key.question) << ' ' << cell.samples
       << ' ' << cell.accuracy.value_or(-1) << ' ' << cell.kld.mean << ' ' << cell.kld.p99 << ' '
       << cell.top1 << ' ' << cell.bitsPerByte.value_or(-1) << ' ' << cell.bytesMeasured << ' '
       << cell.bitsPerValueK << ' ' << cell.readBytesPerToken;
  for (double error : cell.attentionError) {
    text << ' ' << error;
  }
  return text.str();
}

std::vector<std::string> textsOf(const EvalResult &result) {
  std::vector<std::string> texts;
  for (const CellReport &cell : result.cells) {
    texts.push_back(textOf(cell));
  }
  return texts;
}

class EvaluatorTest : public ::testing::Test {
protected:
  void SetUp() override {
    StatusOr<std::unique_ptr<Decoder>> decoder = Decoder::load(modelFolder);
    ASSERT_TRUE(decoder.isOk()) << decoder.status().message();
    decoder_ = std::move(*decoder);
    material_ = *TaskMaterial::load(modelFolder);
    Geometry geometry = decoder_->geometry(ElementType::F16);
    dense_ = std::make_unique<ToyEviction>(geometry, false);
    toy_ = std::make_unique<ToyEviction>(geometry, true);
    grid_.tasks = {Task::Passkey};
    grid_.lengths = {96};
    grid_.questions = {QuestionPlace::Outside};
    grid_.budgets = {tokensOf(24)};
    grid_.samples = 3;
    grid_.batch = 2;
  }

  StatusOr<EvalResult> evaluateToy(Journal &journal, const EvalHooks &hooks = {}) {
    return evaluate(*decoder_, material_, {"dense", dense_.get()}, {{"toy", toy_.get()}}, grid_,
                    "model", journal, hooks);
  }

  std::unique_ptr<Decoder> decoder_;
  TaskMaterial material_;
  std::unique_ptr<ToyEviction> dense_, toy_;
  EvalGrid grid_;
};

TEST_F(EvaluatorTest, FullBudgetEqualsDenseBitForBit) {
  grid_.budgets = {tokensOf(1000), tokensOf(24)};
  grid_.questions = {QuestionPlace::Outside, QuestionPlace::Inside};
  Journal journal;
  StatusOr<EvalResult> result = evaluateToy(journal);
  ASSERT_TRUE(result.isOk()) << result.status().message();
  ASSERT_EQ(result->cells.size(), 6u);
  for (const CellReport &cell : result->cells) {
    if (cell.key.budget == "24") {
      EXPECT_GT(cell.kld.mean, 0);
      EXPECT_GT(cell.attentionError[1], 0.01);
      EXPECT_LT(cell.bytesMeasured, cell.bytesDense / 3);
    } else {
      EXPECT_EQ(cell.kld.max, 0) << textOf(cell);
      EXPECT_EQ(cell.top1, 1);
      EXPECT_EQ(*cell.accuracy, 1);
      EXPECT_LT(cell.attentionError[1], 1e-6);
      EXPECT_EQ(cell.bytesMeasured, cell.bytesDense);
      EXPECT_DOUBLE_EQ(cell.bitsPerValueK, 16);
    }
  }
}

TEST_F(EvaluatorTest, ReportsWhatWasKept) {
  Journal journal;
  StatusOr<EvalResult> result = evaluateToy(journal);
  ASSERT_TRUE(result.isOk()) << result.status().message();
  const CellReport &cell = result->cells.back();
  EXPECT_EQ(cell.samples, 3);
  ASSERT_EQ(cell.keptTokens.size(), 6u);
  EXPECT_EQ(cell.keptTokens[5], (std::vector<double>{24, 24}));
  EXPECT_DOUBLE_EQ(cell.bitsPerValueV, 16 * 24 / 96.0);
  // The first fed token is stored when it is read: 25 rows, 2 heads, 64 channels, k and v, f16.
  EXPECT_DOUBLE_EQ(cell.readBytesPerToken, 6 * 25 * 2 * 64 * 2 * 2);
  EXPECT_EQ(cell.mismatch, "");
  EXPECT_GT(cell.decodeTokensPerSecond, 0);
}

TEST_F(EvaluatorTest, BytesBeyondTheClaimAreNamed) {
  toy_ = std::make_unique<ToyEviction>(decoder_->geometry(ElementType::F16), true, 129);
  Journal journal;
  StatusOr<EvalResult> result = evaluateToy(journal);
  ASSERT_TRUE(result.isOk()) << result.status().message();
  EXPECT_EQ(result->cells.back().mismatch,
            "layer 0: expected 12288 bytes within one page a head (128), got 12417");
}

TEST_F(EvaluatorTest, TextGivesBitsPerByteAndNoAccuracy) {
  grid_.tasks = {Task::Text};
  grid_.samples = 2;
  Journal journal;
  StatusOr<EvalResult> result = evaluateToy(journal);
  ASSERT_TRUE(result.isOk()) << result.status().message();
  const CellReport &dense = result->cells[0], &toy = result->cells[1];
  EXPECT_EQ(dense.key.question, QuestionPlace::None);
  EXPECT_FALSE(dense.accuracy.has_value());
  EXPECT_EQ(*dense.bitsPerByte, *dense.bitsPerByteDense);
  EXPECT_GT(*dense.bitsPerByte, 0.3);
  EXPECT_LT(*dense.bitsPerByte, 3);
  EXPECT_NEAR(toy.bitsDifference->value, *toy.bitsPerByte - *toy.bitsPerByteDense, 1e-12);
}

TEST_F(EvaluatorTest, EveryTurnIsAskedOfTheSameContext) {
  grid_.tasks = {Task::MultiTurn};
  grid_.lengths = {128};
  grid_.budgets = {tokensOf(1000)};
  grid_.questions = {QuestionPlace::Outside, QuestionPlace::Inside};
  grid_.samples = 2;
  Journal journal;
  StatusOr<EvalResult> result = evaluateToy(journal);
  ASSERT_TRUE(result.isOk()) << result.status().message();
  ASSERT_EQ(result->cells.size(), 2u) << "a question inside leaves nothing for the other turns";
  EXPECT_EQ(result->cells[1].turnAccuracy.size(), static_cast<size_t>(turnsPerSample));
  EXPECT_EQ(result->cells[1].kld.max, 0);
  // Dense at the end: its prompt and the tokens of one question, whatever was asked before.
  EXPECT_DOUBLE_EQ(result->cells[0].readBytesPerToken, 6 * 129 * 2 * 64 * 2 * 2);
}

TEST_F(EvaluatorTest, AnInterruptedRunContinuesToTheSameReport) {
  grid_.questions = {QuestionPlace::Outside, QuestionPlace::Inside};
  Journal memory;
  StatusOr<EvalResult> whole = evaluateToy(memory);
  ASSERT_TRUE(whole.isOk());

  std::string path = ::testing::TempDir() + "/eval-journal-" + std::to_string(::getpid());
  std::filesystem::remove(path);
  std::atomic<bool> cancel{false};
  EvalHooks hooks;
  hooks.cancel = &cancel;
  hooks.progress = [&](const EvalProgress &progress) { cancel = progress.done == 2; };
  {
    Journal journal;
    ASSERT_TRUE(journal.open(path).isOk());
    StatusOr<EvalResult> part = evaluateToy(journal, hooks);
    ASSERT_TRUE(part.isOk()) << part.status().message();
    EXPECT_TRUE(part->interrupted);
    EXPECT_LT(part->cells.size(), whole->cells.size());
  }
  // A line that a crash cut off is not an entry.
  std::ofstream(path, std::ios::app) << "{\"key\": \"v1 mod";
  Journal journal;
  ASSERT_TRUE(journal.open(path).isOk());
  int64_t before = toy_->promptEnds;
  StatusOr<EvalResult> rest = evaluateToy(journal);
  ASSERT_TRUE(rest.isOk()) << rest.status().message();
  EXPECT_FALSE(rest->interrupted);
  EXPECT_EQ(textsOf(*rest), textsOf(*whole));
  EXPECT_EQ(toy_->promptEnds - before, 3) << "one of the four parts was in the journal";

  Journal again;
  ASSERT_TRUE(again.open(path).isOk());
  before = toy_->promptEnds;
  EXPECT_EQ(textsOf(*evaluateToy(again)), textsOf(*whole));
  EXPECT_EQ(toy_->promptEnds, before);
  std::filesystem::remove(path);
}

TEST_F(EvaluatorTest, RecordsTheQueriesThatAMethodLooksBackOn) {
  toy_->queryRows = 8;
  Journal journal;
  StatusOr<EvalResult> result = evaluateToy(journal);
  ASSERT_TRUE(result.isOk()) << result.status().message();
  EXPECT_EQ(result->cells.size(), 2u);
}

TEST_F(EvaluatorTest, AMethodThatNeedsABudgetSaysSo) {
  grid_.budgets.clear();
  Journal journal;
  EXPECT_EQ(evaluateToy(journal).status().message(),
            "method 'toy' needs a token budget: expected budgets, got none");
}

TEST(Journal, RefusesAFileOfAnotherKind) {
  std::string path = ::testing::TempDir() + "/no-journal-" + std::to_string(::getpid());
  std::ofstream(path) << "a table\n";
  Journal journal;
  Status status = journal.open(path);
  EXPECT_EQ(status.code(), StatusCode::BadInput);
  EXPECT_NE(status.message().find(path + ":1: "), std::string::npos);
  std::filesystem::remove(path);
}

TEST(Journal, KeepsEveryBitOfANumber) {
  std::string path = ::testing::TempDir() + "/journal-bits-" + std::to_string(::getpid());
  std::filesystem::remove(path);
  SampleOutcome outcome;
  outcome.klds = {0.1, 1.0 / 3, 5e-324, std::nan("")};
  {
    Journal journal;
    ASSERT_TRUE(journal.open(path).isOk());
    ASSERT_TRUE(journal.add("k", {outcome}).isOk());
  }
  Journal journal;
  ASSERT_TRUE(journal.open(path).isOk());
  const std::vector<SampleOutcome> *found = journal.find("k");
  ASSERT_TRUE(found && found->size() == 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(found->front().klds[i], outcome.klds[i]);
  }
  EXPECT_TRUE(std::isnan(found->front().klds[3]));
  EXPECT_EQ(journal.find("j"), nullptr);
  std::filesystem::remove(path);
}

} // namespace
