// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RMSNorm, RoPE and SwiGLU over blocks of rows. Invariant: the block size
// changes no result.

#include "runtime/model/Layers.h"

#include "runtime/parallel/Parallel.h"

#include <algorithm>
#include <cmath>

namespace kvcache::rt {

/// Calls fn(first, last) for blocks of rows in parallel.
template <typename Fn>
static void forRowBlocks(int64_t rows, int64_t blockRows, Fn &&fn) {
  parallelFor((rows + blockRows - 1) / blockRows, [&](int64_t block) {
    fn(block * blockRows, std::min(rows, (block + 1) * blockRows));
  });
}

/// Eight partial sums in a fixed order: vectorizable without reassociation.
static float sumOfSquares(const float *x, int64_t width) {
  float partial[8] = {};
  int64_t i = 0;
  for (; i + 8 <= width; i += 8) {
    for (int lane = 0; lane < 8; ++lane) {
      partial[lane] += x[i + lane] * x[i + lane];
    }
  }
  for (int lane = 0; i < width; ++i, ++lane) {
    partial[lane] += x[i] * x[i];
  }
  return ((partial[0] + partial[4]) + (partial[2] + partial[6])) +
         ((partial[1] + partial[5]) + (partial[3] + partial[7]));
}

void rmsNorm(const float *x, const float *weight, float eps, int64_t rows, int64_t width,
             float *y) {
  forRowBlocks(rows, std::max<int64_t>(1, 16384 / width), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const float *in = x + r * width;
      float *out = y + r * width;
      float scale = 1.0f / std::sqrt(sumOfSquares(in, width) / static_cast<float>(width) + eps);
      for (int64_t i = 0; i < width; ++i) {
        out[i] = in[i] * scale * weight[i];
      }
    }
  });
}

void RopeTable::fill(const std::vector<int32_t> &positions,
                     const std::vector<float> &inverseFrequencies) {
  rows_ = static_cast<int64_t>(positions.size());
  half_ = static_cast<int64_t>(inverseFrequencies.size());
  cosines_.resize(static_cast<size_t>(rows_ * half_));
  sines_.resize(cosines_.size());
  forRowBlocks(rows_, 64, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      for (int64_t i = 0; i < half_; ++i) {
        double angle = static_cast<double>(positions[static_cast<size_t>(r)]) *
                       inverseFrequencies[static_cast<size_t>(i)];
        cosines_[static_cast<size_t>(r * half_ + i)] = static_cast<float>(std::cos(angle));
        sines_[static_cast<size_t>(r * half_ + i)] = static_cast<float>(std::sin(angle));
      }
    }
  });
}

void RopeTable::rotate(float *x, int64_t heads) const {
  forRowBlocks(rows_, 32, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const float *cosine = cosines_.data() + r * half_;
      const float *sine = sines_.data() + r * half_;
      for (int64_t h = 0; h < heads; ++h) {
        float *low = x + (r * heads + h) * 2 * half_;
        float *high = low + half_;
        for (int64_t i = 0; i < half_; ++i) {
          float a = low[i], b = high[i];
          low[i] = a * cosine[i] - b * sine[i];
          high[i] = b * cosine[i] + a * sine[i];
        }
      }
    }
  });
}

void swiglu(float *gate, const float *up, int64_t rows, int64_t width) {
  forRowBlocks(rows, std::max<int64_t>(1, 8192 / width), [&](int64_t first, int64_t last) {
    for (int64_t i = first * width; i < last * width; ++i) {
      gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
    }
  });
}

} // namespace kvcache::rt
