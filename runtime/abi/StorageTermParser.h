// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text to storage term. Included by StorageTerm.h, which states the grammar; header-only like the rest of the
// contract, and without exceptions.

#pragma once

#include "runtime/abi/StorageTerm.h"

#include <cctype>

namespace kvcache::abi {

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
  bool peek(char c) {
    skipSpace();
    return pos_ < text_.size() && text_[pos_] == c;
  }
  /// axis:n [of extent], axis:*
  bool parseTile(TileExtent &tile) {
    tile.axis = word();
    if (peek('.')) { // a basis tag, as in axis()
      ++pos_;
      word();
    }
    if (tile.axis.empty() || !take(':')) {
      return fail("the axis of a tile"), false;
    }
    tile.whole = peek('*');
    if (tile.whole) {
      ++pos_;
    } else if (!extent(tile.size)) {
      return false;
    }
    size_t before = pos_;
    if (word() != "of") {
      pos_ = before;
      return true;
    }
    Extent of;
    if (!extent(of) || !of.isBound() || of.value < 1) {
      return fail("the extent of the axis after 'of'"), false;
    }
    tile.of = of.value;
    return true;
  }
  /// The list in tile(..), its closing bracket included.
  bool parseTiles(StorageTerm &term) {
    std::vector<TileExtent> tiles;
    do {
      tiles.emplace_back();
      if (tiles.size() > 8 || !parseTile(tiles.back())) {
        return fail("at most 8 axes of a tile"), false;
      }
    } while (peek(',') && take(','));
    const TileExtent &first = tiles.front();
    if (tiles.size() == 1 && !first.whole && first.of == 0 && (first.axis == "token" || first.axis == "channel")) {
      term.tileAxis = first.axis == "token" ? TileAxis::Token : TileAxis::Channel;
      term.tile = first.size;
    } else {
      term.tiles = std::move(tiles);
    }
    return take(')');
  }
  bool parseAffine(StorageTerm &term) {
    term.kind = TermKind::Affine;
    if (!(take('<') && extent(term.bits) && take(',') && keyword("tile") && take('(') && parseTiles(term) && take(','))) {
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
