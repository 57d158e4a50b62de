// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Storage terms: how the rows of a cache column are held. A term is an algebra of linear maps over
// dense rows; the dialect prints it inside types, executables carry the same text, and
// StorageLayout.h derives from it the layout, the bits per row and the granule. No MLIR here.
//
//   S ::= elem | act                                        f32 f16 bf16 i32 ...; `act` = the model's type
//       | affine<bits, tile(axis:n), min_T|zp_T|none, scale_T, [clip(c),] lsb(axis)>
//       | factor<rank, T>                                   row = coeff . basis^T + mean (basis, mean: artefacts of the state)
//       | rotated<S, hadamard>                              row = H . S, H the orthonormal Hadamard matrix of the row
//       | recent<S, keep(k), block(b)>                      newest rows exact; while exact rows >= k + b, code the oldest b
//       | sinks<S, n>                                       the first n rows exact
//
// axis is `token` or `channel` (all feature axes of the column, flattened). Extents are integers or
// symbols (geometry or parameters) that are bound at `specialized`.

#pragma once

#include "runtime/abi/ElementType.h"

#include <charconv>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace kvcache::abi {

/// An integer, or the name of a symbol that stands for one.
struct Extent {
  int64_t value = 0;
  std::string symbol;

  bool isBound() const { return symbol.empty(); }
  std::string str() const { return isBound() ? std::to_string(value) : symbol; }
  bool operator==(const Extent &other) const { return value == other.value && symbol == other.symbol; }
};

enum class TileAxis : uint8_t { Token, Channel };
enum class ZeroKind : uint8_t { None, Min, Point };
enum class TermKind : uint8_t { Dense, Affine, Factor, Rotated, Recent, Sinks };

/// One term. Only the fields of its kind are meaningful; `inner` is the term it wraps.
struct StorageTerm {
  TermKind kind = TermKind::Dense;
  ElementType elem = ElementType::F16; ///< Dense, Factor
  bool elemIsAct = false;              ///< Dense, Factor: elem is the symbol `act`
  Extent bits, tile;                   ///< Affine
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
};

/// Parses `text`; on failure returns null and says in `error` what was expected and where.
std::shared_ptr<const StorageTerm> parseStorageTerm(std::string_view text, std::string &error);

// ---- implementation (header-only: dialect, passes and runtime all include it) ----------------------

inline std::string axisName(TileAxis axis) { return axis == TileAxis::Token ? "token" : "channel"; }

inline std::string StorageTerm::str() const {
  std::string element = elemIsAct ? "act" : std::string(nameOf(elem));
  switch (kind) {
  case TermKind::Dense:
    return element;
  case TermKind::Affine: {
    std::string text = "affine<" + bits.str() + ", tile(" + axisName(tileAxis) + ":" + tile.str() + "), ";
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
