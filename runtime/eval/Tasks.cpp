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

/// Draws from one sample's stream and keeps the first failure.
class Maker {
public:
  Maker(const TaskMaterial &material, int64_t bytes, Random random)
      : material_(material), bytes_(bytes), random_(random) {}

  StatusOr<Draft> make(Task task);

private:
  Draft passkey();
  Draft assignments(bool aliases);
  Draft keyValues(int64_t questions);
  Draft copy();
  Draft text();

  /// Bytes left for filler next to `taken` other bytes; a failure when there are none.
  int64_t room(int64_t taken);
  std::string filler(int64_t bytes);
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
  std::string line = "\nThe pass key is " + key + ". Remember it.\n";
  std::vector<int64_t> parts = partition(room(line.size()), 2);
  return {filler(parts[0]) + line + filler(parts[1]),
          {{"\nWhat is the pass key? The pass key is ", key}}};
}

/// Lines `Xd = digits` with `F\n` between them; with `aliases`, about half of the lines after the
/// first are `Xd = Ye` of a variable above, and `F\n` is before and after all lines.
Draft Maker::assignments(bool aliases) {
  int64_t count = aliases ? 5 : 4;
  std::vector<std::string> names, values, lines;
  int64_t taken = 0;
  while (static_cast<int64_t>(names.size()) < count) {
    std::string name = {static_cast<char>('A' + random_.between(0, 25)),
                        static_cast<char>('0' + random_.between(0, 9))};
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      continue;
    }
    bool alias = aliases && !names.empty() && random_.between(0, 1) == 1;
    size_t source = alias ? random_.between(0, static_cast<int64_t>(names.size()) - 1) : 0;
    values.push_back(alias ? values[source] : std::to_string(random_.between(100, 9998)));
    lines.push_back(name + " = " + (alias ? names[source] : values.back()) + "\n");
    names.push_back(name);
    taken += lines.back().size();
  }
  // A filler of n bytes takes n + 1 with its newline; one of no bytes is left out. Aliases stay
  // close together, or the model would be tested on chains that it never saw.
  std::vector<int64_t> parts = partition(room(taken), aliases ? 2 : count + 1);
  Draft draft;
  for (int64_t i = 0; i <= count; ++i) {
    bool hasFiller = !aliases || i == 0 || i == count;
    int64_t part = hasFiller ? parts[std::min<int64_t>(i, parts.size() - 1)] : 0;
    draft.context += part > 0 ? filler(part - 1) + "\n" : "";
    draft.context += i < count ? lines[i] : "";
  }
  int64_t asked = random_.between(0, count - 1);
  draft.questions = {{"print " + names[asked] + " -> ", values[asked]}};
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
  draft.context = (parts[0] > 0 ? filler(parts[0] - 1) + "\n" : "") + lines + filler(parts[1]);
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

/// A line of words three times, `F\n` between them; the question begins the fourth.
Draft Maker::copy() {
  constexpr int64_t wordsPerLine = 8, repeats = 3;
  std::vector<std::string> words = distinctWords(wordsPerLine);
  std::string line;
  for (const std::string &next : words) {
    line += (line.empty() ? "" : " ") + next;
  }
  line += "\n";
  std::vector<int64_t> parts = partition(room(repeats * line.size()), repeats);
  Draft draft;
  for (int64_t i = 0; i < repeats; ++i) {
    draft.context += line + (parts[i] > 0 ? filler(parts[i] - 1) + "\n" : "");
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
    draft = assignments(/*aliases=*/false);
    break;
  case Task::KeyValue:
    draft = keyValues(1);
    break;
  case Task::Variables:
    draft = assignments(/*aliases=*/true);
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

Sample questionInside(Sample sample) {
  std::vector<int32_t> &question = sample.questions.front().question;
  sample.context.insert(sample.context.end(), question.begin(), question.end() - 1);
  question.erase(question.begin(), question.end() - 1);
  return sample;
}

} // namespace kvcache::rt
