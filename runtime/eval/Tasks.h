// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tasks a byte-level model is evaluated on, in the forms it was trained on (README of the
// bundled model). A sample is a context and one or more questions with their answers; a seed, a
// task, a length and an index fix every byte of it.

#pragma once

#include "runtime/Execution.h"
#include "runtime/Status.h"
#include "runtime/eval/TaskMaterial.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kvcache::rt {

enum class Task {
  Passkey,   ///< one key in filler
  Needles,   ///< several assignments scattered over filler; one is asked for
  KeyValue,  ///< lines `word: digits`; one is asked for
  Variables, ///< assignments, some of them of another variable
  Copy,      ///< a line of words, repeated
  MultiTurn, ///< key-value lines, several questions on one context
  Text,      ///< held-out text
};

/// All tasks, in the order of reports.
const std::vector<Task> &allTasks();
/// passkey, needles, kv, var, copy, multi-turn or text.
const char *taskName(Task task);
/// Bad input that lists the names when `name` is none of them.
StatusOr<Task> taskNamed(const std::string &name);

/// Token ids. The first answer id follows the last question id; neither is empty.
struct Question {
  std::vector<int32_t> question, answer;
};

struct Sample {
  std::vector<int32_t> context; ///< begins with the token that begins every sequence
  std::vector<Question> questions;
  int64_t questionTokens = 0; ///< how many tokens at the end of the context ask the question
};

/// Makes sample `index` of a cell; its context has `length` tokens, whatever the task. Questions
/// of MultiTurn are independent of each other: each is asked of the same context. Text has one
/// question of one byte, and the next 128 bytes as its answer. Bad input when the task does not
/// fit in `length` tokens, saying how many it takes.
StatusOr<Sample> makeSample(const TaskMaterial &material, Task task, int64_t length, uint64_t seed,
                            int64_t index);

/// What a passkey sample asks, and the line of its context that states the key.
constexpr const char *passkeyQuestion = "\nWhat is the pass key? The pass key is ";
std::string passkeyLine(const std::string &key);
/// Tokens of a key.
constexpr int64_t needleAnswerTokens = 5;

/// The same sample with its only question, except the last token, moved into the context.
Sample questionInside(Sample sample);

/// The tables that come with a sample's context: `question`, how many of its last tokens ask the question; `segments`,
/// for the context and that question the row behind its last; `shots`, likewise for the first token, each line or
/// sentence of the context and that question; `keep`, 1 for each token of the question; `special` and `punctuation`, ids of tokens.
RequestTables requestsOf(const Sample &sample);

/// Bytes that a text sample is teacher-forced over.
constexpr int64_t textAnswerBytes = 128;
/// Questions of a MultiTurn sample.
constexpr int64_t turnsPerSample = 4;

} // namespace kvcache::rt
