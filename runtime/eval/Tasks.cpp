// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes the tasks. Each maker draws what is to be remembered first, then as much filler as brings
// the context to its length.

#include "runtime/eval/Tasks.h"

#include "runtime/model/Tokens.h"

#include <algorithm>
#include <array>

namespace kvcache::rt {

namespace {

struct Named {
  Task task;
  const char *name;
};

constexpr std::array<Named, 7> taskNames = {{{Task::Passkey, "passkey"},
                                             {Task::Needles, "needles"},
                                             {Task::KeyValue, "kv"},
                                             {Task::Variables, "var"},
                                             {Task::Copy, "copy"},
                                             {Task::MultiTurn, "multi-turn"},
                                             {Task::Text, "text"}}};

/// Context, question and answer as text; the context without its first token.
struct Draft {
  std::string context;
  std::vector<std::pair<std::string, std::string>> questions;
};

/// Variables and their values; lines as they are assigned.
struct Assignments {
  std::vector<std::string> names, values, lines;
  int64_t bytes = 0; ///< of all lines
};

std::pair<std::string, std::string> question(const Assignments &made, int64_t index) {
  return {"print " + made.names[index] + " -> ", made.values[index]};
}

/// Draws from one sample's stream and keeps the first failure.
class Maker {
public:
  Maker(const TaskMaterial &material, int64_t bytes, Random random)
      : material_(material), bytes_(bytes), random_(random) {}

  StatusOr<Draft> make(Task task);

private:
  Draft passkey();
  Draft needles();
  Draft variables();
  Draft keyValues(int64_t questions);
  Draft copy();
  Draft text();

  /// Bytes left for filler next to `taken` other bytes; a failure when there are none.
  int64_t room(int64_t taken);
  Assignments assign(int64_t count, bool aliases);
  std::string filler(int64_t bytes);
  /// Filler that takes `bytes` with the newline that ends it; nothing for 0.
  std::string fillerLine(int64_t bytes) { return bytes > 0 ? filler(bytes - 1) + "\n" : ""; }
  std::string word();
  std::vector<std::string> distinctWords(int64_t count);
  /// Positive parts of `total`, `count` of them, drawn alike.
  std::vector<int64_t> partition(int64_t total, int64_t count);

  const TaskMaterial &material_;
  int64_t bytes_;
  Random random_;
  Status status_;
};

int64_t Maker::room(int64_t taken) {
  if (taken > bytes_ && status_.isOk()) {
    status_ = Status::badInput("expected a length of at least " + std::to_string(taken + 1) +
                               " tokens, got " + std::to_string(bytes_ + 1));
  }
  return std::max<int64_t>(0, bytes_ - taken);
}

std::string Maker::filler(int64_t bytes) {
  StatusOr<std::string> text = material_.filler(random_, bytes);
  if (!text.isOk()) {
    status_ = status_.isOk() ? text.status() : status_;
    return std::string(bytes, ' ');
  }
  return *text;
}

std::string Maker::word() {
  return material_.words[random_.between(0, static_cast<int64_t>(material_.words.size()) - 1)];
}

std::vector<std::string> Maker::distinctWords(int64_t count) {
  std::vector<std::string> words;
  count = std::min<int64_t>(count, material_.words.size());
  while (static_cast<int64_t>(words.size()) < count) {
    std::string candidate = word();
    if (std::find(words.begin(), words.end(), candidate) == words.end()) {
      words.push_back(candidate);
    }
  }
  return words;
}

std::vector<int64_t> Maker::partition(int64_t total, int64_t count) {
  std::vector<int64_t> cuts = {0, total};
  for (int64_t i = 1; i < count; ++i) {
    cuts.push_back(random_.between(0, total));
  }
  std::sort(cuts.begin(), cuts.end());
  std::vector<int64_t> parts;
  for (int64_t i = 0; i < count; ++i) {
    parts.push_back(cuts[i + 1] - cuts[i]);
  }
  return parts;
}

/// F, then the key in a line of its own, then F.
Draft Maker::passkey() {
  std::string key = std::to_string(random_.between(10000, 99999));
  std::string line = "\n" + passkeyLine(key) + "\n";
  std::vector<int64_t> parts = partition(room(line.size()), 2);
  return {filler(parts[0]) + line + filler(parts[1]), {{passkeyQuestion, key}}};
}

/// Names like `K3` with their values; `aliases`: about half of those after the first are the name
/// of another.
Assignments Maker::assign(int64_t count, bool aliases) {
  Assignments made;
  while (static_cast<int64_t>(made.names.size()) < count) {
    std::string name = {static_cast<char>('A' + random_.between(0, 25)),
                        static_cast<char>('0' + random_.between(0, 9))};
    if (std::find(made.names.begin(), made.names.end(), name) != made.names.end()) {
      continue;
    }
    bool alias = aliases && !made.names.empty() && random_.between(0, 1) == 1;
    size_t source = alias ? random_.between(0, static_cast<int64_t>(made.names.size()) - 1) : 0;
    std::string value = alias ? made.values[source] : std::to_string(random_.between(100, 9998));
    made.lines.push_back(name + " = " + (alias ? made.names[source] : value) + "\n");
    made.names.push_back(name);
    made.values.push_back(value);
    made.bytes += made.lines.back().size();
  }
  return made;
}

/// Three lines `Xd = digits` with `F\n` around each.
Draft Maker::needles() {
  Assignments made = assign(3, /*aliases=*/false);
  std::vector<int64_t> parts = partition(room(made.bytes), made.lines.size() + 1);
  Draft draft;
  for (size_t i = 0; i <= made.lines.size(); ++i) {
    draft.context += fillerLine(parts[i]) + (i < made.lines.size() ? made.lines[i] : "");
  }
  draft.questions = {question(made, random_.between(0, 2))};
  return draft;
}

/// `F\n`, four lines of which some are `Xd = Ye`, then short `F\n` and the printed values of other
/// variables than the one that is asked for, in random order.
Draft Maker::variables() {
  Assignments made = assign(4, /*aliases=*/true);
  int64_t asked = random_.between(0, 3);
  int64_t left = room(made.bytes), before = random_.between(0, left);
  left -= before;
  Draft draft;
  draft.context = fillerLine(before);
  for (const std::string &line : made.lines) {
    draft.context += line;
  }
  while (left > 0) {
    int64_t other = (asked + random_.between(1, 3)) % 4;
    std::string print = "print " + made.names[other] + " -> " + made.values[other] + "\n";
    bool prints = random_.between(0, 1) == 1 && static_cast<int64_t>(print.size()) <= left;
    std::string event = prints ? print : fillerLine(std::min(left, random_.between(10, 40)));
    draft.context += event;
    left -= event.size();
  }
  draft.questions = {question(made, asked)};
  return draft;
}

/// `F\n`, lines `word: digits`, F.
Draft Maker::keyValues(int64_t questions) {
  // A line takes 15 bytes on average: the lines fill about half of the context.
  int64_t count = std::max<int64_t>(questions, bytes_ / 32);
  std::vector<std::string> words = distinctWords(count), values;
  std::string lines;
  for (const std::string &name : words) {
    values.push_back(std::to_string(random_.between(1000, 98998)));
    lines += name + ": " + values.back() + "\n";
  }
  std::vector<int64_t> parts = partition(room(lines.size()), 2);
  Draft draft;
  draft.context = fillerLine(parts[0]) + lines + filler(parts[1]);
  std::vector<int64_t> asked;
  while (asked.size() < static_cast<size_t>(questions)) {
    int64_t index = random_.between(0, static_cast<int64_t>(words.size()) - 1);
    if (std::find(asked.begin(), asked.end(), index) == asked.end()) {
      asked.push_back(index);
      draft.questions.push_back({"\n? " + words[index] + ": ", values[index]});
    }
  }
  return draft;
}

/// A line of words at least three times, `F\n` between them; the question begins the next.
Draft Maker::copy() {
  constexpr int64_t wordsPerLine = 8;
  // Filler between repeats stays as short as in training: about 100 bytes, the line takes about 50.
  int64_t repeats = std::max<int64_t>(3, bytes_ / 150);
  std::vector<std::string> words = distinctWords(wordsPerLine);
  std::string line;
  for (const std::string &next : words) {
    line += (line.empty() ? "" : " ") + next;
  }
  line += "\n";
  std::vector<int64_t> parts = partition(room(repeats * line.size()), repeats);
  Draft draft;
  for (int64_t i = 0; i < repeats; ++i) {
    draft.context += line + fillerLine(parts[i]);
  }
  draft.questions = {{words[0] + " " + words[1] + " ", words[2] + " " + words[3]}};
  return draft;
}

Draft Maker::text() {
  std::string window = filler(bytes_ + 1 + textAnswerBytes);
  return {window.substr(0, bytes_), {{window.substr(bytes_, 1), window.substr(bytes_ + 1)}}};
}

StatusOr<Draft> Maker::make(Task task) {
  Draft draft;
  switch (task) {
  case Task::Passkey:
    draft = passkey();
    break;
  case Task::Needles:
    draft = needles();
    break;
  case Task::KeyValue:
    draft = keyValues(1);
    break;
  case Task::Variables:
    draft = variables();
    break;
  case Task::Copy:
    draft = copy();
    break;
  case Task::MultiTurn:
    draft = keyValues(turnsPerSample);
    break;
  case Task::Text:
    draft = text();
    break;
  }
  if (!status_.isOk()) {
    return status_;
  }
  return draft;
}

std::vector<int32_t> idsOf(const std::string &text) {
  return std::vector<int32_t>(text.begin(), text.end());
}

} // namespace

const std::vector<Task> &allTasks() {
  static const std::vector<Task> tasks = {Task::Passkey,   Task::Needles, Task::KeyValue,
                                          Task::Variables, Task::Copy,    Task::MultiTurn,
                                          Task::Text};
  return tasks;
}

const char *taskName(Task task) {
  for (const Named &named : taskNames) {
    if (named.task == task) {
      return named.name;
    }
  }
  return "";
}

StatusOr<Task> taskNamed(const std::string &name) {
  std::string known;
  for (const Named &named : taskNames) {
    if (name == named.name) {
      return named.task;
    }
    known += (known.empty() ? "" : ", ") + std::string(named.name);
  }
  return Status::badInput("unknown task '" + name + "': expected one of " + known);
}

StatusOr<Sample> makeSample(const TaskMaterial &material, Task task, int64_t length, uint64_t seed,
                            int64_t index) {
  if (length < 2) {
    return Status::badInput("expected a length of at least 2 tokens, got " +
                            std::to_string(length));
  }
  Random random{seed, static_cast<uint64_t>(task), static_cast<uint64_t>(length),
                static_cast<uint64_t>(index)};
  StatusOr<Draft> draft = Maker(material, length - 1, random).make(task);
  if (!draft.isOk()) {
    return Status(draft.status().code(), std::string("task ") + taskName(task) + ", length " +
                                             std::to_string(length) + ": " +
                                             draft.status().message());
  }
  Sample sample;
  sample.context = {byteLevelBegin};
  std::vector<int32_t> context = idsOf(draft->context);
  sample.context.insert(sample.context.end(), context.begin(), context.end());
  for (const auto &[question, answer] : draft->questions) {
    sample.questions.push_back({idsOf(question), idsOf(answer)});
  }
  return sample;
}

std::string passkeyLine(const std::string &key) {
  return "The pass key is " + key + ". Remember it.";
}

Sample questionInside(Sample sample) {
  std::vector<int32_t> &question = sample.questions.front().question;
  sample.context.insert(sample.context.end(), question.begin(), question.end() - 1);
  sample.questionTokens = static_cast<int64_t>(question.size()) - 1;
  question.erase(question.begin(), question.end() - 1);
  return sample;
}

/// The rows behind the first token and each line or sentence of the first `rows` tokens.
static std::vector<int32_t> partsOf(const std::vector<int32_t> &tokens, int32_t rows) {
  std::vector<int32_t> ends;
  for (int32_t row = 1; row <= rows; ++row) {
    int32_t token = tokens[static_cast<size_t>(row) - 1];
    bool sentence = row > 1 && token == ' ' && tokens[static_cast<size_t>(row) - 2] == '.';
    if (row == 1 || token == '\n' || sentence || row == rows) {
      ends.push_back(row);
    }
  }
  return ends;
}

RequestTables requestsOf(const Sample &sample) {
  auto question = static_cast<int32_t>(sample.questionTokens),
       context = static_cast<int32_t>(sample.context.size()) - question;
  std::vector<int32_t> segments, shots = partsOf(sample.context, context),
                                 keep(sample.context.size(), 0);
  if (context > 0) {
    segments.push_back(context);
  }
  if (question > 0) {
    segments.push_back(context + question);
    shots.push_back(context + question);
  }
  std::fill(keep.end() - question, keep.end(), 1);
  return {{"question", {question}},
          {"segments", segments},
          {"shots", shots},
          {"keep", keep},
          {"special", byteLevelSpecialIds()},
          {"punctuation", byteLevelPunctuationIds()}};
}

} // namespace kvcache::rt
