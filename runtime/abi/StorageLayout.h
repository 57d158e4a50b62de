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
//   Scales  tile over channel: [rowsPerPage][ceil(n/tile)]; tile over token: [rowsPerPage/tile][n]
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
  int64_t bits = 0, tile = 0;  ///< affine, 0 when not
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
  int64_t granule() const { return affine() && tileAxis == TileAxis::Token ? tile : 1; }
  /// Groups along the tile axis of one row (tile over channel).
  int64_t groupsPerRow() const { return tile > 0 ? (width + tile - 1) / tile : 0; }
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
                                       : codes + meta * static_cast<double>(groupsPerRow());
  }
  /// Stored bits of `rows` rows of which `codedRows` are coded.
  double bitsOf(int64_t rows, int64_t codedRows) const {
    return static_cast<double>(rows - codedRows) * bitsPerExactRow() + static_cast<double>(codedRows) * bitsPerCodedRow();
  }
};

/// Lays out a column of `width` values per row. Returns nothing and says why in `error` when the term
/// has unbound symbols or is not well-formed; the dialect's type verifier reports the same text.
std::optional<ColumnLayout> computeColumnLayout(const StorageTerm &term, int64_t width, ElementType act, std::string &error);

// ---- implementation -------------------------------------------------------------------------------

namespace detail {

inline SegmentLayout denseSegment(SegmentKind kind, int64_t rows, int64_t width, ElementType elem) {
  int64_t rowBytes = width * bytesOf(elem);
  return {kind, rows, rows * rowBytes + pageSlackBytes, {{PlaneRole::Rows, elem, 0, 1, rowBytes}}};
}

inline int64_t alignTo(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

inline SegmentLayout affineSegment(const ColumnLayout &c, int64_t rows) {
  SegmentLayout segment{SegmentKind::Coded, rows, 0, {}};
  bool overTokens = c.tileAxis == TileAxis::Token;
  int64_t unitRows = overTokens ? c.tile : 1;
  int64_t units = rows / unitRows;
  int64_t codeBytes = overTokens ? c.tile * c.bits / 32 * 4 * c.width : c.codeRowBytes();
  int64_t groups = overTokens ? c.width : c.groupsPerRow();
  int64_t offset = 0;
  auto add = [&](PlaneRole role, ElementType elem, int64_t bytesPerUnit) {
    segment.planes.push_back({role, elem, offset, unitRows, bytesPerUnit});
    offset = alignTo(offset + units * bytesPerUnit, 64);
  };
  add(PlaneRole::Codes, overTokens ? ElementType::I32 : ElementType::U8, codeBytes);
  add(PlaneRole::Scales, c.scaleType, groups * bytesOf(c.scaleType));
  if (c.zero != ZeroKind::None) {
    add(PlaneRole::Zeros, c.zeroType, groups * bytesOf(c.zeroType));
  }
  segment.pageBytes = offset + pageSlackBytes;
  return segment;
}

inline bool bound(const Extent &extent, const char *what, int64_t least, int64_t most, std::string &error) {
  if (!extent.isBound()) {
    error = std::string(what) + " is the unbound symbol '" + extent.symbol + "'";
  } else if (extent.value < least || extent.value > most) {
    error = std::string("expected ") + what + " in [" + std::to_string(least) + ", " + std::to_string(most) + "], got " + extent.str();
  }
  return error.empty();
}

inline bool unfoldAffine(const StorageTerm &term, int64_t width, ColumnLayout &c, std::string &error) {
  if (!bound(term.bits, "bits", 2, 8, error) || !bound(term.tile, "tile", 1, 1 << 16, error)) {
    return false;
  }
  c.bits = term.bits.value;
  c.tile = term.tile.value;
  if (c.bits != 2 && c.bits != 3 && c.bits != 4 && c.bits != 8) {
    error = "expected bits 2, 3, 4 or 8, got " + term.bits.str();
  } else if (term.packAxis != term.tileAxis) {
    error = "expected codes packed along the tile axis '" + axisName(term.tileAxis) + "', got lsb(" + axisName(term.packAxis) + ")";
  } else if (term.tileAxis == TileAxis::Token && (32 % c.bits != 0 || c.tile * c.bits % 32 != 0)) {
    error = "expected tile(token:n) with bits dividing 32 and n * bits a multiple of 32, got n = " + term.tile.str() + ", bits = " + term.bits.str();
  } else if (!term.clipSymbolic.symbol.empty()) {
    error = "clip is the unbound symbol '" + term.clipSymbolic.symbol + "'";
  }
  if (!error.empty()) {
    return false;
  }
  if (term.tileAxis == TileAxis::Channel) {
    c.tile = c.tile < width ? c.tile : width;
  }
  c.tileAxis = term.tileAxis;
  c.zero = term.zero;
  c.zeroType = term.zeroType;
  c.scaleType = term.scaleType;
  c.clip = term.clip;
  return true;
}

inline bool unfold(const StorageTerm &term, int64_t width, ElementType act, ColumnLayout &c, std::string &error) {
  switch (term.kind) {
  case TermKind::Dense:
    c.exactElem = c.coded ? act : (term.elemIsAct ? act : term.elem);
    return true;
  case TermKind::Affine:
    c.coded = true;
    return unfoldAffine(term, width, c, error);
  case TermKind::Factor:
    c.coded = true;
    c.rank = term.rank.value;
    c.factorElem = term.elemIsAct ? act : term.elem;
    return bound(term.rank, "rank", 1, width, error);
  case TermKind::Rotated:
    c.coded = c.rotated = true;
    if ((width & (width - 1)) != 0) {
      error = "expected a power of two of values per row under rotated<..., hadamard>, got " + std::to_string(width);
    } else if (term.inner->kind != TermKind::Affine) {
      error = "expected an affine term inside rotated<..., hadamard>, got '" + term.inner->str() + "'";
    }
    return error.empty() && unfold(*term.inner, width, act, c, error);
  case TermKind::Recent:
    c.coded = true;
    c.keep = term.keep.value;
    c.block = term.block.value;
    return bound(term.keep, "keep", 0, 1 << 20, error) && bound(term.block, "block", 1, 1 << 20, error) &&
           unfold(*term.inner, width, act, c, error);
  case TermKind::Sinks:
    c.coded = true;
    c.sinks = term.count.value;
    return bound(term.count, "sinks", 0, 1 << 20, error) && unfold(*term.inner, width, act, c, error);
  }
  return false;
}

} // namespace detail

inline std::optional<ColumnLayout> computeColumnLayout(const StorageTerm &term, int64_t width, ElementType act, std::string &error) {
  error.clear();
  ColumnLayout c;
  c.width = width;
  c.exactElem = act;
  if (!detail::unfold(term, width, act, c, error)) {
    return std::nullopt;
  }
  if (!c.coded) {
    c.segments.push_back(detail::denseSegment(SegmentKind::Exact, defaultRowsPerPage, width, c.exactElem));
    return c;
  }
  if (!c.affine() && c.rank == 0) {
    error = "expected an affine or factor term inside recent<> or sinks<>, got '" + term.str() + "'";
    return std::nullopt;
  }
  if (c.granule() > 1 && (c.block % c.granule() != 0 || c.sinks % c.granule() != 0)) {
    error = "expected recent block and sinks to be multiples of the token tile " + std::to_string(c.granule()) + ", got block " +
            std::to_string(c.block) + ", sinks " + std::to_string(c.sinks);
    return std::nullopt;
  }
  int64_t codedRows = detail::alignTo(defaultRowsPerPage, c.granule());
  if (c.sinks > 0) {
    c.segments.push_back(detail::denseSegment(SegmentKind::Sinks, exactRowsPerPageOfCodedColumn, width, act));
  }
  if (c.rank > 0) {
    c.segments.push_back(detail::denseSegment(SegmentKind::Coded, codedRows, c.rank, c.factorElem));
  } else {
    c.segments.push_back(detail::affineSegment(c, codedRows));
  }
  c.segments.push_back(detail::denseSegment(SegmentKind::Exact, exactRowsPerPageOfCodedColumn, width, act));
  return c;
}

} // namespace kvcache::abi
