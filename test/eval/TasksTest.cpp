// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The forms of the tasks, byte for byte as the bundled model's README states them.

#include "runtime/eval/Tasks.h"
#include "runtime/model/Tokens.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <regex>

using namespace kvcache::rt;

namespace {

const std::string modelFolder = std::string(KVASIR_SOURCE_DIR) + "/models/kvref-s";

const TaskMaterial &bundled() {
  static const TaskMaterial material = *TaskMaterial::load(modelFolder);
  return material;
}

Sample sampleOf(Task task, int64_t length, uint64_t seed = 1, int64_t index = 0) {
  StatusOr<Sample> sample = makeSample(bundled(), task, length, seed, index);
  EXPECT_TRUE(sample.isOk()) << sample.status().message();
  return sample.isOk() ? *sample : Sample{{256}, {{{0}, {0}}}};
}

std::string contextOf(const Sample &sample) { return textOfTokens(sample.context); }
std::string questionOf(const Sample &sample, size_t i = 0) {
  return textOfTokens(sample.questions.at(i).question);
}
std::string answerOf(const Sample &sample, size_t i = 0) {
  return textOfTokens(sample.questions.at(i).answer);
}

TEST(Tasks, EveryContextHasItsLengthAndBeginsWithTheFirstToken) {
  for (Task task : allTasks()) {
    for (int64_t length : {256, 511, 1024}) {
      Sample sample = sampleOf(task, length, 7, length);
      EXPECT_EQ(static_cast<int64_t>(sample.context.size()), length) << taskName(task);
      EXPECT_EQ(sample.context.front(), byteLevelBegin);
      EXPECT_EQ(std::count(sample.context.begin(), sample.context.end(), byteLevelBegin), 1);
    }
  }
}

TEST(Tasks, PasskeyIsByteExact) {
  Sample sample = sampleOf(Task::Passkey, 300);
  std::string answer = answerOf(sample);
  EXPECT_TRUE(std::regex_match(answer, std::regex("[1-9][0-9]{4}")));
  EXPECT_NE(contextOf(sample).find("\nThe pass key is " + answer + ". Remember it.\n"),
            std::string::npos);
  EXPECT_EQ(questionOf(sample), "\nWhat is the pass key? The pass key is ");
}

TEST(Tasks, KeyValueLinesHoldTheAnswer) {
  for (int64_t index = 0; index < 20; ++index) {
    Sample sample = sampleOf(Task::KeyValue, 512, 3, index);
    std::smatch match;
    std::string question = questionOf(sample), context = "\n" + contextOf(sample);
    ASSERT_TRUE(std::regex_match(question, match, std::regex("\n\\? ([a-z]+): ")));
    EXPECT_TRUE(std::regex_match(answerOf(sample), std::regex("[1-9][0-9]{3,4}")));
    EXPECT_NE(context.find("\n" + match[1].str() + ": " + answerOf(sample) + "\n"),
              std::string::npos);
  }
}

TEST(Tasks, MultiTurnAsksDistinctKeys) {
  Sample sample = sampleOf(Task::MultiTurn, 512);
  ASSERT_EQ(static_cast<int64_t>(sample.questions.size()), turnsPerSample);
  for (size_t i = 0; i < sample.questions.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      EXPECT_NE(questionOf(sample, i), questionOf(sample, j));
    }
  }
}

TEST(Tasks, VariablesResolveThroughAliases) {
  int64_t aliases = 0;
  for (int64_t index = 0; index < 40; ++index) {
    Sample sample = sampleOf(Task::Variables, 400, 5, index);
    std::map<std::string, std::string> values;
    std::string context = contextOf(sample);
    std::regex line("(^|\n)([A-Z][0-9]) = ([A-Z][0-9]|[0-9]{3,4})(?=\n)");
    for (std::sregex_iterator at(context.begin(), context.end(), line), end; at != end; ++at) {
      std::string value = (*at)[3];
      aliases += std::isupper(value[0]) ? 1 : 0;
      values[(*at)[2]] = std::isupper(value[0]) ? values[value] : value;
    }
    std::smatch match;
    std::string question = questionOf(sample);
    ASSERT_TRUE(std::regex_match(question, match, std::regex("print ([A-Z][0-9]) -> ")));
    EXPECT_EQ(values[match[1]], answerOf(sample)) << context;
    EXPECT_EQ(context.find(question), std::string::npos) << "the answer is not printed before";
  }
  EXPECT_GT(aliases, 20);
}

TEST(Tasks, NeedlesAreLiteralAssignments) {
  Sample sample = sampleOf(Task::Needles, 600);
  std::smatch match;
  std::string question = questionOf(sample);
  ASSERT_TRUE(std::regex_match(question, match, std::regex("print ([A-Z][0-9]) -> ")));
  EXPECT_NE(
      ("\n" + contextOf(sample)).find("\n" + match[1].str() + " = " + answerOf(sample) + "\n"),
      std::string::npos);
}

TEST(Tasks, CopyRepeatsItsLineBeforeItCounts) {
  Sample sample = sampleOf(Task::Copy, 512);
  std::string context = contextOf(sample), line = context.substr(0, context.find('\n') + 1);
  size_t repeats = 0;
  for (size_t at = 0; (at = context.find(line, at)) != std::string::npos; at += line.size()) {
    ++repeats;
  }
  EXPECT_EQ(repeats, 3u) << "one for every 150 bytes, three at least";
  EXPECT_EQ(context.back(), '\n');
  EXPECT_EQ(line.find(questionOf(sample) + answerOf(sample) + " "), 0u);
}

TEST(Tasks, TextContinuesInItsSource) {
  Sample sample = sampleOf(Task::Text, 256);
  EXPECT_EQ(questionOf(sample).size(), 1u);
  EXPECT_EQ(static_cast<int64_t>(answerOf(sample).size()), textAnswerBytes);
  std::string window = contextOf(sample) + questionOf(sample) + answerOf(sample);
  bool inEvaluation = false;
  for (const std::string &text : bundled().evaluation) {
    inEvaluation |= text.find(window) != std::string::npos;
  }
  EXPECT_TRUE(inEvaluation);
}

TEST(Tasks, ASampleDependsOnItsKeyAlone) {
  EXPECT_EQ(sampleOf(Task::KeyValue, 512, 9, 3).context,
            sampleOf(Task::KeyValue, 512, 9, 3).context);
  EXPECT_NE(sampleOf(Task::KeyValue, 512, 9, 3).context,
            sampleOf(Task::KeyValue, 512, 9, 4).context);
  EXPECT_NE(sampleOf(Task::KeyValue, 512, 8, 3).context,
            sampleOf(Task::KeyValue, 512, 9, 3).context);
}

TEST(Tasks, AQuestionInsideLeavesOneByteOutside) {
  Sample outside = sampleOf(Task::Passkey, 300), inside = questionInside(outside);
  EXPECT_EQ(contextOf(inside), contextOf(outside) + "\nWhat is the pass key? The pass key is");
  EXPECT_EQ(questionOf(inside), " ");
  EXPECT_EQ(answerOf(inside), answerOf(outside));
}

TEST(Tasks, ALengthThatIsTooShortSaysWhatItTakes) {
  StatusOr<Sample> sample = makeSample(bundled(), Task::Passkey, 20, 1, 0);
  ASSERT_FALSE(sample.isOk());
  EXPECT_EQ(sample.status().code(), StatusCode::BadInput);
  EXPECT_EQ(sample.status().message(),
            "task passkey, length 20: expected a length of at least 38 tokens, got 20");
}

TEST(Tasks, AnUnknownNameListsTheKnownOnes) {
  EXPECT_EQ(taskNamed("passkeys").status().message(),
            "unknown task 'passkeys': expected one of passkey, needles, kv, var, copy, "
            "multi-turn, text");
}

TEST(Tasks, CalibrationAndEvaluationTextDoNotOverlap) {
  TaskMaterial material;
  splitForCalibration({"aabbcc", "xyz1"}, material);
  EXPECT_EQ(material.calibration, (std::vector<std::string>{"aa", "x"}));
  EXPECT_EQ(material.evaluation, (std::vector<std::string>{"bbcc", "yz1"}));
  Random random{1};
  for (int i = 0; i < 50; ++i) {
    std::string drawn = *material.filler(random, 2);
    EXPECT_TRUE(drawn == "bb" || drawn == "bc" || drawn == "cc" || drawn == "yz" || drawn == "z1");
  }
  EXPECT_FALSE(material.filler(random, 5).isOk());
}

} // namespace
