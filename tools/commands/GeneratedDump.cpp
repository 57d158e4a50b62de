// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Values are sums of integers over powers of two: no libm, so no machine differs.

#include "tools/commands/GeneratedDump.h"

#include "runtime/io/Half.h"
#include "runtime/io/Safetensors.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <unistd.h>

namespace kvcache::tools {

using abi::ElementType;
using rt::DType;
using rt::Status;
using rt::StatusOr;

namespace {

/// SplitMix64.
class Random {
public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  /// Near normal with variance 1: the sum of three uniform values in [-1, 1).
  float normal() {
    double sum = 0;
    for (int i = 0; i < 3; ++i) {
      sum += static_cast<double>(next() >> 40) / (1 << 23) - 1.0;
    }
    return static_cast<float>(sum);
  }

private:
  uint64_t state_;
};

constexpr int64_t clusters = 8;
constexpr int64_t extraQueries = 2;
constexpr int64_t draftedRows = 3;

/// The tensors of one layer.
class LayerGenerator {
public:
  LayerGenerator(const DumpSpec &spec, const rt::Geometry &geometry, int64_t layer)
      : spec_(spec), g_(geometry), random_(spec.seed * 1000003 + static_cast<uint64_t>(layer)) {
    for (int64_t i = 0; i < g_.kvHeads * clusters * g_.headDim; ++i) {
      centres_.push_back(random_.normal());
    }
  }

  /// [heads, rows, D]; head h belongs to KV head h / (heads / Hkv).
  std::vector<float> rows(int64_t heads, int64_t count, float towards, float noise,
                          int64_t period) {
    std::vector<float> values(static_cast<size_t>(heads * count * g_.headDim));
    for (int64_t head = 0; head < heads; ++head) {
      int64_t kvHead = head / (heads / g_.kvHeads);
      for (int64_t row = 0; row < count; ++row) {
        float *to = values.data() + (head * count + row) * g_.headDim;
        if (period > 0 && row >= period) {
          std::copy(to - period * g_.headDim, to - (period - 1) * g_.headDim, to);
          continue;
        }
        auto cluster = static_cast<int64_t>(random_.next() % clusters);
        for (int64_t d = 0; d < g_.headDim; ++d) {
          // Four steps of channel sizes: a low-rank method finds a clear cut.
          float size = 1.0f / static_cast<float>(1 << (4 * d / g_.headDim));
          to[d] = size * (towards * centres_[(kvHead * clusters + cluster) * g_.headDim + d] +
                          noise * random_.normal());
        }
      }
    }
    return values;
  }

  const DumpSpec &spec_;
  const rt::Geometry &g_;

private:
  Random random_;
  std::vector<float> centres_;
};

void addTensor(rt::SafetensorsWriter &writer, const std::string &name, ElementType act,
               std::vector<int64_t> shape, const std::vector<float> &values) {
  if (act == ElementType::F32) {
    writer.addCopy(name, DType::F32, std::move(shape), values.data());
    return;
  }
  std::vector<uint16_t> halves(values.size());
  if (act == ElementType::F16) {
    rt::f16FromF32(values.data(), halves.data(), static_cast<int64_t>(values.size()));
  } else {
    rt::bf16FromF32(values.data(), halves.data(), static_cast<int64_t>(values.size()));
  }
  writer.addCopy(name, act == ElementType::F16 ? DType::F16 : DType::BF16, std::move(shape),
                 halves.data());
}

void addLayer(rt::SafetensorsWriter &writer, const DumpSpec &spec, const rt::Geometry &g,
              int64_t layer) {
  LayerGenerator generator(spec, g, layer);
  auto add = [&](const char *name, int64_t heads, int64_t rows, float towards, float noise,
                 int64_t period) {
    addTensor(writer, "layers." + std::to_string(layer) + "." + name, g.act,
              {heads, rows, g.headDim}, generator.rows(heads, rows, towards, noise, period));
  };
  add("k", g.kvHeads, spec.tokens, 0.8f, 0.6f, spec.period);
  add("v", g.kvHeads, spec.tokens, 0.5f, 1.0f, spec.period);
  add("q", g.queryHeads, spec.tokens, 0.6f, 0.9f, 0);
  add("queries", g.queryHeads, extraQueries, 0.6f, 0.9f, 0);
  if (spec.steps > 0) {
    add("step.k", g.kvHeads, spec.steps, 0.8f, 0.6f, 0);
    add("step.v", g.kvHeads, spec.steps, 0.5f, 1.0f, 0);
    add("step.q", g.queryHeads, spec.steps, 0.6f, 0.9f, 0);
  }
  // A second pass as long as the prompt, and an answer drafted behind it.
  add("task.q", g.queryHeads, spec.tokens, 0.6f, 0.9f, 0);
  add("task.k", g.kvHeads, spec.tokens, 0.8f, 0.6f, 0);
  add("rollout.q", g.queryHeads, draftedRows, 0.6f, 0.9f, 0);
}

/// Token ids, and the tables that methods may ask for: a question of up to three rows at the end,
/// three segments, shots of four to six rows, every seventh row to keep, and two classes of ids.
void addRequest(rt::SafetensorsWriter &writer, const DumpSpec &spec) {
  auto tokens = static_cast<int32_t>(spec.tokens);
  std::vector<int32_t> ids(spec.tokens + spec.steps), keep(spec.tokens), segments, shots,
      question = {std::min(3, tokens)}, special = {0, 7, 14}, punctuation = {3, 10, 17, 24, 31, 38};
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(i * 7 % 251);
  }
  for (size_t i = 0; i < keep.size(); ++i) {
    keep[i] = i % 7 == 0 ? 1 : 0;
  }
  for (int32_t part = 1; part <= 3; ++part) {
    int32_t end = tokens * part / 3;
    if (end > (segments.empty() ? 0 : segments.back())) {
      segments.push_back(end);
    }
  }
  for (int32_t end = 4; end < tokens; end += 4 + end % 3) {
    shots.push_back(end);
  }
  shots.push_back(tokens);
  auto add = [&](const char *name, const std::vector<int32_t> &values) {
    writer.addCopy(name, DType::I32, {static_cast<int64_t>(values.size())}, values.data());
  };
  add("ids", ids);
  add("request.question", question);
  add("request.segments", segments);
  add("request.shots", shots);
  add("request.keep", keep);
  add("request.special", special);
  add("request.punctuation", punctuation);
}

} // namespace

std::string DumpSpec::str() const {
  std::ostringstream text;
  text << "seed=" << seed << " T=" << tokens << " S=" << steps << " period=" << period
       << " budget=" << budget;
  return text.str();
}

StatusOr<DumpSpec> DumpSpec::parse(const std::string &text) {
  DumpSpec spec;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    size_t equals = std::min(word.find('='), word.size());
    std::string key = word.substr(0, equals),
                value = equals < word.size() ? word.substr(equals + 1) : "";
    if (value.empty() || value.size() > 9 ||
        value.find_first_not_of("0123456789") != std::string::npos) {
      return Status::badInput("recorded case '" + text + "': expected KEY=NUMBER, got '" + word +
                              "'");
    }
    int64_t number = std::stoll(value);
    if (key == "seed") {
      spec.seed = static_cast<uint64_t>(number);
    } else if (key == "T") {
      spec.tokens = number;
    } else if (key == "S") {
      spec.steps = number;
    } else if (key == "period") {
      spec.period = number;
    } else if (key == "budget") {
      spec.budget = number;
    } else {
      return Status::badInput("recorded case '" + text + "': unknown key '" + key + "'");
    }
  }
  if (spec.tokens < 1 || spec.tokens > 1 << 16 || spec.steps > 1 << 12) {
    return Status::badInput("recorded case '" + text +
                            "': expected T from 1 to 65536 and S of at most 4096");
  }
  return spec;
}

StatusOr<std::string> temporaryPath() {
  std::error_code error;
  std::string path = (std::filesystem::temp_directory_path(error) / "kvasir-XXXXXX").string();
  int file = error ? -1 : mkstemp(path.data());
  if (file < 0) {
    return Status::unavailable(path + ": cannot create a temporary file: " + std::strerror(errno));
  }
  close(file);
  return path;
}

StatusOr<std::shared_ptr<CacheFile>> generateDump(const DumpSpec &spec,
                                                  const rt::Geometry &geometry) {
  rt::SafetensorsWriter writer;
  for (int64_t layer = 0; layer < geometry.layers; ++layer) {
    addLayer(writer, spec, geometry, layer);
  }
  addRequest(writer, spec);
  if (!geometry.ropeInvFreq.empty()) {
    writer.addCopy("rope_inv_freq", DType::F32, {geometry.headDim / 2},
                   geometry.ropeInvFreq.data());
  }
  StatusOr<std::string> path = temporaryPath();
  KVCACHE_RETURN_IF_ERROR(path.status());
  Status written = writer.write(*path);
  StatusOr<std::shared_ptr<CacheFile>> file =
      written.isOk() ? CacheFile::open(*path) : StatusOr<std::shared_ptr<CacheFile>>(written);
  std::error_code ignored;
  std::filesystem::remove(*path, ignored);
  return file;
}

} // namespace kvcache::tools
