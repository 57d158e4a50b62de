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

#include <cctype>
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

namespace detail {

/// Recursive descent over the grammar at the top of the file; nesting is limited against hostile text.
class StorageTermParser {
public:
  StorageTermParser(std::string_view text, std::string &error) : text_(text), error_(error) {}

  std::shared_ptr<const StorageTerm> parseAll() {
    auto term = parseTerm(0);
    skipSpace();
    if (term && pos_ != text_.size()) {
      return fail("end of storage term");
    }
    return term;
  }

private:
  std::shared_ptr<const StorageTerm> fail(const std::string &expected) {
    if (error_.empty()) {
      error_ = "expected " + expected + " at position " + std::to_string(pos_) + " of storage term '" + std::string(text_) + "'";
    }
    return nullptr;
  }
  void skipSpace() {
    while (pos_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[pos_]))) {
      ++pos_;
    }
  }
  bool take(char c) {
    skipSpace();
    if (pos_ < text_.size() && text_[pos_] == c) {
      ++pos_;
      return true;
    }
    fail(std::string("'") + c + "'");
    return false;
  }
  std::string word() {
    skipSpace();
    size_t start = pos_;
    while (pos_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[pos_])) || text_[pos_] == '_')) {
      ++pos_;
    }
    return std::string(text_.substr(start, pos_ - start));
  }
  bool extent(Extent &out) {
    std::string token = word();
    if (token.empty()) {
      fail("an integer or a symbol");
      return false;
    }
    if (!std::isdigit(static_cast<unsigned char>(token[0]))) {
      out.symbol = token;
      return true;
    }
    auto result = std::from_chars(token.data(), token.data() + token.size(), out.value);
    if (result.ec != std::errc() || result.ptr != token.data() + token.size()) {
      fail("an integer");
      return false;
    }
    return true;
  }
  bool keyword(const char *expected) {
    if (word() == expected) {
      return true;
    }
    fail(std::string("'") + expected + "'");
    return false;
  }
  bool axis(TileAxis &out) {
    std::string token = word();
    // A basis tag may follow the kind (channel.post); the column's axes carry the basis.
    if (pos_ < text_.size() && text_[pos_] == '.') {
      ++pos_;
      word();
    }
    if (token != "token" && token != "channel") {
      fail("'token' or 'channel'");
      return false;
    }
    out = token == "token" ? TileAxis::Token : TileAxis::Channel;
    return true;
  }
  bool typeSuffix(const std::string &token, size_t prefix, ElementType &out) {
    if (elementTypeFromName(std::string_view(token).substr(prefix), out)) {
      return true;
    }
    fail("an element type after '_'");
    return false;
  }

  std::shared_ptr<const StorageTerm> parseTerm(int depth) {
    if (depth > 8) {
      return fail("at most 8 nested terms");
    }
    std::string name = word();
    auto term = std::make_shared<StorageTerm>();
    if (name == "affine") {
      return parseAffine(*term) ? term : nullptr;
    }
    if (name == "factor") {
      term->kind = TermKind::Factor;
      return take('<') && extent(term->rank) && take(',') && parseElement(word(), *term) && take('>') ? term : nullptr;
    }
    if (name == "rotated" || name == "recent" || name == "sinks") {
      if (!take('<')) {
        return nullptr;
      }
      term->inner = parseTerm(depth + 1);
      return term->inner && take(',') && parseWrapper(name, *term) && take('>') ? term : nullptr;
    }
    return parseElement(name, *term) ? term : nullptr;
  }
  bool parseElement(const std::string &name, StorageTerm &term) {
    term.elemIsAct = name == "act";
    if (term.elemIsAct || elementTypeFromName(name, term.elem)) {
      return true;
    }
    fail("an element type, 'act', 'affine', 'factor', 'rotated', 'recent' or 'sinks'");
    return false;
  }
  bool parseWrapper(const std::string &name, StorageTerm &term) {
    if (name == "rotated") {
      term.kind = TermKind::Rotated;
      return keyword("hadamard");
    }
    if (name == "sinks") {
      term.kind = TermKind::Sinks;
      return extent(term.count);
    }
    term.kind = TermKind::Recent;
    return keyword("keep") && take('(') && extent(term.keep) && take(')') && take(',') && keyword("block") && take('(') &&
           extent(term.block) && take(')');
  }
  bool parseAffine(StorageTerm &term) {
    term.kind = TermKind::Affine;
    if (!(take('<') && extent(term.bits) && take(',') && keyword("tile") && take('(') && axis(term.tileAxis) && take(':') &&
          extent(term.tile) && take(')') && take(','))) {
      return false;
    }
    std::string zero = word();
    if (zero == "none") {
      term.zero = ZeroKind::None;
    } else if (zero.rfind("min_", 0) == 0) {
      term.zero = ZeroKind::Min;
      if (!typeSuffix(zero, 4, term.zeroType)) {
        return false;
      }
    } else if (zero.rfind("zp_", 0) == 0) {
      term.zero = ZeroKind::Point;
      if (!typeSuffix(zero, 3, term.zeroType)) {
        return false;
      }
    } else {
      fail("'min_T', 'zp_T' or 'none'");
      return false;
    }
    if (!take(',')) {
      return false;
    }
    std::string scale = word();
    if (scale.rfind("scale_", 0) != 0) {
      fail("'scale_T'");
      return false;
    }
    if (!typeSuffix(scale, 6, term.scaleType) || !take(',')) {
      return false;
    }
    std::string next = word();
    if (next == "clip") {
      if (!take('(') || !parseClip(term) || !take(')') || !take(',')) {
        return false;
      }
      next = word();
    }
    if (next != "lsb") {
      fail("'lsb'");
      return false;
    }
    return take('(') && axis(term.packAxis) && take(')') && take('>');
  }
  bool parseClip(StorageTerm &term) {
    skipSpace();
    if (pos_ < text_.size() && std::isalpha(static_cast<unsigned char>(text_[pos_]))) {
      term.clipSymbolic.symbol = word();
      return true;
    }
    auto result = std::from_chars(text_.data() + pos_, text_.data() + text_.size(), term.clip);
    if (result.ec != std::errc() || !(term.clip > 0.0 && term.clip <= 1.0)) {
      fail("a clip ratio in (0, 1]");
      return false;
    }
    pos_ = static_cast<size_t>(result.ptr - text_.data());
    return true;
  }

  std::string_view text_;
  std::string &error_;
  size_t pos_ = 0;
};

} // namespace detail

inline std::shared_ptr<const StorageTerm> parseStorageTerm(std::string_view text, std::string &error) {
  error.clear();
  return detail::StorageTermParser(text, error).parseAll();
}

} // namespace kvcache::abi
