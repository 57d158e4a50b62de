// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The meaning of quantize.encode. The quantizer itself is IEEE f32 in the stated order, never
// contracted, so that codes are the same on every target; rotation and projection before it are
// real arithmetic.

#include "runtime/io/Half.h"
#include "runtime/reference/Families.h"

#include <algorithm>
#include <cmath>

namespace kvcache::rt::reference {

using abi::ColumnLayout;
using abi::ElementType;
using abi::TileAxis;
using abi::ZeroKind;

double roundTo(ElementType type, double value) {
  float number = static_cast<float>(value);
  switch (type) {
  case ElementType::F32:
    return number;
  case ElementType::F16:
    return f32FromF16(f16FromF32(number));
  case ElementType::BF16:
    return f32FromBf16(bf16FromF32(number));
  default:
    return std::nearbyint(number);
  }
}

namespace {

struct Group {
  float scale = 0, zero = 0;
  std::vector<uint8_t> codes;
  std::vector<double> decoded;
};

/// Quantizes the values of one group.
Group quantizeGroup(const ColumnLayout &layout, const std::vector<float> &x) {
  Group group;
  const float top = static_cast<float>((1 << layout.bits) - 1);
  float low = *std::min_element(x.begin(), x.end()), high = *std::max_element(x.begin(), x.end());
  bool point = layout.zero == ZeroKind::Point;
  if (point) {
    float clip = static_cast<float>(layout.clip);
    low = std::min(low, 0.0F) * clip;
    high = std::max(high, 0.0F) * clip;
    if (low == 0.0F && high == 0.0F) {
      low = -1.0F;
      high = 1.0F;
    }
  }
  if (layout.zero == ZeroKind::None) {
    // Symmetric: codes are offset by 2^(b-1) - 1 so that they are unsigned.
    float half = static_cast<float>((1 << (layout.bits - 1)) - 1);
    float largest = std::max(std::fabs(low), std::fabs(high)) * static_cast<float>(layout.clip);
    group.scale = static_cast<float>(roundTo(layout.scaleType, largest / half));
    for (float value : x) {
      float code =
          group.scale > 0 ? std::clamp(std::nearbyint(value / group.scale), -half, half) : 0.0F;
      group.codes.push_back(static_cast<uint8_t>(code + half));
      group.decoded.push_back(code * group.scale);
    }
    return group;
  }
  group.scale = static_cast<float>(roundTo(layout.scaleType, (high - low) / top));
  group.zero = point ? (group.scale > 0 ? std::nearbyint(-low / group.scale) : 0.0F)
                     : static_cast<float>(roundTo(layout.zeroType, low));
  for (float value : x) {
    float code = 0.0F;
    if (group.scale > 0) {
      code = point ? std::nearbyint(value / group.scale) + group.zero
                   : std::nearbyint((value - group.zero) / group.scale);
    }
    code = std::clamp(code, 0.0F, top);
    group.codes.push_back(static_cast<uint8_t>(code));
    float decoded = point ? (code - group.zero) * group.scale : code * group.scale + group.zero;
    group.decoded.push_back(decoded);
  }
  return group;
}

/// The values [row * width + channel] of each group, groups in the order that scales are stored in.
std::vector<std::vector<size_t>> groupMembers(const ColumnLayout &layout, int64_t rows) {
  bool overTokens = layout.tileAxis == TileAxis::Token;
  int64_t unit = layout.granule(), units = (rows + unit - 1) / unit;
  int64_t groups = overTokens ? layout.width : layout.groupsPerRow();
  std::vector<std::vector<size_t>> members(static_cast<size_t>(units * groups));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t j = 0; j < layout.width; ++j) {
      int64_t group = row / unit * groups + (overTokens ? j : layout.groupOf(j));
      members[static_cast<size_t>(group)].push_back(static_cast<size_t>(row * layout.width + j));
    }
  }
  return members;
}

} // namespace

StatusOr<CodedBlock> encodeRows(const ColumnLayout &layout, const std::vector<double> &exact,
                                int64_t rows, const FactorSide *factor) {
  int64_t width = layout.width;
  CodedBlock block;
  block.decoded.assign(static_cast<size_t>(rows * width), 0.0);
  if (layout.rank > 0) {
    if (factor == nullptr) {
      return Status::badInput("expected a basis and a mean for a factor column");
    }
    for (int64_t t = 0; t < rows; ++t) {
      std::copy(factor->mean.begin(), factor->mean.end(), block.decoded.begin() + t * width);
      for (int64_t r = 0; r < layout.rank; ++r) {
        double coefficient = 0.0;
        for (int64_t d = 0; d < width; ++d) {
          coefficient +=
              (exact[static_cast<size_t>(t * width + d)] - factor->mean[static_cast<size_t>(d)]) *
              factor->basis[static_cast<size_t>(d * layout.rank + r)];
        }
        coefficient = roundTo(layout.factorElem, coefficient);
        for (int64_t d = 0; d < width; ++d) {
          block.decoded[static_cast<size_t>(t * width + d)] +=
              coefficient * factor->basis[static_cast<size_t>(d * layout.rank + r)];
        }
      }
    }
    return block;
  }

  std::vector<double> x = exact;
  auto rotate = [&](std::vector<double> &values) {
    for (int64_t t = 0; t < rows; ++t) {
      std::vector<double> row(values.begin() + t * width, values.begin() + (t + 1) * width);
      hadamardRow(row);
      std::copy(row.begin(), row.end(), values.begin() + t * width);
    }
  };
  if (layout.rotated) {
    rotate(x);
  }
  block.codes.assign(static_cast<size_t>(rows * width), 0);
  for (const std::vector<size_t> &members : groupMembers(layout, rows)) {
    std::vector<float> values;
    for (size_t member : members) {
      values.push_back(static_cast<float>(x[member]));
    }
    Group group = quantizeGroup(layout, values);
    block.scales.push_back(group.scale);
    if (layout.zero != ZeroKind::None) {
      block.zeros.push_back(group.zero);
    }
    for (size_t m = 0; m < members.size(); ++m) {
      block.codes[members[m]] = group.codes[m];
      block.decoded[members[m]] = group.decoded[m];
    }
  }
  if (layout.rotated) {
    rotate(block.decoded);
  }
  return block;
}

} // namespace kvcache::rt::reference
