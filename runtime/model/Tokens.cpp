// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Token ids from text and files. Invariant: an id that leaves this file is in
// [0, vocabSize).

#include "runtime/model/Tokens.h"

#include "runtime/io/AtomicFile.h"
#include "runtime/io/Safetensors.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>

namespace kvcache::rt {

using Json = nlohmann::json;
using Sequences = std::vector<std::vector<int32_t>>;

bool isByteLevel(const ModelConfig &config) {
  bool ends = std::find(config.eosTokens.begin(), config.eosTokens.end(), byteLevelEnd) !=
              config.eosTokens.end();
  return config.bosToken == byteLevelBegin && ends && config.vocabSize > byteLevelEnd &&
         config.vocabSize <= 384;
}

std::vector<int32_t> byteLevelSpecialIds() { return {byteLevelBegin, byteLevelEnd}; }

std::vector<int32_t> byteLevelPunctuationIds() {
  std::vector<int32_t> ids;
  for (char byte : std::string("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")) {
    ids.push_back(byte);
  }
  return ids;
}

StatusOr<std::vector<int32_t>> tokensOfText(const ModelConfig &config, const std::string &directory,
                                            const std::string &text) {
  if (!isByteLevel(config)) {
    return Status::badInput("model '" + directory + "' is not byte-level (vocabulary " +
                            std::to_string(config.vocabSize) +
                            "), so it cannot be given text; make ids with: python3 -c \"import "
                            "json, sys, transformers; "
                            "print(json.dumps(transformers.AutoTokenizer.from_pretrained('" +
                            directory +
                            "')(open(sys.argv[1]).read())['input_ids']))\" PROMPT.txt > ids.json, "
                            "and pass --tokens ids.json");
  }
  std::vector<int32_t> tokens = {byteLevelBegin};
  for (unsigned char byte : text) {
    tokens.push_back(byte);
  }
  return tokens;
}

std::string textOfTokens(const std::vector<int32_t> &tokens) {
  std::string text;
  for (int32_t token : tokens) {
    if (token >= 0 && token < 256) {
      text.push_back(static_cast<char>(token));
    }
  }
  return text;
}

static Status badToken(const std::string &path, size_t sequence, size_t index, int64_t vocabSize,
                       const std::string &found) {
  return Status::badInput("'" + path + "': token " + std::to_string(index) + " of sequence " +
                          std::to_string(sequence) + ": expected an id in 0.." +
                          std::to_string(vocabSize - 1) + ", found " + found);
}

static Status appendJsonSequence(const std::string &path, const Json &array, int64_t vocabSize,
                                 Sequences &sequences) {
  std::vector<int32_t> sequence;
  for (const Json &id : array) {
    if (!id.is_number_integer() || id < 0 || id >= vocabSize) {
      return badToken(path, sequences.size(), sequence.size(), vocabSize,
                      id.dump(-1, ' ', true, Json::error_handler_t::replace));
    }
    sequence.push_back(id.get<int32_t>());
  }
  sequences.push_back(std::move(sequence));
  return Status::ok();
}

static StatusOr<Sequences> readJson(const std::string &path, const std::string &text,
                                    int64_t vocabSize) {
  Json root = Json::parse(text, nullptr, false);
  if (root.is_discarded() || !root.is_array()) {
    return Status::badInput("'" + path +
                            "': expected a JSON array of token ids, an array "
                            "of such arrays, or a safetensors file");
  }
  Sequences sequences;
  bool nested = !root.empty() && root[0].is_array();
  if (!nested) {
    KVCACHE_RETURN_IF_ERROR(appendJsonSequence(path, root, vocabSize, sequences));
    return sequences;
  }
  for (const Json &array : root) {
    if (!array.is_array()) {
      return Status::badInput("'" + path +
                              "': expected every element to be an array of "
                              "token ids, like the first");
    }
    KVCACHE_RETURN_IF_ERROR(appendJsonSequence(path, array, vocabSize, sequences));
  }
  return sequences;
}

/// "2.tokens" before "10.tokens": runs of digits compare as numbers.
static bool naturallyLess(const std::string &a, const std::string &b) {
  size_t i = 0, j = 0;
  auto isDigit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  while (i < a.size() && j < b.size()) {
    if (!isDigit(a[i]) || !isDigit(b[j])) {
      if (a[i] != b[j]) {
        return a[i] < b[j];
      }
      ++i;
      ++j;
      continue;
    }
    size_t iEnd = i, jEnd = j;
    for (; iEnd < a.size() && isDigit(a[iEnd]); ++iEnd) {
    }
    for (; jEnd < b.size() && isDigit(b[jEnd]); ++jEnd) {
    }
    std::string x = a.substr(i, iEnd - i), y = b.substr(j, jEnd - j);
    x.erase(0, std::min(x.find_first_not_of('0'), x.size()));
    y.erase(0, std::min(y.find_first_not_of('0'), y.size()));
    if (x != y) {
      return x.size() != y.size() ? x.size() < y.size() : x < y;
    }
    i = iEnd;
    j = jEnd;
  }
  return a.size() - i < b.size() - j;
}

static StatusOr<Sequences> readTensors(const std::string &path, int64_t vocabSize) {
  StatusOr<std::shared_ptr<SafetensorsFile>> file = SafetensorsFile::open(path);
  if (!file.isOk()) {
    return file.status();
  }
  std::vector<std::string> names;
  for (const auto &tensor : (*file)->tensors()) {
    size_t rank = tensor.second.shape.size();
    if (tensor.second.dtype == DType::I32 && (rank == 1 || rank == 2)) {
      names.push_back(tensor.first);
    }
  }
  if (names.empty()) {
    return Status::badInput("'" + path +
                            "': expected at least one I32 tensor of shape [T] "
                            "or [N, T] with token ids, found none");
  }
  std::sort(names.begin(), names.end(), naturallyLess);
  Sequences sequences;
  for (const std::string &name : names) {
    const TensorView &tensor = *(*file)->find(name);
    int64_t length = tensor.shape.back(),
            count = tensor.shape.size() == 2 && length > 0 ? tensor.shape[0] : 1;
    StatusOr<std::vector<int64_t>> ids = (*file)->readI64(name, tensor.shape);
    if (!ids.isOk()) {
      return ids.status();
    }
    for (int64_t n = 0; n < count; ++n) {
      std::vector<int32_t> sequence;
      for (int64_t t = 0; t < length; ++t) {
        int64_t id = (*ids)[static_cast<size_t>(n * length + t)];
        if (id < 0 || id >= vocabSize) {
          return badToken(path, sequences.size(), sequence.size(), vocabSize, std::to_string(id));
        }
        sequence.push_back(static_cast<int32_t>(id));
      }
      sequences.push_back(std::move(sequence));
    }
  }
  return sequences;
}

StatusOr<Sequences> readTokenFile(const std::string &path, int64_t vocabSize) {
  StatusOr<std::string> text = readWholeFile(path);
  if (!text.isOk()) {
    return text.status();
  }
  // The header of a safetensors file is an object that begins at byte 8; a JSON
  // array has no brace there.
  bool tensors = text->size() > 8 && (*text)[8] == '{';
  StatusOr<Sequences> sequences =
      tensors ? readTensors(path, vocabSize) : readJson(path, *text, vocabSize);
  if (!sequences.isOk()) {
    return sequences;
  }
  for (size_t i = 0; i < sequences->size(); ++i) {
    if ((*sequences)[i].empty()) {
      return Status::badInput("'" + path + "': sequence " + std::to_string(i) +
                              " is empty: expected at least one token");
    }
  }
  if (sequences->empty()) {
    return Status::badInput("'" + path +
                            "': expected at least one sequence of token ids, found none");
  }
  return sequences;
}

} // namespace kvcache::rt
