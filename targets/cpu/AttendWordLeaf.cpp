// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Affine codes tiled over channels, read as vectors of 16 words: lane l holds word l mod n of row l / n, n words a row.
// Nothing is moved to channel order: queries are brought into the order of the words once per task, sums out of it when the
// splits are merged. Scales multiply sums of code * query over a group, not codes.
//
// Invariant: groups are whole words, so a lane has one scale and one zero; a row that is not asked for may be read (its
// page holds it or the slack does) but reaches no logit before the first row and no value sum.

#include "targets/cpu/AttendCodes.h"

#include "llvm/ADT/bit.h"
#include "llvm/Support/MathExtras.h"

#include <optional>

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::PlaneLayout;
using ::kvcache::abi::PlaneRole;
using ::kvcache::abi::TileAxis;

bool mlir::kvcache::cpu::canReadWords(const ColumnLayout &column) {
  if (column.tileAxis != TileAxis::Channel || (column.bits != 2 && column.bits != 4 && column.bits != 8) ||
      column.width * column.bits % 32 != 0) {
    return false;
  }
  int64_t words = column.width * column.bits / 32, perWord = 32 / column.bits;
  bool wholeGroups = column.tile >= column.width || (column.tile % perWord == 0 && llvm::isPowerOf2_64(column.tile / perWord));
  return wholeGroups && words >= 4 && (words >= lanes ? words % lanes == 0 : lanes % words == 0);
}

namespace {

/// The map from lanes to words.
struct WordMap {
  explicit WordMap(const ColumnLayout &column)
      : perWord(32 / column.bits), words(column.width / perWord), rows(std::max<int64_t>(1, lanes / words)),
        parts(std::max<int64_t>(1, words / lanes)) {}

  int64_t perWord; ///< codes of a word
  int64_t words;   ///< words of a row
  int64_t rows;    ///< rows of a vector (1 where a row has 16 words or more)
  int64_t parts;   ///< vectors of a row (1 where a row has 16 words or less)
};

/// What both sides read from pages.
class WordRows {
public:
  WordRows(AttendContext &ctx, SegmentAccess segment)
      : ctx_(ctx), k_(ctx.k), segment_(segment), unpacker_(ctx.k, *segment.column), map_(*segment.column), perWord_(map_.perWord),
        words_(map_.words), rows_(map_.rows), parts_(map_.parts) {}

protected:
  /// The words of part `part` of the rows that start at row + ahead * rows_.
  Value loadWords(Value row, Value page, int64_t ahead, int64_t part) {
    const PlaneLayout &plane = *segment_.layout->plane(PlaneRole::Codes);
    Value address = k_.add(ctx_.store.unit(segment_, PlaneRole::Codes, row, page), ahead * rows_ * plane.bytesPerUnit + part * 64);
    return k_.loadBytesAs(ctx_.store.arena(), address, k_.vec(k_.i32Type()));
  }
  /// Scales or zeros of the same lanes; null when there is no such plane.
  Value loadGroups(PlaneRole role, Value row, Value page, int64_t ahead, int64_t part) {
    const PlaneLayout *plane = segment_.layout->plane(role);
    if (!plane) {
      return Value();
    }
    int64_t groups = segment_.column->groupsPerRow(), tile = segment_.column->tile;
    int64_t first = part * lanes * perWord_ / tile;
    SmallVector<int64_t> which;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      int64_t word = part * lanes + lane % std::min(words_, lanes);
      which.push_back(lane / std::min(words_, lanes) * groups + word * perWord_ / tile - first);
    }
    int64_t bytes = ahead * rows_ * plane->bytesPerUnit + first * ::kvcache::abi::bytesOf(plane->elem);
    Value address = k_.add(ctx_.store.unit(segment_, role, row, page), bytes);
    return spreadLanes(k_, loadGroupValues(ctx_, address, plane->elem, which.back() + 1), which);
  }
  /// Scales and zeros of all rows of the next page.
  void prefetchTerms(Value row, Value nextPage) {
    Value pageRow = k_.mul(k_.floorDiv(row, segment_.layout->rowsPerPage), segment_.layout->rowsPerPage);
    for (PlaneRole role : {PlaneRole::Scales, PlaneRole::Zeros}) {
      if (const PlaneLayout *plane = segment_.layout->plane(role)) {
        prefetchBytes(ctx_, ctx_.store.unit(segment_, role, pageRow, nextPage), segment_.layout->rowsPerPage * plane->bytesPerUnit);
      }
    }
  }
  void prefetchRows(Value row, Value nextPage, int64_t rows) {
    for (PlaneRole role : {PlaneRole::Codes, PlaneRole::Scales, PlaneRole::Zeros}) {
      if (const PlaneLayout *plane = segment_.layout->plane(role)) {
        prefetchBytes(ctx_, ctx_.store.unit(segment_, role, row, nextPage), rows * plane->bytesPerUnit);
      }
    }
  }

  AttendContext &ctx_;
  KernelBuilder &k_;
  SegmentAccess segment_;
  CodeUnpacker unpacker_;
  WordMap map_;
  int64_t perWord_, words_, rows_, parts_;
};

class WordLogitLeaf final : public AttendLogitLeaf, WordRows {
public:
  WordLogitLeaf(AttendContext &ctx, SegmentAccess segment, Value queries, std::vector<std::function<void()>> &prepare)
      : WordRows(ctx, segment), source_(queries) {
    int64_t group = ctx.spec.group();
    queries_ = attendScratch(k_, group * parts_ * perWord_ * lanes);
    querySums_ = attendScratch(k_, group * parts_ * lanes);
    int64_t heads = attendRegisterTile(ctx.spec).heads, vectors = rows_ == 1 ? 16 / heads : 8 / heads;
    vectors_ = llvm::bit_floor<uint64_t>(std::clamp<int64_t>(vectors, 1, lanes / rows_));
    groupSums_ = attendScratch(k_, (group + heads) * vectors_ * parts_ * lanes);
    prepare.push_back([this] {
      orderQueries();
      forHeads([&](int64_t head, int64_t heads) { addQueryGroups(head, heads); });
    });
  }

  void emit(Value lo, Value hi, Value tileStart) override {
    ctx_.store.forPages(segment_, lo, hi, [&](Value first, Value end, Value page) {
      Value next = nextAttendPage(ctx_, segment_, first);
      int64_t step = vectors_ * rows_;
      Value full = k_.sub(end, k_.rem(k_.sub(end, first), step));
      k_.forLoop(first, full, k_.index(step), [&](Value row) {
        prefetchRows(row, next, step);
        emitRows(row, page, vectors_, tileStart);
      });
      k_.forLoop(full, end, k_.index(rows_), [&](Value row) { emitRows(row, page, 1, tileStart); });
    });
  }

private:
  /// queries_[head][part][j][lane] = q / weight(j) of code j of the lane's word; querySums_[head][part][lane] = sum of q.
  void orderQueries() {
    SmallVector<int32_t> offsets;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      offsets.push_back(static_cast<int32_t>(lane % words_ * perWord_));
    }
    Value lanesOffsets = arith::ConstantOp::create(k_.builder(), k_.loc(),
                                                   DenseElementsAttr::get(k_.vec(k_.i32Type()), ArrayRef<int32_t>(offsets)));
    k_.forLoop(k_.index(ctx_.spec.group()), [&](Value head) {
      for (int64_t part = 0; part < parts_; ++part) {
        Value from = k_.add(k_.mul(head, ctx_.spec.paddedDim()), part * lanes * perWord_), sum;
        Value to = k_.add(k_.mul(head, parts_ * perWord_ * lanes), part * perWord_ * lanes);
        for (int64_t j = 0; j < perWord_; ++j) {
          Value query = k_.gather(source_, k_.add(from, j), lanesOffsets);
          k_.storeVector(k_.mul(query, k_.splatF32(1.0 / unpacker_.weight(j))), queries_, k_.add(to, j * lanes));
          sum = j == 0 ? query : k_.add(sum, query);
        }
        k_.storeVector(sum, querySums_, k_.add(k_.mul(head, parts_ * lanes), part * lanes));
      }
    });
  }

  void forHeads(llvm::function_ref<void(int64_t firstHead, int64_t heads)> body) {
    int64_t group = ctx_.spec.group(), block = attendRegisterTile(ctx_.spec).heads;
    for (int64_t head = 0; head < group; head += block) {
      body(head, std::min(block, group - head));
    }
  }
  /// Lanes of a vector that share a row and a group.
  int64_t lanesOfGroup() const {
    int64_t most = std::min(words_, lanes), tile = segment_.column->tile;
    return tile >= segment_.column->width ? most : std::min(most, tile / perWord_);
  }
  int64_t log2(int64_t n) const { return llvm::countr_zero<uint64_t>(n); }
  /// Place in groupSums_ of the sums that belong to vector `i` of what is left of heads x vectors once groups are added.
  Value groupSumsPlace(int64_t firstHead, int64_t part, size_t i) {
    return k_.index(((firstHead * vectors_) * parts_ + part * attendRegisterTile(ctx_.spec).heads * vectors_ + static_cast<int64_t>(i)) * lanes);
  }
  /// groupSums_: sums of q over the codes of each group, in the order in which emitRows leaves its sums.
  void addQueryGroups(int64_t firstHead, int64_t heads) {
    for (int64_t part = 0; part < parts_; ++part) {
      SmallVector<Value> sums;
      for (int64_t i = 0; i < heads * vectors_; ++i) {
        sums.push_back(k_.loadVector(querySums_, k_.index(((firstHead + i / vectors_) * parts_ + part) * lanes)));
      }
      LaneSums groups(sums);
      for (int64_t i = 0; i < log2(lanesOfGroup()); ++i) {
        groups.halve(k_);
      }
      for (size_t i = 0; i < groups.vectors.size(); ++i) {
        k_.storeVector(groups.vectors[i], groupSums_, groupSumsPlace(firstHead, part, i));
      }
    }
  }

  /// Logits of `vectors` vectors of rows (vectors_, or 1 for what is left of a page run), all query heads.
  void emitRows(Value row, Value page, int64_t vectors, Value tileStart) {
    Value at = k_.sub(row, tileStart);
    forHeads([&](int64_t firstHead, int64_t heads) {
      std::optional<LaneSums> logits;
      for (int64_t part = 0; part < parts_; ++part) {
        LaneSums sums(sumCodes(row, page, vectors, part, firstHead, heads));
        for (int64_t i = 0; i < log2(lanesOfGroup()); ++i) {
          sums.halve(k_);
        }
        for (size_t i = 0; i < sums.vectors.size(); ++i) {
          Value scale = loadGroupLanes(PlaneRole::Scales, row, page, vectors, part, sums.labels[i]);
          Value term = unpacker_.constantTerm(scale, loadGroupLanes(PlaneRole::Zeros, row, page, vectors, part, sums.labels[i]));
          Value constant = k_.mul(term, loadQueryGroups(vectors, firstHead, heads, part, i));
          Value logit = k_.fma(sums.vectors[i], scale, constant);
          sums.vectors[i] = logits ? k_.add(logits->vectors[i], logit) : logit;
        }
        logits = sums;
      }
      while (logits->halvings < log2(std::min(words_, lanes))) {
        logits->halve(k_);
      }
      storeLogits(*logits, at, vectors, firstHead, heads);
    });
  }

  /// Vector i of groupSums_; for a single vector of rows the same sums lie elsewhere and are put together again.
  Value loadQueryGroups(int64_t vectors, int64_t firstHead, int64_t heads, int64_t part, size_t i) {
    if (vectors == vectors_) {
      return k_.loadVector(groupSums_, groupSumsPlace(firstHead, part, i));
    }
    SmallVector<Value> sums;
    for (int64_t head = 0; head < heads; ++head) {
      sums.push_back(k_.loadVector(querySums_, k_.index(((firstHead + head) * parts_ + part) * lanes)));
    }
    LaneSums groups(sums);
    for (int64_t n = 0; n < log2(lanesOfGroup()); ++n) {
      groups.halve(k_);
    }
    return groups.vectors[i];
  }

  /// Per head and vector of rows: each lane's sum of code * query over the codes of its word.
  SmallVector<Value> sumCodes(Value row, Value page, int64_t vectors, int64_t part, int64_t firstHead, int64_t heads) {
    SmallVector<Value> sums(heads * vectors);
    int64_t atOnce = std::clamp<int64_t>(8 / heads, 1, vectors);
    for (int64_t vector = 0; vector < vectors; vector += atOnce) {
      SmallVector<Value> words;
      for (int64_t i = 0; i < atOnce; ++i) {
        words.push_back(loadWords(row, page, vector + i, part));
      }
      for (int64_t j = 0; j < perWord_; ++j) {
        SmallVector<Value> codes;
        for (int64_t i = 0; i < atOnce; ++i) {
          codes.push_back(unpacker_.unpack(words[i], j));
        }
        for (int64_t h = 0; h < heads; ++h) {
          Value query = k_.loadVector(queries_, k_.index((((firstHead + h) * parts_ + part) * perWord_ + j) * lanes));
          for (int64_t i = 0; i < atOnce; ++i) {
            Value &sum = sums[h * vectors + vector + i];
            sum = j == 0 ? k_.mul(codes[i], query) : k_.fma(codes[i], query, sum);
          }
        }
      }
    }
    return sums;
  }

  /// Scales or zeros for lanes labelled as LaneSums does, originals numbered head * vectors + vector; null without a plane.
  Value loadGroupLanes(PlaneRole role, Value row, Value page, int64_t vectors, int64_t part, ArrayRef<int64_t> labels) {
    const PlaneLayout *plane = segment_.layout->plane(role);
    if (!plane) {
      return Value();
    }
    int64_t across = std::min(words_, lanes), tile = segment_.column->tile, groups = segment_.column->groupsPerRow();
    SmallVector<int64_t> which;
    for (int64_t label : labels) {
      int64_t vector = std::max<int64_t>(label, 0) / lanes % vectors, lane = std::max<int64_t>(label, 0) % lanes;
      which.push_back((vector * rows_ + lane / across) * groups + (part * lanes + lane % across) * perWord_ / tile);
    }
    int64_t first = *llvm::min_element(which), count = *llvm::max_element(which) - first + 1;
    for (int64_t &value : which) {
      value -= first;
    }
    Value address = k_.add(ctx_.store.unit(segment_, role, row, page), first * ::kvcache::abi::bytesOf(plane->elem));
    return spreadLanes(k_, loadGroupValues(ctx_, address, plane->elem, count), which);
  }

  void storeLogits(const LaneSums &logits, Value at, int64_t vectors, int64_t firstHead, int64_t heads) {
    int64_t perResult = lanes / rows_;
    for (size_t result = 0; result < logits.vectors.size(); ++result) {
      SmallVector<int64_t> order(lanes, 0);
      auto base = static_cast<int64_t>(result) * perResult; // of head * vectors + vector
      for (int64_t lane = 0; lane < lanes; ++lane) {
        if (int64_t label = logits.labels[result][lane]; label >= 0) {
          order[(label / lanes - base) * rows_ + label % lanes / std::min(words_, lanes)] = lane;
        }
      }
      Value ordered = spreadLanes(k_, logits.vectors[result], order);
      for (int64_t head = base / vectors; head < std::min(heads, (base + perResult) / vectors); ++head) {
        Value place = k_.add(at, (firstHead + head) * attendTileStride);
        k_.storeVector(k_.extractLanes(ordered, (head * vectors - base) * rows_, vectors * rows_), ctx_.tile, place);
      }
    }
  }

  Value source_;    ///< f32 [G][Dp]
  Value queries_;   ///< f32 [G][parts][codes of a word][16]
  Value querySums_; ///< f32 [G][parts][16]
  Value groupSums_; ///< see addQueryGroups
  int64_t vectors_; ///< vectors of rows at once
};

class WordValueLeaf final : public AttendValueLeaf, WordRows {
public:
  WordValueLeaf(AttendContext &ctx, SegmentAccess segment, int64_t offset)
      : WordRows(ctx, segment), codes_(offset), constants_(offset + parts_ * perWord_ * lanes) {
    weights_ = attendScratch(k_, attendTile * ctx.spec.group() * parts_ * lanes);
  }

  void emit(Value lo, Value hi, Value tileStart) override {
    int64_t group = ctx_.spec.group(), block = attendRegisterTile(ctx_.spec).heads;
    ctx_.store.forPages(segment_, lo, hi, [&](Value first, Value end, Value page) {
      Value next = nextAttendPage(ctx_, segment_, first);
      for (int64_t head = 0; head < group; head += block) {
        int64_t heads = std::min(block, group - head);
        if (head == 0) {
          prefetchTerms(first, next);
        }
        emitWeights(first, end, page, tileStart, head, heads);
        int64_t atOnce = std::clamp<int64_t>(ctx_.spec.accumulators / heads, 1, perWord_);
        for (int64_t part = 0; part < parts_; ++part) {
          for (int64_t j = 0; j < perWord_; j += atOnce) {
            emitCodes(first, end, page, head == 0 && j == 0 ? next : Value(), part, j, std::min(atOnce, perWord_ - j), head, heads);
          }
        }
      }
    });
  }

private:
  Value weightsPlace(Value vector, int64_t head, int64_t part) {
    return k_.add(k_.mul(vector, ctx_.spec.group() * parts_ * lanes), (head * parts_ + part) * lanes);
  }

  /// weights_[vector][head][part][lane] = p of the lane's row times its scale; adds p times the constant term.
  void emitWeights(Value first, Value end, Value page, Value tileStart, int64_t firstHead, int64_t heads) {
    SmallVector<Value> constants;
    auto place = [&](int64_t head, int64_t part) {
      return k_.index((firstHead + head) * ctx_.sumsStride + constants_ + part * lanes);
    };
    for (int64_t i = 0; i < heads * parts_; ++i) {
      constants.push_back(k_.loadVector(ctx_.sums, place(i / parts_, i % parts_)));
    }
    constants = k_.forLoop(first, end, k_.index(rows_), constants, [&](Value row, ValueRange carried) {
      SmallVector<Value> next(carried), scales, terms;
      for (int64_t part = 0; part < parts_; ++part) {
        scales.push_back(loadGroups(PlaneRole::Scales, row, page, 0, part));
        terms.push_back(unpacker_.constantTerm(scales[part], loadGroups(PlaneRole::Zeros, row, page, 0, part)));
        maskRows(row, end, scales[part]);
        maskRows(row, end, terms[part]);
      }
      Value vector = k_.floorDiv(k_.sub(row, first), rows_);
      for (int64_t head = 0; head < heads; ++head) {
        Value p = loadWeights(k_.add(k_.sub(row, tileStart), (firstHead + head) * attendTileStride));
        maskRows(row, end, p);
        for (int64_t part = 0; part < parts_; ++part) {
          k_.storeVector(k_.mul(p, scales[part]), weights_, weightsPlace(vector, firstHead + head, part));
          next[head * parts_ + part] = k_.fma(p, terms[part], next[head * parts_ + part]);
        }
      }
      return next;
    });
    for (int64_t i = 0; i < heads * parts_; ++i) {
      k_.storeVector(constants[i], ctx_.sums, place(i / parts_, i % parts_));
    }
  }

  /// p of each lane's row, from tile word `at` on.
  Value loadWeights(Value at) {
    if (rows_ == 1) {
      return k_.broadcast(k_.load(ctx_.tile, at));
    }
    SmallVector<int64_t> which;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      which.push_back(lane / words_);
    }
    return spreadLanes(k_, k_.loadVector(ctx_.tile, at, Value(), rows_), which);
  }
  /// Lanes of rows behind the last one become 0, whatever was read there: it may not be a number.
  void maskRows(Value row, Value end, Value &values) {
    if (rows_ == 1) {
      return;
    }
    Value lanesLeft = k_.mul(k_.sub(end, row), words_);
    values = k_.select(k_.tailMask(k_.index(0), lanesLeft), values, k_.splatF32(0));
  }

  void emitCodes(Value first, Value end, Value page, Value nextPage, int64_t part, int64_t firstCode, int64_t codes, int64_t firstHead, int64_t heads) {
    auto place = [&](int64_t i) {
      int64_t head = firstHead + i / codes, j = firstCode + i % codes;
      return k_.index(head * ctx_.sumsStride + codes_ + (part * perWord_ + j) * lanes);
    };
    SmallVector<Value> sums;
    for (int64_t i = 0; i < heads * codes; ++i) {
      sums.push_back(k_.loadVector(ctx_.sums, place(i)));
    }
    sums = k_.forLoop(first, end, k_.index(rows_), sums, [&](Value row, ValueRange carried) {
      if (nextPage) {
        Value ahead = ctx_.store.unit(segment_, PlaneRole::Codes, row, nextPage);
        prefetchBytes(ctx_, k_.add(ahead, part * 64), 64);
      }
      Value words = loadWords(row, page, 0, part), vector = k_.floorDiv(k_.sub(row, first), rows_);
      SmallVector<Value> next(carried), weights;
      for (int64_t head = 0; head < heads; ++head) {
        weights.push_back(k_.loadVector(weights_, weightsPlace(vector, firstHead + head, part)));
      }
      for (int64_t j = 0; j < codes; ++j) {
        Value code = unpacker_.unpack(words, firstCode + j);
        for (int64_t head = 0; head < heads; ++head) {
          next[head * codes + j] = k_.fma(code, weights[head], carried[head * codes + j]);
        }
      }
      return next;
    });
    for (int64_t i = 0; i < heads * codes; ++i) {
      k_.storeVector(sums[i], ctx_.sums, place(i));
    }
  }

  int64_t codes_, constants_; ///< words of ctx.sums
  Value weights_; ///< f32 [64 / rows][G][parts][16]
};

} // namespace

int64_t mlir::kvcache::cpu::wordSumsWidth(const ColumnLayout &column) {
  WordMap map(column);
  return map.parts * (map.perWord + 1) * lanes;
}

void mlir::kvcache::cpu::orderWordSums(KernelBuilder &k, const ColumnLayout &column, Value memref, int64_t from, int64_t to) {
  WordMap map(column);
  CodeUnpacker unpacker(k, column);
  for (int64_t part = 0; part < map.parts; ++part) {
    Value constant = k.loadVector(memref, k.index(from + (map.parts * map.perWord + part) * lanes));
    for (int64_t j = 0; j < map.perWord; ++j) {
      Value codes = k.loadVector(memref, k.index(from + (part * map.perWord + j) * lanes));
      Value sum = k.fma(codes, k.splatF32(1.0 / unpacker.weight(j)), constant);
      for (int64_t half = lanes / 2; half >= map.words; half /= 2) { // rows of a vector
        SmallVector<int64_t> partner;
        for (int64_t lane = 0; lane < lanes; ++lane) {
          partner.push_back(lane ^ half);
        }
        sum = k.add(sum, k.shuffle(sum, sum, partner));
      }
      for (int64_t lane = 0; lane < std::min(map.words, lanes); ++lane) {
        Value place = k.index(to + (part * lanes + lane) * map.perWord + j);
        k.store(k.add(k.load(memref, place), k.extractLane(sum, lane)), memref, place);
      }
    }
  }
}

std::unique_ptr<AttendLogitLeaf> mlir::kvcache::cpu::makeWordLogitLeaf(AttendContext &ctx, SegmentAccess segment, Value queries,
                                                                       std::vector<std::function<void()>> &prepare) {
  return std::make_unique<WordLogitLeaf>(ctx, segment, queries, prepare);
}

std::unique_ptr<AttendValueLeaf> mlir::kvcache::cpu::makeWordValueLeaf(AttendContext &ctx, SegmentAccess segment, int64_t offset) {
  return std::make_unique<WordValueLeaf>(ctx, segment, offset);
}
