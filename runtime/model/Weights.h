// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The weights of a Hugging Face folder: `model.safetensors`, or the shards that
// `model.safetensors.index.json` names. F32 tensors stay mapped; F16 and BF16
// are widened once.

#pragma once

#include "runtime/io/Safetensors.h"
#include "runtime/model/Linear.h"
#include "runtime/model/ModelConfig.h"

#include <memory>
#include <string>
#include <vector>

namespace kvcache::rt {

/// One decoder layer. Biases and head norms are null where the model has none.
struct LayerWeights {
  const float *inputNorm = nullptr, *postNorm = nullptr; ///< [hidden]
  Matrix q, k, v, o; ///< [heads * D, hidden]; o [hidden, Hq * D]
  const float *qBias = nullptr, *kBias = nullptr, *vBias = nullptr, *oBias = nullptr;
  const float *queryNorm = nullptr, *keyNorm = nullptr; ///< [D]
  Matrix gate, up,
      down; ///< [intermediate, hidden]; down [hidden, intermediate]
  const float *gateBias = nullptr, *upBias = nullptr, *downBias = nullptr;
};

/// All weights of a model; pointers live as long as this object.
class Weights {
public:
  /// Loads what `config` asks for. Bad input names file and tensor when one is
  /// missing, has another shape or type, or when the folder holds a tensor that
  /// the architecture does not use.
  static StatusOr<std::unique_ptr<Weights>> load(const std::string &directory,
                                                 const ModelConfig &config);

  Matrix embedding, head; ///< [V, hidden]
  const float *finalNorm = nullptr;
  std::vector<LayerWeights> layers;

private:
  std::vector<std::shared_ptr<SafetensorsFile>> files_;
  std::vector<std::unique_ptr<float[]>> buffers_;
  friend class WeightLoader;
};

} // namespace kvcache::rt
