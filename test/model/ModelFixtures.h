// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the decoder's tests share: where models are, temporary folders, runs
// over the oracle.

#pragma once

#include "runtime/io/Safetensors.h"
#include "runtime/model/Decoder.h"
#include "test/model/PlainAttention.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace kvcache::test {

inline std::string bundledModel() {
  return (std::filesystem::path(KVASIR_SOURCE_DIR) / "models" / "kvref-s")
      .string();
}
inline std::string tinyModel(const std::string &name) {
  return (std::filesystem::path(KVASIR_SOURCE_DIR) / "test" / "model" / "tiny" /
          name)
      .string();
}

/// Fails the test with the message of a status that is not ok.
inline void expectOk(const rt::Status &status) {
  EXPECT_TRUE(status.isOk()) << status.message();
}

/// Expects bad input whose message holds each of `parts`.
inline void expectBadInput(const rt::Status &status,
                           const std::vector<std::string> &parts) {
  EXPECT_EQ(status.code(), rt::StatusCode::BadInput) << status.message();
  for (const std::string &part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos)
        << "'" << part << "' is not in: " << status.message();
  }
}

/// A folder that goes away with the object.
class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "kvasir-test-XXXXXX")
            .string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string path(const std::string &name = "") const {
    return name.empty() ? path_ : path_ + "/" + name;
  }
  void write(const std::string &name, const std::string &bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
  }
  std::string read(const std::string &name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

private:
  std::string path_;
};

inline std::unique_ptr<rt::Decoder> loadDecoder(const std::string &directory) {
  rt::StatusOr<std::unique_ptr<rt::Decoder>> decoder =
      rt::Decoder::load(directory);
  expectOk(decoder.status());
  return decoder.isOk() ? std::move(*decoder) : nullptr;
}

/// A run together with the sequence it needs.
struct OwnedRun {
  OwnedRun(rt::Execution &execution, std::vector<int32_t> prompt) {
    sequence = std::move(*execution.createSequence({}));
    run.sequence = sequence.get();
    run.prompt = std::move(prompt);
  }
  std::unique_ptr<rt::Sequence> sequence;
  rt::SequenceRun run;
};

/// `count` tokens below `vocab`, the same for equal seeds.
inline std::vector<int32_t> someTokens(int64_t count, int64_t vocab,
                                       uint32_t seed) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    tokens.push_back(
        static_cast<int32_t>((seed >> 8) % static_cast<uint32_t>(vocab)));
  }
  return tokens;
}

inline double largestDifference(const std::vector<float> &a,
                                const std::vector<float> &b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    double difference = std::fabs(double(a[i]) - b[i]);
    largest =
        difference > largest || std::isnan(difference) ? difference : largest;
  }
  return largest;
}

} // namespace kvcache::test
