// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tensors of heads that agree in shape are stored together, [Hkv, ...]; where one differs the layer
// is ragged and every tensor has a `.{h}` of its own.

#include "tools/commands/ApplyFile.h"

#include "runtime/io/Safetensors.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvcache::tools {

using abi::ElementType;
using rt::DType;
using rt::HeadContents;
using rt::Status;

namespace {

DType dtypeOf(ElementType type) {
  switch (type) {
  case ElementType::F32:
    return DType::F32;
  case ElementType::F16:
    return DType::F16;
  case ElementType::BF16:
    return DType::BF16;
  case ElementType::I8:
    return DType::I8;
  case ElementType::U8:
    return DType::U8;
  case ElementType::I16:
    return DType::I16;
  case ElementType::I32:
    return DType::I32;
  case ElementType::I64:
    return DType::I64;
  }
  return DType::U8;
}

/// A tensor of one head.
struct HeadTensor {
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  const void *data = nullptr;
};

/// Writes the tensors of one layer.
class LayerWriter {
public:
  LayerWriter(rt::SafetensorsWriter &writer, int64_t layer, int64_t headDim,
              const LayerResult &result)
      : writer_(writer), prefix_("layers." + std::to_string(layer) + "."), headDim_(headDim),
        result_(result) {
    for (const HeadContents &head : result.heads) {
      ragged_ = ragged_ || head.source.size() != result.heads[0].source.size();
    }
  }

  void write() {
    each("indices", [](const HeadContents &h) { return vector(DType::I32, h.source); });
    each("pos", [](const HeadContents &h) { return vector(DType::I32, h.positions); });
    each("k", [&](const HeadContents &h) { return matrix(h.k); });
    each("v", [&](const HeadContents &h) { return matrix(h.v); });
    if (std::any_of(result_.heads.begin(), result_.heads.end(),
                    [](const HeadContents &h) { return !h.counts.empty(); })) {
      each("counts", [](const HeadContents &h) { return vector(DType::F32, h.counts); });
    }
    scores();
    coded("k", &HeadContents::kCoded, &HeadContents::codedK);
    coded("v", &HeadContents::vCoded, &HeadContents::codedV);
  }

private:
  template <typename T>
  static HeadTensor vector(DType dtype, const std::vector<T> &values) {
    return {dtype, {static_cast<int64_t>(values.size())}, values.data()};
  }
  HeadTensor matrix(const std::vector<float> &values) const {
    return {DType::F32, {static_cast<int64_t>(values.size()) / headDim_, headDim_}, values.data()};
  }

  template <typename Fn>
  void each(const std::string &name, Fn tensorOf) {
    std::vector<HeadTensor> tensors;
    for (const HeadContents &head : result_.heads) {
      tensors.push_back(tensorOf(head));
    }
    add(name, tensors);
  }

  void add(const std::string &name, const std::vector<HeadTensor> &heads) {
    bool together = !ragged_ && std::all_of(heads.begin(), heads.end(), [&](const HeadTensor &h) {
      return h.shape == heads[0].shape;
    });
    std::vector<char> bytes;
    for (size_t h = 0; h < heads.size(); ++h) {
      int64_t size = rt::dtypeBytes(heads[h].dtype);
      for (int64_t extent : heads[h].shape) {
        size *= extent;
      }
      if (together) {
        const char *from = static_cast<const char *>(heads[h].data);
        bytes.insert(bytes.end(), from, from + size);
      } else {
        writer_.addCopy(prefix_ + name + "." + std::to_string(h), heads[h].dtype, heads[h].shape,
                        heads[h].data);
      }
    }
    if (together) {
      std::vector<int64_t> shape = {static_cast<int64_t>(heads.size())};
      shape.insert(shape.end(), heads[0].shape.begin(), heads[0].shape.end());
      writer_.addCopy(prefix_ + name, heads[0].dtype, shape, bytes.data());
    }
  }

  void scores() {
    if (result_.scores.empty() || result_.scores[0].empty()) {
      return;
    }
    std::vector<HeadTensor> tensors;
    for (const std::vector<float> &head : result_.scores) {
      tensors.push_back(vector(DType::F32, head));
    }
    add("scores", tensors);
  }

  void coded(const std::string &side, bool HeadContents::*isCoded,
             rt::CodedRows HeadContents::*rowsOf) {
    int64_t rows = 0;
    for (const HeadContents &head : result_.heads) {
      rows += head.*isCoded ? (head.*rowsOf).rows : 0;
    }
    if (rows == 0) {
      return; // nothing is coded yet
    }
    auto group = [](const rt::CodedRows &c, ElementType type, const std::vector<uint8_t> &values) {
      return HeadTensor{dtypeOf(type), c.groupShape, values.data()};
    };
    each(side + ".codes", [&](const HeadContents &h) {
      const rt::CodedRows &c = h.*rowsOf;
      int64_t width = c.rows > 0 ? static_cast<int64_t>(c.codes.size()) / c.rows : headDim_;
      return HeadTensor{DType::U8, {c.rows, width}, c.codes.data()};
    });
    each(side + ".scales", [&](const HeadContents &h) {
      return group(h.*rowsOf, (h.*rowsOf).scaleType, (h.*rowsOf).scales);
    });
    if (!(result_.heads[0].*rowsOf).zeros.empty()) {
      each(side + ".zeros", [&](const HeadContents &h) {
        return group(h.*rowsOf, (h.*rowsOf).zeroType, (h.*rowsOf).zeros);
      });
    }
    if (!(result_.heads[0].*rowsOf).packed.empty()) {
      each(side + ".packed",
           [&](const HeadContents &h) { return vector(DType::U8, (h.*rowsOf).packed); });
    }
    const rt::CodedRows &first = result_.heads[0].*rowsOf;
    writer_.setMetadata(prefix_ + side + ".first", std::to_string(first.first));
    writer_.setMetadata(prefix_ + side + ".layout", first.layout);
    for (size_t h = 0; h < result_.heads.size(); ++h) {
      if ((result_.heads[h].*rowsOf).first != first.first) {
        writer_.setMetadata(prefix_ + side + ".first." + std::to_string(h),
                            std::to_string((result_.heads[h].*rowsOf).first));
      }
    }
  }

  rt::SafetensorsWriter &writer_;
  std::string prefix_;
  int64_t headDim_;
  const LayerResult &result_;
  bool ragged_ = false;
};

std::string number(double value) { return fmt::format("{:.10g}", value); }

} // namespace

ApplyRow describe(const rt::Execution &execution, const CacheFile &file,
                  const ApplyResult &result) {
  ApplyRow row;
  row.method = execution.methodName();
  row.methodHash = execution.methodHash();
  row.target = execution.target();
  row.parameters = execution.parameters();
  row.tokens = file.tokens();
  row.steps = file.steps();
  row.budget = result.budget;
  row.proof = result.proof;
  return row;
}

Json toJson(const ApplyRow &row) {
  Json json = {{"method", row.method},
               {"params", row.parameters},
               {"target", row.target},
               {"method_hash", row.methodHash},
               {"tokens", row.tokens},
               {"steps", row.steps},
               {"budget", row.budget < 0 ? Json(nullptr) : Json(row.budget)}};
  addTo(json, row.proof);
  json["verified"] = row.verified;
  json["boundary_swaps"] = row.boundarySwaps ? Json(*row.boundarySwaps) : Json(nullptr);
  return json;
}

std::string toText(const ApplyRow &row, const std::vector<rt::KernelReport> &kernels) {
  std::string text = fmt::format("method          {} on {}\n", row.method, row.target);
  text += toText(row.proof);
  text += fmt::format("kernels         {}\n", kernelStatusText(kernels));
  if (row.verified) {
    text += fmt::format("verified        equal to the reference, {} boundary swaps\n",
                        row.boundarySwaps.value_or(0));
  }
  return text;
}

Status writeResult(const std::string &path, const CacheFile &file, const ApplyResult &result,
                   const ApplyRow &row, const std::vector<rt::KernelReport> &kernels) {
  const rt::Geometry &g = file.geometry();
  rt::SafetensorsWriter writer;
  for (size_t i = 0; i < result.layers.size(); ++i) {
    const LayerResult &layer = result.layers[i];
    LayerWriter(writer, static_cast<int64_t>(i), g.headDim, layer).write();
    std::string prefix = "layers." + std::to_string(i) + ".";
    if (file.steps() > 0) {
      writer.addView(prefix + "step.out", DType::F32, {g.queryHeads, file.steps(), g.headDim},
                     layer.stepOut.data());
    }
    if (!layer.lse.empty()) {
      writer.addView(prefix + "out", DType::F32, {g.queryHeads, file.attendRows(), g.headDim},
                     layer.out.data());
      writer.addView(prefix + "lse", DType::F32, {g.queryHeads, file.attendRows()},
                     layer.lse.data());
    }
  }
  Json described = Json::array();
  for (const rt::KernelReport &kernel : kernels) {
    described.push_back(toJson(kernel));
  }
  writer.setMetadata("bytes_measured", std::to_string(row.proof.bytesMeasured));
  writer.setMetadata("bytes_claimed", number(row.proof.bytesClaimed));
  writer.setMetadata("bits_per_value_k", number(row.proof.bitsPerValueK));
  writer.setMetadata("bits_per_value_v", number(row.proof.bitsPerValueV));
  writer.setMetadata("target", row.target);
  writer.setMetadata("method_hash", row.methodHash);
  writer.setMetadata("boundary_swaps",
                     row.boundarySwaps ? std::to_string(*row.boundarySwaps) : "null");
  writer.setMetadata("kernels", described.dump());
  return writer.write(path);
}

} // namespace kvcache::tools
