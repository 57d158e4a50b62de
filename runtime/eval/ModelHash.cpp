// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Hashes the files of a model in pieces, so that memory does not grow with the model.

#include "runtime/eval/ModelHash.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <vector>
#include <xxhash.h>

namespace kvcache::rt {

StatusOr<std::string> modelHash(const std::string &directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    std::string name = entry->path().filename().string();
    bool isWeights = name.rfind("model", 0) == 0 && entry->path().extension() == ".safetensors";
    if (isWeights || name == "config.json") {
      names.push_back(name);
    }
  }
  if (error) {
    return Status::badInput(directory + ": " + error.message());
  }
  std::sort(names.begin(), names.end());
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t *)> state(XXH3_createState(),
                                                                         XXH3_freeState);
  XXH3_64bits_reset(state.get());
  std::vector<char> piece(1 << 20);
  for (const std::string &name : names) {
    std::string path = directory + "/" + name;
    XXH3_64bits_update(state.get(), name.data(), name.size());
    std::unique_ptr<std::FILE, int (*)(std::FILE *)> file(std::fopen(path.c_str(), "rb"),
                                                          std::fclose);
    if (!file) {
      return Status::badInput(path + ": cannot be read");
    }
    while (size_t read = std::fread(piece.data(), 1, piece.size(), file.get())) {
      XXH3_64bits_update(state.get(), piece.data(), read);
    }
    if (std::ferror(file.get())) {
      return Status::badInput(path + ": cannot be read to its end");
    }
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx",
                static_cast<unsigned long long>(XXH3_64bits_digest(state.get())));
  return std::string(text);
}

} // namespace kvcache::rt
