// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Inverse frequencies of rotary position embedding, plain and with the scaling
// of Llama 3.

#pragma once

#include <cstdint>
#include <vector>

namespace kvcache::rt {

/// Llama 3's way to stretch RoPE to a longer context; `factor` 1 changes
/// nothing.
struct Llama3Scaling {
  double factor = 1;
  double lowFreqFactor = 1;
  double highFreqFactor = 4;
  double originalMaxPositions = 8192;
};

/// theta^(-2i/D) for i = 0 .. D/2 - 1, then, when `scaling` is given:
/// wavelengths above original / low are slowed by `factor`, those under
/// original / high stay, those between are blended.
std::vector<float> ropeInverseFrequencies(int64_t headDim, double theta,
                                          const Llama3Scaling *scaling);

} // namespace kvcache::rt
