// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Storage term to layout. Included by StorageLayout.h, which says what a layout is; header-only like the rest of the
// contract, and without exceptions.

#pragma once

#include "runtime/abi/StorageLayout.h"

namespace kvcache::abi {

namespace detail {

inline SegmentLayout denseSegment(SegmentKind kind, int64_t rows, int64_t width, ElementType elem) {
  int64_t rowBytes = width * bytesOf(elem);
  return {kind, rows, rows * rowBytes + pageSlackBytes, {{PlaneRole::Rows, elem, 0, 1, rowBytes}}};
}

inline int64_t alignTo(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

inline SegmentLayout affineSegment(const ColumnLayout &c, int64_t rows) {
  SegmentLayout segment{SegmentKind::Coded, rows, 0, {}};
  bool overTokens = c.tileAxis == TileAxis::Token;
  int64_t codeRows = overTokens ? c.tile : 1;
  int64_t codeBytes = overTokens ? c.tile * c.bits / 32 * 4 * c.width : c.codeRowBytes();
  int64_t groups = overTokens ? c.width : c.groupsPerRow();
  int64_t offset = 0;
  auto add = [&](PlaneRole role, ElementType elem, int64_t unitRows, int64_t bytesPerUnit) {
    segment.planes.push_back({role, elem, offset, unitRows, bytesPerUnit});
    offset = alignTo(offset + rows / unitRows * bytesPerUnit, 64);
  };
  add(PlaneRole::Codes, overTokens ? ElementType::I32 : ElementType::U8, codeRows, codeBytes);
  add(PlaneRole::Scales, c.scaleType, c.granule(), groups * bytesOf(c.scaleType));
  if (c.zero != ZeroKind::None) {
    add(PlaneRole::Zeros, c.zeroType, c.granule(), groups * bytesOf(c.zeroType));
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

/// A tile over several axes. One whose groups are neighbouring values of single rows is a tile over channel.
inline bool unfoldTiles(const StorageTerm &term, int64_t width, ColumnLayout &c, std::string &error) {
  int64_t product = 1, features = 0;
  for (const TileExtent &t : term.tiles) {
    features += t.axis == "token" ? 0 : 1;
  }
  for (const TileExtent &t : term.tiles) {
    bool token = t.axis == "token";
    int64_t extent = token ? c.block : t.of > 0 ? t.of : features == 1 ? width : 0;
    if (extent == 0) {
      error = "expected a tile over feature axes of the column, got tile(" + term.tilesText() + ")";
      return false;
    }
    if (!t.whole && !bound(t.size, "tile", 1, 1 << 16, error)) {
      return false;
    }
    int64_t size = t.whole ? extent : t.size.value;
    if (token) {
      c.tileRows = size;
    } else {
      c.tiles.push_back({extent, size < extent ? size : extent});
      product *= extent;
    }
  }
  if (features == 0) {
    c.tiles.push_back({width, 1});
    product = width;
  }
  if (product != width) {
    error = "expected a tile over axes of " + std::to_string(width) + " values, got tile(" + term.tilesText() + ")";
    return false;
  }
  int64_t neighbours = 1;
  size_t i = c.tiles.size();
  while (i > 0 && c.tiles[i - 1].size == c.tiles[i - 1].extent) {
    neighbours *= c.tiles[--i].extent;
  }
  bool divides = i == 0 || c.tiles[i - 1].extent % c.tiles[i - 1].size == 0;
  neighbours *= i == 0 ? 1 : c.tiles[i - 1].size;
  for (size_t outer = 0; outer + 1 < i; ++outer) {
    divides = divides && c.tiles[outer].size == 1;
  }
  if (c.tileRows == 1 && divides) {
    c.tiles.clear();
    c.tile = neighbours;
  }
  return true;
}

inline bool unfoldAffine(const StorageTerm &term, int64_t width, ColumnLayout &c, std::string &error) {
  if (!bound(term.bits, "bits", 2, 8, error) ||
      (term.tiles.empty() ? !bound(term.tile, "tile", 1, 1 << 16, error) : !unfoldTiles(term, width, c, error))) {
    return false;
  }
  c.bits = term.bits.value;
  c.tile = term.tiles.empty() ? term.tile.value : c.tile;
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
