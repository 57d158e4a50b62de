// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where each byte of a cache column lies: derived from its storage term, once, for the store that
// holds the pages, the kernels that read and write them and the documentation (docs/layouts.md).
//
// A column is up to three segments of rows, each with pages of its own: `Sinks` rows [0, s),
// `Coded` rows [s, c), `Exact` rows [c, n). A dense column has only `Exact`. A page holds a fixed
// number of rows; page p of a segment holds the absolute rows [p * rowsPerPage, (p+1) * rowsPerPage)
// of its head. Within a page lie planes, each at a fixed offset:
//
//   Rows    dense rows or factor coefficients: [rowsPerPage][width] of `elem`
//   Codes   tile over channel: [rowsPerPage][codeRowBytes], code j of a row at bits [b*j, b*j+b) of
//           its row, little endian (for b in {2, 4, 8} this is the 32-bit LSB packing of the literature)
//           tile over token: one block per `tile` rows: [tile*b/32 words][n channels] of u32; the code of
//           row t of the block is at bits [b*(t % (32/b)), ...) of word t / (32/b)
//           tile over several axes: as over channel
//   Scales  tile over channel: [rowsPerPage][ceil(n/tile)]; tile over token: [rowsPerPage/tile][n];
//           tile over several axes: [rowsPerPage/rows of the tile][groups of a row], groups numbered in row-major order of
//           their place along the feature axes
//   Zeros   as Scales: the group minimum or the integer zero point
//
// Pages end with `pageSlackBytes` unused bytes so that a vector load of the last row stays inside.

#pragma once

#include "runtime/abi/StorageTerm.h"

#include <optional>
#include <vector>

namespace kvcache::abi {

constexpr int64_t pageSlackBytes = 64;
constexpr int64_t defaultRowsPerPage = 64;
constexpr int64_t exactRowsPerPageOfCodedColumn = 32;

enum class SegmentKind : uint8_t { Sinks = 0, Coded = 1, Exact = 2 };
enum class PlaneRole : uint8_t { Rows = 0, Codes = 1, Scales = 2, Zeros = 3 };

struct PlaneLayout {
  PlaneRole role;
  ElementType elem;        ///< U8 for codes tiled over channels, I32 words for codes tiled over tokens
  int64_t offset;          ///< bytes from the start of the page
  int64_t rowsPerUnit;     ///< 1, or the tile when the unit is a block of rows
  int64_t bytesPerUnit;    ///< bytes from one row (block) to the next
};

struct SegmentLayout {
  SegmentKind kind;
  int64_t rowsPerPage;
  int64_t pageBytes;       ///< slack included
  std::vector<PlaneLayout> planes;

  const PlaneLayout *plane(PlaneRole role) const {
    for (const PlaneLayout &p : planes) {
      if (p.role == role) {
        return &p;
      }
    }
    return nullptr;
  }
};

/// The term of a column with its wrappers unfolded; every extent bound.
struct ColumnLayout {
  int64_t width = 0;           ///< n: values per row (product of the feature axes)
  ElementType exactElem = ElementType::F16; ///< what exact rows are stored as (`act`)
  bool coded = false;          ///< false: plain dense rows in `Exact` only
  bool rotated = false;        ///< codes are of H . row
  int64_t rank = 0;            ///< > 0: coefficients of a factor
  ElementType factorElem = ElementType::F16;
  int64_t bits = 0, tile = 0;  ///< affine, 0 when not; tile = 0 with `tiles`
  struct Tile {
    int64_t extent, size;
  };
  std::vector<Tile> tiles;     ///< affine groups over several axes: one for each feature axis; empty: groups of `tile`
  int64_t tileRows = 1;        ///< with `tiles`: rows that share scale and zero
  TileAxis tileAxis = TileAxis::Channel;
  ZeroKind zero = ZeroKind::None;
  ElementType zeroType = ElementType::F16, scaleType = ElementType::F16;
  double clip = 1.0;
  int64_t sinks = 0, keep = 0, block = 1;
  std::vector<SegmentLayout> segments;

  bool affine() const { return bits > 0; }
  const SegmentLayout *segment(SegmentKind kind) const {
    for (const SegmentLayout &s : segments) {
      if (s.kind == kind) {
        return &s;
      }
    }
    return nullptr;
  }
  /// Rows that may be removed without re-encoding the others.
  int64_t granule() const { return !affine() ? 1 : tileAxis == TileAxis::Token ? tile : tileRows; }
  /// Groups of one row (tile over channel, or over several axes).
  int64_t groupsPerRow() const {
    int64_t groups = tiles.empty() ? (tile > 0 ? (width + tile - 1) / tile : 0) : 1;
    for (const Tile &t : tiles) {
      groups *= (t.extent + t.size - 1) / t.size;
    }
    return groups;
  }
  /// The group of value `j` of a row (tile over channel, or over several axes).
  int64_t groupOf(int64_t j) const {
    if (tiles.empty()) {
      return j / tile;
    }
    int64_t group = 0, stride = 1;
    for (size_t i = tiles.size(); i-- > 0;) {
      group += j % tiles[i].extent / tiles[i].size * stride;
      stride *= (tiles[i].extent + tiles[i].size - 1) / tiles[i].size;
      j /= tiles[i].extent;
    }
    return group;
  }
  int64_t codeRowBytes() const { return (width * bits + 7) / 8; }
  /// How many of `rows` rows are coded after a commit (docs/layouts.md, recent).
  int64_t codedRowsAfterCommit(int64_t rows) const {
    if (!coded) {
      return 0;
    }
    int64_t beyond = rows - sinks - keep;
    return beyond <= 0 ? 0 : beyond / block * block;
  }
  double bitsPerExactRow() const { return 8.0 * static_cast<double>(width * bytesOf(exactElem)); }
  /// Metadata included.
  double bitsPerCodedRow() const {
    if (rank > 0) {
      return 8.0 * static_cast<double>(rank * bytesOf(factorElem));
    }
    if (!affine()) {
      return bitsPerExactRow();
    }
    double meta = 8.0 * static_cast<double>(bytesOf(scaleType) + (zero == ZeroKind::None ? 0 : bytesOf(zeroType)));
    double codes = static_cast<double>(width * bits);
    return tileAxis == TileAxis::Token ? codes + meta * static_cast<double>(width) / static_cast<double>(tile)
                                       : codes + meta * static_cast<double>(groupsPerRow()) / static_cast<double>(tileRows);
  }
  /// Stored bits of `rows` rows of which `codedRows` are coded.
  double bitsOf(int64_t rows, int64_t codedRows) const {
    return static_cast<double>(rows - codedRows) * bitsPerExactRow() + static_cast<double>(codedRows) * bitsPerCodedRow();
  }
};

/// Lays out a column of `width` values per row. Returns nothing and says why in `error` when the term
/// has unbound symbols or is not well-formed; the dialect's type verifier reports the same text.
std::optional<ColumnLayout> computeColumnLayout(const StorageTerm &term, int64_t width, ElementType act, std::string &error);

} // namespace kvcache::abi

#include "runtime/abi/StorageLayoutOf.h"
