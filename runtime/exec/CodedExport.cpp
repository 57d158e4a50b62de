// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Walks the pages of the coded segment unit by unit; a unit is a row, or a block of rows coded
// together.

#include "runtime/exec/CodedExport.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace kvcache::rt {

using abi::PlaneRole;

namespace {

/// The coded rows of one head of one column.
class CodedReader {
public:
  CodedReader(const Store &store, int32_t column, const HeadSlice &slice)
      : store_(store), layout_(store.schema().columns()[column].layout), slice_(slice),
        segment_(store.schema().segment(column, abi::SegmentKind::Coded)),
        unitRows_(layout_.granule()) {
    rows_.rows = store.codedRows(column, slice.rowHead);
    rows_.first = std::min(layout_.sinks, store.rows(slice.rowHead));
    rows_.scaleType = layout_.scaleType;
    rows_.zeroType = layout_.zeroType;
    rows_.layout = "lsb(" + abi::axisName(layout_.tileAxis) + ")";
  }

  CodedRows read() {
    bool overTokens = layout_.tileAxis == abi::TileAxis::Token;
    int64_t units = (rows_.rows + unitRows_ - 1) / unitRows_;
    // The groups that the slice lies in, ascending.
    std::set<int64_t> groups;
    for (int64_t j = slice_.firstChannel; j < slice_.firstChannel + slice_.channels; ++j) {
      groups.insert(overTokens ? j : layout_.groupOf(j));
    }
    rows_.groupShape = {units, static_cast<int64_t>(groups.size())};
    for (int64_t row = rows_.first; row < rows_.first + rows_.rows; row += unitRows_) {
      for (int64_t group : groups) {
        append(rows_.scales, unit(PlaneRole::Scales, row), group, 1, abi::bytesOf(layout_.scaleType));
        if (layout_.zero != abi::ZeroKind::None) {
          append(rows_.zeros, unit(PlaneRole::Zeros, row), group, 1, abi::bytesOf(layout_.zeroType));
        }
      }
      if (overTokens) {
        readBlock(unit(PlaneRole::Codes, row));
      }
      for (int64_t r = row; !overTokens && r < row + unitRows_; ++r) {
        readRow(unit(PlaneRole::Codes, r));
      }
    }
    return std::move(rows_);
  }

private:
  const uint8_t *unit(PlaneRole role, int64_t row) const {
    const abi::SegmentLayout &segment = store_.schema().segments()[segment_].layout;
    const abi::PlaneLayout &plane = *segment.plane(role);
    const char *page = store_.page(segment_, slice_.rowHead, row);
    return reinterpret_cast<const uint8_t *>(page) + plane.offset +
           row % segment.rowsPerPage / plane.rowsPerUnit * plane.bytesPerUnit;
  }
  static void append(std::vector<uint8_t> &to, const uint8_t *from, int64_t first, int64_t count,
                     int64_t bytes) {
    to.insert(to.end(), from + first * bytes, from + (first + count) * bytes);
  }
  /// One row: code j at bits [b*j, b*j + b), little endian.
  void readRow(const uint8_t *codes) {
    int64_t mask = (1 << layout_.bits) - 1;
    for (int64_t j = slice_.firstChannel; j < slice_.firstChannel + slice_.channels; ++j) {
      int64_t bit = j * layout_.bits, byte = bit / 8;
      int64_t value = codes[byte] | (bit % 8 + layout_.bits > 8 ? codes[byte + 1] << 8 : 0);
      rows_.codes.push_back(static_cast<uint8_t>((value >> (bit % 8)) & mask));
    }
    int64_t first = slice_.firstChannel * layout_.bits / 8;
    int64_t end = ((slice_.firstChannel + slice_.channels) * layout_.bits + 7) / 8;
    append(rows_.packed, codes, first, end - first, 1);
  }
  /// A block: row t's code of channel j in u32 word t / (32/b) of that channel.
  void readBlock(const uint8_t *codes) {
    int64_t perWord = 32 / layout_.bits, words = layout_.tile / perWord;
    for (int64_t t = 0; t < layout_.tile; ++t) {
      for (int64_t j = slice_.firstChannel; j < slice_.firstChannel + slice_.channels; ++j) {
        uint32_t word;
        std::memcpy(&word, codes + 4 * (t / perWord * layout_.width + j), 4);
        rows_.codes.push_back(static_cast<uint8_t>((word >> (t % perWord * layout_.bits)) &
                                                   ((1u << layout_.bits) - 1)));
      }
    }
    for (int64_t w = 0; w < words; ++w) {
      append(rows_.packed, codes + 4 * w * layout_.width, slice_.firstChannel, slice_.channels, 4);
    }
  }

  const Store &store_;
  const abi::ColumnLayout &layout_;
  HeadSlice slice_;
  int32_t segment_;
  int64_t unitRows_;
  CodedRows rows_;
};

} // namespace

CodedRows exportCoded(const Store &store, int32_t column, const HeadSlice &slice) {
  return CodedReader(store, column, slice).read();
}

std::vector<int64_t> exportIntegers(const Store &store, int32_t column, int64_t rowHead) {
  const abi::ColumnLayout &layout = store.schema().columns()[column].layout;
  std::vector<int64_t> values;
  bool wide = layout.exactElem == ElementType::I64;
  if (layout.coded || layout.width != 1 || !(wide || layout.exactElem == ElementType::I32)) {
    return values;
  }
  int32_t segment = store.schema().segment(column, abi::SegmentKind::Exact);
  int64_t rowsPerPage = store.schema().segments()[segment].layout.rowsPerPage;
  for (int64_t row = 0; row < store.rows(rowHead); ++row) {
    const char *page = store.page(segment, rowHead, row);
    int64_t at = row % rowsPerPage;
    if (wide) {
      values.push_back(reinterpret_cast<const int64_t *>(page)[at]);
    } else {
      values.push_back(reinterpret_cast<const int32_t *>(page)[at]);
    }
  }
  return values;
}

} // namespace kvcache::rt
