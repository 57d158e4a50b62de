// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A cache store for tests of kernels: arena and view as runtime/abi/KernelAbi.h states them, with
// ragged heads, pages at scattered addresses and free choice of which rows are coded. Bytes that
// nobody wrote are 0xA5, table entries of pages that are not in use point far outside, so that a
// kernel that reads or writes a wrong place is noticed.
//
// Slow on purpose: every access derives its address from the layout, one value at a time.

#pragma once

#include "runtime/abi/KernelAbi.h"
#include "test/targets/cpu/StoredElement.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace kvcache::test {

using abi::PlaneLayout;
using abi::PlaneRole;
using abi::SegmentKind;
using abi::SegmentLayout;

class PagedStore {
public:
  /// `rows[h]` rows on head h. `coded[c][h]` of them are coded in column c (behind its sinks),
  /// `due[c][h]` more are still exact but have their coded pages reserved. Empty lists stand for
  /// zeros.
  PagedStore(std::vector<ColumnLayout> columns, std::vector<int64_t> rows,
             std::vector<std::vector<int64_t>> coded = {},
             std::vector<std::vector<int64_t>> due = {}, uint32_t seed = 1)
      : columns_(std::move(columns)), rows_(std::move(rows)) {
    int64_t segments = 0;
    for (const ColumnLayout &column : columns_) {
      firstSegment_.push_back(segments);
      segments += static_cast<int64_t>(column.segments.size());
    }
    view_.assign(static_cast<size_t>(2 + heads() + 3 * segments * heads()), 0);
    view_[0] = heads();
    view_[1] = segments;
    std::copy(rows_.begin(), rows_.end(), view_.begin() + 2);
    for (size_t c = 0; c < columns_.size(); ++c) {
      for (int64_t h = 0; h < heads(); ++h) {
        placeColumn(static_cast<int64_t>(c), h,
                    coded.empty() ? 0 : coded[c][static_cast<size_t>(h)],
                    due.empty() ? 0 : due[c][static_cast<size_t>(h)]);
      }
    }
    placePages(seed);
  }

  int64_t heads() const { return static_cast<int64_t>(rows_.size()); }
  int64_t rows(int64_t head) const { return rows_[static_cast<size_t>(head)]; }
  const ColumnLayout &column(int64_t c) const { return columns_[static_cast<size_t>(c)]; }
  const std::vector<ColumnLayout> &columns() const { return columns_; }
  std::vector<uint8_t> &arena() { return arena_; }
  std::vector<int64_t> &view() { return view_; }

  /// First row of a segment and one past its last.
  int64_t first(int64_t c, SegmentKind kind, int64_t head) const {
    return view_[record(c, kind, head)];
  }
  int64_t end(int64_t c, SegmentKind kind, int64_t head) const {
    return view_[record(c, kind, head) + 1];
  }
  /// Moves the end of the coded rows over the rows that were due.
  void setCodedEnd(int64_t c, int64_t head, int64_t row) {
    view_[record(c, SegmentKind::Coded, head) + 1] = row;
    view_[record(c, SegmentKind::Exact, head)] = row;
  }
  /// The segment that holds a row.
  SegmentKind kindOf(int64_t c, int64_t head, int64_t row) const {
    for (const SegmentLayout &segment : column(c).segments) {
      if (row >= first(c, segment.kind, head) && row < end(c, segment.kind, head)) {
        return segment.kind;
      }
    }
    throw std::runtime_error("row " + std::to_string(row) + " is in no segment");
  }

  /// The unit of a plane that holds a row.
  uint8_t *unit(int64_t c, SegmentKind kind, PlaneRole role, int64_t head, int64_t row) {
    const SegmentLayout &segment = *column(c).segment(kind);
    const PlaneLayout &plane = *segment.plane(role);
    int64_t page =
        view_[static_cast<size_t>(view_[record(c, kind, head) + 2] + row / segment.rowsPerPage)];
    if (page < 0) {
      throw std::runtime_error("row " + std::to_string(row) + " has no page");
    }
    return arena_.data() + page + plane.offset +
           row % segment.rowsPerPage / plane.rowsPerUnit * plane.bytesPerUnit;
  }

  // ---- exact rows and factor coefficients
  // ------------------------------------------------------------------------

  double exact(int64_t c, int64_t head, int64_t row, int64_t channel) {
    return dense(c, kindOf(c, head, row), head, row, channel);
  }
  void setExact(int64_t c, int64_t head, int64_t row, int64_t channel, double value) {
    setDense(c, kindOf(c, head, row), head, row, channel, value);
  }
  double dense(int64_t c, SegmentKind kind, int64_t head, int64_t row, int64_t channel) {
    ElementType elem = column(c).segment(kind)->plane(PlaneRole::Rows)->elem;
    return loadElement(unit(c, kind, PlaneRole::Rows, head, row) + channel * abi::bytesOf(elem),
                       elem);
  }
  void setDense(int64_t c, SegmentKind kind, int64_t head, int64_t row, int64_t channel,
                double value) {
    ElementType elem = column(c).segment(kind)->plane(PlaneRole::Rows)->elem;
    storeElement(unit(c, kind, PlaneRole::Rows, head, row) + channel * abi::bytesOf(elem), elem,
                 value);
  }

  // ---- affine codes
  // ----------------------------------------------------------------------------------------------

  int64_t code(int64_t c, int64_t head, int64_t row, int64_t channel) {
    auto [at, bit] = codePlace(c, head, row, channel);
    int64_t value = 0;
    for (int64_t i = 0; i < column(c).bits; ++i) {
      value |= static_cast<int64_t>((at[(bit + i) / 8] >> ((bit + i) % 8)) & 1) << i;
    }
    return value;
  }
  void setCode(int64_t c, int64_t head, int64_t row, int64_t channel, int64_t value) {
    auto [at, bit] = codePlace(c, head, row, channel);
    for (int64_t i = 0; i < column(c).bits; ++i) {
      auto mask = static_cast<uint8_t>(1 << ((bit + i) % 8));
      uint8_t &byte = at[(bit + i) / 8];
      byte = static_cast<uint8_t>((value >> i) & 1 ? byte | mask : byte & ~mask);
    }
  }
  /// Scale or zero of the group of a row and channel.
  double group(int64_t c, PlaneRole role, int64_t head, int64_t row, int64_t channel) {
    auto [at, elem] = groupPlace(c, role, head, row, channel);
    return loadElement(at, elem);
  }
  void setGroup(int64_t c, PlaneRole role, int64_t head, int64_t row, int64_t channel,
                double value) {
    auto [at, elem] = groupPlace(c, role, head, row, channel);
    storeElement(at, elem, value);
  }
  /// What the code stands for, each step in f32; neither rotation nor factor is undone.
  float decoded(int64_t c, int64_t head, int64_t row, int64_t channel) {
    auto value = static_cast<float>(code(c, head, row, channel));
    auto scale = static_cast<float>(group(c, PlaneRole::Scales, head, row, channel));
    if (column(c).zero == abi::ZeroKind::None) {
      return (value - static_cast<float>((1 << (column(c).bits - 1)) - 1)) * scale;
    }
    auto zero = static_cast<float>(group(c, PlaneRole::Zeros, head, row, channel));
    if (column(c).zero == abi::ZeroKind::Point) {
      return (value - zero) * scale;
    }
    volatile float product = value * scale; // keeps the compiler from contracting
    return product + zero;
  }
  /// Random codes, scales and zeros (or coefficients) in every coded row, and random exact rows, as
  /// the layout has them.
  void fill(uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t c = 0; c < static_cast<int64_t>(columns_.size()); ++c) {
      for (int64_t h = 0; h < heads(); ++h) {
        for (int64_t row = 0; row < rows(h); ++row) {
          fillRow(c, h, row, random, normal);
        }
      }
    }
  }

private:
  struct Place {
    size_t entry; ///< view word
    int64_t pageBytes;
  };

  size_t record(int64_t c, SegmentKind kind, int64_t head) const {
    const auto &segments = column(c).segments;
    for (size_t s = 0; s < segments.size(); ++s) {
      if (segments[s].kind == kind) {
        return static_cast<size_t>(
            2 + heads() +
            3 * ((firstSegment_[static_cast<size_t>(c)] + static_cast<int64_t>(s)) * heads() +
                 head));
      }
    }
    throw std::runtime_error("the column has no such segment");
  }

  void placeColumn(int64_t c, int64_t head, int64_t coded, int64_t due) {
    int64_t begin = 0, n = rows(head);
    for (const SegmentLayout &segment : column(c).segments) {
      int64_t end = segment.kind == SegmentKind::Sinks   ? std::min(n, column(c).sinks)
                    : segment.kind == SegmentKind::Coded ? begin + coded
                                                         : n;
      int64_t reserved = segment.kind == SegmentKind::Coded ? end + due : end;
      size_t at = record(c, segment.kind, head);
      view_[at] = begin;
      view_[at + 1] = end;
      view_[at + 2] = static_cast<int64_t>(view_.size());
      for (int64_t page = 0; page < (reserved + segment.rowsPerPage - 1) / segment.rowsPerPage;
           ++page) {
        if ((page + 1) * segment.rowsPerPage > begin) {
          places_.push_back({view_.size(), segment.pageBytes});
        }
        view_.push_back(-(int64_t(1) << 40));
      }
      begin = end;
    }
  }

  /// Gives the pages addresses in a random order, 64 bytes aligned, with gaps.
  void placePages(uint32_t seed) {
    std::mt19937 random(seed);
    std::shuffle(places_.begin(), places_.end(), random);
    int64_t at = 64;
    for (const Place &place : places_) {
      view_[place.entry] = at;
      at += abi::detail::alignTo(place.pageBytes, 64) + 64 * static_cast<int64_t>(random() % 3);
    }
    arena_.assign(static_cast<size_t>(at + 64), 0xA5);
  }

  std::pair<uint8_t *, int64_t> codePlace(int64_t c, int64_t head, int64_t row, int64_t channel) {
    const ColumnLayout &layout = column(c);
    uint8_t *at = unit(c, SegmentKind::Coded, PlaneRole::Codes, head, row);
    if (layout.tileAxis == abi::TileAxis::Channel) {
      return {at, layout.bits * channel};
    }
    int64_t perWord = 32 / layout.bits, t = row % layout.tile;
    return {at + (t / perWord * layout.width + channel) * 4, layout.bits * (t % perWord)};
  }
  std::pair<uint8_t *, ElementType> groupPlace(int64_t c, PlaneRole role, int64_t head, int64_t row,
                                               int64_t channel) {
    const ColumnLayout &layout = column(c);
    ElementType elem = layout.segment(SegmentKind::Coded)->plane(role)->elem;
    int64_t group = layout.tileAxis == abi::TileAxis::Channel ? layout.groupOf(channel) : channel;
    return {unit(c, SegmentKind::Coded, role, head, row) + group * abi::bytesOf(elem), elem};
  }

  void fillRow(int64_t c, int64_t h, int64_t row, std::mt19937 &random,
               std::normal_distribution<float> &normal) {
    const ColumnLayout &layout = column(c);
    SegmentKind kind = kindOf(c, h, row);
    const PlaneLayout *plane = layout.segment(kind)->plane(PlaneRole::Rows);
    if (plane) {
      bool floats = plane->elem == ElementType::F32 || plane->elem == ElementType::F16 ||
                    plane->elem == ElementType::BF16;
      int64_t width = kind == SegmentKind::Coded ? layout.rank : layout.width;
      for (int64_t i = 0; i < width; ++i) {
        setDense(c, kind, h, row, i,
                 floats ? static_cast<double>(normal(random))
                        : static_cast<double>(random() % 100));
      }
      return;
    }
    for (int64_t i = 0; i < layout.width; ++i) {
      setCode(c, h, row, i, static_cast<int64_t>(random() % (1u << layout.bits)));
      setGroup(c, PlaneRole::Scales, h, row, i,
               0.01 + 0.1 * std::abs(static_cast<double>(normal(random))));
      if (layout.zero == abi::ZeroKind::Min) {
        setGroup(c, PlaneRole::Zeros, h, row, i, static_cast<double>(normal(random)));
      } else if (layout.zero == abi::ZeroKind::Point) {
        setGroup(c, PlaneRole::Zeros, h, row, i,
                 static_cast<double>(random() % (1u << layout.bits)));
      }
    }
  }

  std::vector<ColumnLayout> columns_;
  std::vector<int64_t> rows_;
  std::vector<int64_t> firstSegment_;
  std::vector<Place> places_;
  std::vector<uint8_t> arena_;
  std::vector<int64_t> view_;
};

} // namespace kvcache::test
