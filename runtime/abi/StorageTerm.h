// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Storage terms: how the rows of a cache column are held. A term is an algebra of linear maps over
// dense rows; the dialect prints it inside types, executables carry the same text, and
// StorageLayout.h derives from it the layout, the bits per row and the granule. No MLIR here.
//
//   S ::= elem | act                                        f32 f16 bf16 i32 ...; `act` = the model's type
//       | affine<bits, tile(axis:n, ..), min_T|zp_T|none, scale_T, [clip(c),] lsb(axis)>
//       | factor<rank, T>                                   row = coeff . basis^T + mean (basis, mean: artefacts of the state)
//       | rotated<S, hadamard>                              row = H . S, H the orthonormal Hadamard matrix of the row
//       | recent<S, keep(k), block(b)>                      newest rows exact; while exact rows >= k + b, code the oldest b
//       | sinks<S, n>                                       the first n rows exact
//
// tile(token:n) and tile(channel:n) run over one axis; `channel` then means all feature axes of the column, flattened.
// tile(token:a, channel:b) or tile(head:*, channel:b) runs over several: each axis is itself, one that is not named is not
// shared, and `*` is the whole axis (of tokens: the rows that are coded together). Extents are integers or symbols
// (geometry or parameters) that are bound at `specialized`, where such a tile also learns its axes: head:2 of 8.

#pragma once

#include "runtime/abi/ElementType.h"

#include <charconv>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kvcache::abi {

/// An integer, or the name of a symbol that stands for one.
struct Extent {
  int64_t value = 0;
  std::string symbol;

  bool isBound() const { return symbol.empty(); }
  std::string str() const { return isBound() ? std::to_string(value) : symbol; }
  bool operator==(const Extent &other) const { return value == other.value && symbol == other.symbol; }
};

/// A tile along one of several axes.
struct TileExtent {
  std::string axis;   ///< token, or the kind of a feature axis
  Extent size;        ///< rows, or values along the axis, that share scale and zero
  bool whole = false; ///< `*`
  int64_t of = 0;     ///< extent of the feature axis; 0 while that is not known
};

enum class TileAxis : uint8_t { Token, Channel };
enum class ZeroKind : uint8_t { None, Min, Point };
enum class TermKind : uint8_t { Dense, Affine, Factor, Rotated, Recent, Sinks };

/// One term. Only the fields of its kind are meaningful; `inner` is the term it wraps.
struct StorageTerm {
  TermKind kind = TermKind::Dense;
  ElementType elem = ElementType::F16; ///< Dense, Factor
  bool elemIsAct = false;              ///< Dense, Factor: elem is the symbol `act`
  Extent bits, tile;                   ///< Affine; `tile` and `tileAxis` of a tile over one axis
  std::vector<TileExtent> tiles;       ///< Affine: a tile over several axes, or of a whole one
  TileAxis tileAxis = TileAxis::Channel;
  TileAxis packAxis = TileAxis::Channel;
  ZeroKind zero = ZeroKind::Min;
  ElementType zeroType = ElementType::F16, scaleType = ElementType::F16;
  double clip = 1.0;
  Extent clipSymbolic;                 ///< Affine: symbol form of clip, when it is a parameter
  Extent rank;                         ///< Factor
  Extent keep, block;                  ///< Recent
  Extent count;                        ///< Sinks
  std::shared_ptr<const StorageTerm> inner; ///< Rotated, Recent, Sinks

  std::string str() const;
  std::string tilesText() const;
};

/// Parses `text`; on failure returns null and says in `error` what was expected and where.
std::shared_ptr<const StorageTerm> parseStorageTerm(std::string_view text, std::string &error);

// ---- implementation (header-only: dialect, passes and runtime all include it) ----------------------

inline std::string axisName(TileAxis axis) { return axis == TileAxis::Token ? "token" : "channel"; }

inline std::string StorageTerm::tilesText() const {
  std::string text;
  for (const TileExtent &t : tiles) {
    text += (text.empty() ? "" : ", ") + t.axis + ":" + (t.whole ? "*" : t.size.str());
    text += t.of > 0 ? " of " + std::to_string(t.of) : "";
  }
  return text;
}

inline std::string StorageTerm::str() const {
  std::string element = elemIsAct ? "act" : std::string(nameOf(elem));
  switch (kind) {
  case TermKind::Dense:
    return element;
  case TermKind::Affine: {
    std::string text = "affine<" + bits.str() + ", tile(" + (tiles.empty() ? axisName(tileAxis) + ":" + tile.str() : tilesText()) + "), ";
    if (zero == ZeroKind::None) {
      text += "none";
    } else {
      text += (zero == ZeroKind::Min ? "min_" : "zp_") + std::string(nameOf(zeroType));
    }
    text += ", scale_" + std::string(nameOf(scaleType));
    if (!clipSymbolic.symbol.empty()) {
      text += ", clip(" + clipSymbolic.symbol + ")";
    } else if (clip != 1.0) {
      char buffer[32];
      auto end = std::to_chars(buffer, buffer + sizeof(buffer), clip).ptr;
      std::string number(buffer, end);
      text += ", clip(" + number + (number.find('.') == std::string::npos ? ".0)" : ")");
    }
    return text + ", lsb(" + axisName(packAxis) + ")>";
  }
  case TermKind::Factor:
    return "factor<" + rank.str() + ", " + element + ">";
  case TermKind::Rotated:
    return "rotated<" + inner->str() + ", hadamard>";
  case TermKind::Recent:
    return "recent<" + inner->str() + ", keep(" + keep.str() + "), block(" + block.str() + ")>";
  case TermKind::Sinks:
    return "sinks<" + inner->str() + ", " + count.str() + ">";
  }
  return {};
}

} // namespace kvcache::abi

#include "runtime/abi/StorageTermParser.h"
