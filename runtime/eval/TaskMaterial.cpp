// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads held-out texts and words, and draws filler from them.

#include "runtime/eval/TaskMaterial.h"

#include "runtime/io/AtomicFile.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

namespace kvcache::rt {

static StatusOr<std::string> readAscii(const std::string &path) {
  StatusOr<std::string> text = readWholeFile(path);
  if (!text.isOk()) {
    return text.status();
  }
  auto bad = std::find_if(text->begin(), text->end(),
                          [](char c) { return static_cast<unsigned char>(c) >= 128; });
  if (bad != text->end()) {
    return Status::badInput(path + ": expected ASCII text, got another byte at offset " +
                            std::to_string(bad - text->begin()));
  }
  if (text->empty()) {
    return Status::badInput(path + ": expected text, got an empty file");
  }
  return text;
}

static StatusOr<std::vector<std::string>> textNames(const std::string &directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (name.rfind("heldout-", 0) == 0 && entry->path().extension() == ".txt") {
      names.push_back(name);
    }
  }
  if (error) {
    return Status::badInput(directory + ": " + error.message());
  }
  if (names.empty()) {
    return Status::badInput(directory +
                            ": expected held-out text for the tasks in heldout-*.txt, got none");
  }
  std::sort(names.begin(), names.end());
  return names;
}

void splitForCalibration(const std::vector<std::string> &texts, TaskMaterial &material) {
  for (const std::string &text : texts) {
    material.calibration.push_back(text.substr(0, text.size() / 3));
    material.evaluation.push_back(text.substr(text.size() / 3));
  }
}

StatusOr<TaskMaterial> TaskMaterial::load(const std::string &directory) {
  TaskMaterial material;
  StatusOr<std::vector<std::string>> names = textNames(directory);
  if (!names.isOk()) {
    return names.status();
  }
  material.names = *names;
  std::vector<std::string> texts;
  for (const std::string &name : *names) {
    StatusOr<std::string> text = readAscii(directory + "/" + name);
    if (!text.isOk()) {
      return text.status();
    }
    texts.push_back(std::move(*text));
  }
  splitForCalibration(texts, material);

  StatusOr<std::string> words = readAscii(directory + "/words.txt");
  if (!words.isOk()) {
    return words.status();
  }
  std::istringstream lines(*words);
  for (std::string word; lines >> word;) {
    material.words.push_back(word);
  }
  std::sort(material.words.begin(), material.words.end());
  material.words.erase(std::unique(material.words.begin(), material.words.end()),
                       material.words.end());
  if (material.words.empty()) {
    return Status::badInput(directory + "/words.txt: expected words, got none");
  }
  return material;
}

StatusOr<std::string> drawText(const std::vector<std::string> &texts, Random &random,
                               int64_t bytes) {
  int64_t places = 0;
  for (const std::string &text : texts) {
    places += std::max<int64_t>(0, static_cast<int64_t>(text.size()) - bytes + 1);
  }
  if (places == 0) {
    return Status::badInput("expected a held-out text of at least " + std::to_string(bytes) +
                            " bytes for this length, got only shorter ones");
  }
  int64_t place = random.between(0, places - 1);
  for (const std::string &text : texts) {
    int64_t here = std::max<int64_t>(0, static_cast<int64_t>(text.size()) - bytes + 1);
    if (place < here) {
      return text.substr(place, bytes);
    }
    place -= here;
  }
  return Status::internal("a place in the texts is out of range");
}

StatusOr<std::string> TaskMaterial::filler(Random &random, int64_t bytes) const {
  return drawText(evaluation, random, bytes);
}

} // namespace kvcache::rt
