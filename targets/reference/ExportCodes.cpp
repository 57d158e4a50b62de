// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Packs codes as StorageLayout.h says: rows of b-bit codes, little endian, or per channel 32-bit
// words of a block.

#include "targets/reference/ExportCodes.h"

#include "runtime/io/Half.h"

#include <cmath>
#include <cstring>
#include <set>

namespace mlir::kvcache::reference {

using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::ElementType;
using ::kvcache::abi::TileAxis;
using ::kvcache::abi::ZeroKind;

template <typename T>
static void appendAs(std::vector<uint8_t> &bytes, T value) {
  size_t at = bytes.size();
  bytes.resize(at + sizeof(T));
  std::memcpy(&bytes[at], &value, sizeof(T));
}

/// The bytes of `value`, which has been rounded to `type`.
static void appendStored(std::vector<uint8_t> &bytes, ElementType type, float value) {
  switch (type) {
  case ElementType::F32:
    return appendAs(bytes, value);
  case ElementType::F16:
    return appendAs(bytes, rt::f16FromF32(value));
  case ElementType::BF16:
    return appendAs(bytes, rt::bf16FromF32(value));
  case ElementType::I8:
    return appendAs(bytes, static_cast<int8_t>(std::lround(value)));
  case ElementType::U8:
    return appendAs(bytes, static_cast<uint8_t>(std::lround(value)));
  case ElementType::I16:
    return appendAs(bytes, static_cast<int16_t>(std::lround(value)));
  case ElementType::I32:
    return appendAs(bytes, static_cast<int32_t>(std::lround(value)));
  case ElementType::I64:
    return appendAs(bytes, static_cast<int64_t>(std::llround(value)));
  }
}

/// One row of codes at bits [b*j, b*j + b).
static void packRow(std::vector<uint8_t> &bytes, const uint8_t *codes, int64_t width,
                    int64_t bits) {
  size_t start = bytes.size();
  bytes.resize(start + static_cast<size_t>((width * bits + 7) / 8));
  for (int64_t bit = 0; bit < width * bits; ++bit) {
    int value = codes[bit / bits] >> (bit % bits) & 1;
    bytes[start + static_cast<size_t>(bit / 8)] |= static_cast<uint8_t>(value << (bit % 8));
  }
}

/// One block of `tile` rows: word w of channel j holds rows w * 32/b and on.
static void packBlock(std::vector<uint8_t> &bytes, const uint8_t *codes, int64_t width,
                      int64_t tile, int64_t bits) {
  int64_t perWord = 32 / bits;
  for (int64_t word = 0; word < tile / perWord; ++word) {
    for (int64_t j = 0; j < width; ++j) {
      uint32_t packed = 0;
      for (int64_t t = 0; t < perWord; ++t) {
        packed |= static_cast<uint32_t>(codes[(word * perWord + t) * width + j]) << (t * bits);
      }
      appendAs(bytes, packed);
    }
  }
}

rt::CodedRows exportCodes(const ColumnLayout &layout, const CodedColumn &coded, int64_t first,
                          int64_t width) {
  rt::CodedRows result;
  bool overTokens = layout.tileAxis == TileAxis::Token;
  int64_t rowsPerUnit = layout.granule(), units = coded.rows / rowsPerUnit;
  int64_t all = overTokens ? layout.width : layout.groupsPerRow();
  // The groups that values [first, first + width) lie in, ascending.
  std::set<int64_t> own;
  for (int64_t j = first; j < first + width; ++j) {
    own.insert(overTokens ? j : layout.groupOf(j));
  }
  result.first = coded.first;
  result.rows = coded.rows;
  result.scaleType = layout.scaleType;
  result.zeroType = layout.zeroType;
  result.layout = "lsb(" + ::kvcache::abi::axisName(layout.tileAxis) + ")";
  result.groupShape = {units, static_cast<int64_t>(own.size())};
  for (int64_t row = 0; row < coded.rows; ++row) {
    auto begin = coded.codes.begin() + row * layout.width + first;
    result.codes.insert(result.codes.end(), begin, begin + width);
  }
  for (int64_t unit = 0; unit < units; ++unit) {
    for (int64_t g : own) {
      appendStored(result.scales, layout.scaleType,
                   coded.scales[static_cast<size_t>(unit * all + g)]);
      if (layout.zero != ZeroKind::None) {
        appendStored(result.zeros, layout.zeroType,
                     coded.zeros[static_cast<size_t>(unit * all + g)]);
      }
    }
    const uint8_t *codes = result.codes.data() + unit * rowsPerUnit * width;
    if (overTokens) {
      packBlock(result.packed, codes, width, layout.tile, layout.bits);
    } else {
      for (int64_t row = 0; row < rowsPerUnit; ++row) {
        packRow(result.packed, codes + row * width, width, layout.bits);
      }
    }
  }
  return result;
}

} // namespace mlir::kvcache::reference
