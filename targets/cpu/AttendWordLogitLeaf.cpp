// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Keys as words of codes. Queries are brought into the order of the words once per task; scales
// multiply sums of code * query over a group, not codes. With integer products a query is a
// fixed-point number with a scale for each group, and sums stay integers until a group is added up.
//
// Invariant: a row behind the last one may be read, but reaches no logit before the first row.

#include "targets/cpu/AttendWordRows.h"
#include "targets/cpu/IntegerProducts.h"

#include "llvm/ADT/bit.h"
#include "llvm/Support/MathExtras.h"

#include <optional>

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::PlaneLayout;
using ::kvcache::abi::PlaneRole;
using ::kvcache::abi::TileAxis;

bool mlir::kvcache::cpu::canReadWords(const AttendSpec &spec, const ColumnLayout &column) {
  if (spec.sharesRows || column.tileAxis != TileAxis::Channel || !column.tiles.empty() ||
      (column.bits != 2 && column.bits != 4 && column.bits != 8) ||
      column.width * column.bits % 32 != 0) {
    return false;
  }
  int64_t words = column.width * column.bits / 32, perWord = 32 / column.bits;
  bool wholeGroups = column.tile >= column.width ||
                     (column.tile % perWord == 0 && llvm::isPowerOf2_64(column.tile / perWord));
  return wholeGroups && words >= 4 && (words >= lanes ? words % lanes == 0 : lanes % words == 0);
}

namespace {

class WordLogitLeaf final : public AttendLogitLeaf, WordRows {
public:
  WordLogitLeaf(AttendContext &ctx, SegmentAccess segment, Value queries,
                std::vector<std::function<void()>> &prepare)
      : WordRows(ctx, segment), source_(queries), integers_(ctx.spec.integerProducts),
        planes_(8 / segment.column->bits) {
    int64_t group = ctx.spec.group();
    queries_ = attendScratch(k_, group * parts_ * perWord_ * lanes);
    querySums_ = attendScratch(k_, group * parts_ * lanes);
    int64_t heads = attendRegisterTile(ctx.spec).heads,
            vectors = rows_ == 1 ? 16 / heads : 8 / heads;
    vectors_ = llvm::bit_floor<uint64_t>(std::clamp<int64_t>(vectors, 1, lanes / rows_));
    groupSums_ = attendScratch(k_, (group + heads) * vectors_ * parts_ * lanes);
    if (integers_) {
      queryScales_ = attendScratch(k_, group * parts_ * lanes);
      groupScales_ = attendScratch(k_, (group + heads) * vectors_ * parts_ * lanes);
    }
    prepare.push_back([this] {
      orderQueries();
      forHeads([&](int64_t head, int64_t heads) {
        addQueryGroups(querySums_, groupSums_, head, heads);
        if (integers_) {
          addQueryGroups(queryScales_, groupScales_, head, heads);
        }
      });
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
  /// queries_[head][part][j][lane] = q / weight(j) of code j of the lane's word, or fixed-point
  /// numbers; querySums_[head][part][lane] = sum of q.
  void orderQueries() {
    SmallVector<int32_t> offsets;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      offsets.push_back(static_cast<int32_t>(lane % words_ * perWord_));
    }
    Value lanesOffsets = arith::ConstantOp::create(
        k_.builder(), k_.loc(),
        DenseElementsAttr::get(k_.vec(k_.i32Type()), ArrayRef<int32_t>(offsets)));
    k_.forLoop(k_.index(ctx_.spec.group()), [&](Value head) {
      for (int64_t part = 0; part < parts_; ++part) {
        Value from = k_.add(k_.mul(head, ctx_.spec.paddedDim()), part * lanes * perWord_), sum;
        Value to = k_.add(k_.mul(head, parts_ * perWord_ * lanes), part * perWord_ * lanes);
        Value words = k_.add(k_.mul(head, parts_ * lanes), part * lanes);
        SmallVector<Value> queries;
        for (int64_t j = 0; j < perWord_; ++j) {
          queries.push_back(k_.gather(source_, k_.add(from, j), lanesOffsets));
          sum = j == 0 ? queries[0] : k_.add(sum, queries[j]);
        }
        k_.storeVector(sum, querySums_, words);
        if (integers_) {
          storeFixedPoint(queries, to, words);
          continue;
        }
        for (int64_t j = 0; j < perWord_; ++j) {
          k_.storeVector(k_.mul(queries[j], k_.splatF32(1.0 / unpacker_.weight(j))), queries_,
                         k_.add(to, j * lanes));
        }
      }
    });
  }

  /// queries_[plane][high, low][lane], from word `to` on: fixed-point numbers of the queries that
  /// belong to the codes of a plane. queryScales_, from word `words` on: their scale, over the
  /// lanes of a group, divided by their number, so that the sum over the group is the scale.
  void storeFixedPoint(ArrayRef<Value> queries, Value to, Value words) {
    Value largest;
    for (auto [j, query] : llvm::enumerate(queries)) {
      largest = j == 0 ? k_.abs(query) : k_.max(largest, k_.abs(query));
    }
    for (int64_t step = 1; step < lanesOfGroup(); step *= 2) {
      SmallVector<int64_t> partner;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        partner.push_back(lane ^ step);
      }
      largest = k_.max(largest, k_.shuffle(largest, largest, partner));
    }
    Value limit = k_.splatF32(fixedPointLimit), isZero = k_.eq(largest, k_.splatF32(0));
    Value factor = k_.div(limit, k_.select(isZero, k_.splatF32(1), largest));
    double share = 1.0 / static_cast<double>(fixedPointLimit * lanesOfGroup());
    k_.storeVector(k_.mul(largest, k_.splatF32(share)), queryScales_, words);
    for (int64_t plane = 0; plane < planes_; ++plane) {
      FixedPoint bytes;
      for (int64_t i = 0; i < 4; ++i) {
        FixedPoint one = fixedPointWords(k_, queries[i * planes_ + plane], factor);
        Value shift = k_.splatI32(8 * i);
        bytes.high = i == 0 ? one.high : k_.ori(bytes.high, k_.shl(one.high, shift));
        bytes.low = i == 0 ? one.low : k_.ori(bytes.low, k_.shl(one.low, shift));
      }
      Value place = k_.add(to, plane * 2 * lanes);
      k_.storeVector(k_.bitcast(bytes.high, k_.vec(k_.f32Type())), queries_, place);
      k_.storeVector(k_.bitcast(bytes.low, k_.vec(k_.f32Type())), queries_, k_.add(place, lanes));
    }
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
  /// Place in groupSums_ of the sums that belong to vector `i` of what is left of heads x vectors
  /// once groups are added.
  Value groupSumsPlace(int64_t firstHead, int64_t part, size_t i) {
    return k_.index(((firstHead * vectors_) * parts_ +
                     part * attendRegisterTile(ctx_.spec).heads * vectors_ +
                     static_cast<int64_t>(i)) *
                    lanes);
  }
  /// groupSums_: sums over each group of `words`, in the order in which emitRows leaves its sums.
  void addQueryGroups(Value words, Value groupSums, int64_t firstHead, int64_t heads) {
    for (int64_t part = 0; part < parts_; ++part) {
      SmallVector<Value> sums;
      for (int64_t i = 0; i < heads * vectors_; ++i) {
        sums.push_back(
            k_.loadVector(words, k_.index(((firstHead + i / vectors_) * parts_ + part) * lanes)));
      }
      LaneSums groups(sums);
      for (int64_t i = 0; i < log2(lanesOfGroup()); ++i) {
        groups.halve(k_);
      }
      for (size_t i = 0; i < groups.vectors.size(); ++i) {
        k_.storeVector(groups.vectors[i], groupSums, groupSumsPlace(firstHead, part, i));
      }
    }
  }

  /// Logits of `vectors` vectors of rows (vectors_, or 1 for what is left of a page run), all query
  /// heads.
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
          Value term = unpacker_.constantTerm(
              scale, loadGroupLanes(PlaneRole::Zeros, row, page, vectors, part, sums.labels[i]));
          Value constant = k_.mul(
              term, loadQueryGroups(querySums_, groupSums_, vectors, firstHead, heads, part, i));
          Value sum = sums.vectors[i];
          if (integers_) {
            sum = k_.intToF32(sum);
            scale = k_.mul(scale, loadQueryGroups(queryScales_, groupScales_, vectors, firstHead,
                                                  heads, part, i));
          }
          Value logit = k_.fma(sum, scale, constant);
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

  /// Vector i of `groupSums`; for a single vector of rows the same sums of `words` lie elsewhere
  /// and are put together again.
  Value loadQueryGroups(Value words, Value groupSums, int64_t vectors, int64_t firstHead,
                        int64_t heads, int64_t part, size_t i) {
    if (vectors == vectors_) {
      return k_.loadVector(groupSums, groupSumsPlace(firstHead, part, i));
    }
    SmallVector<Value> sums;
    for (int64_t head = 0; head < heads; ++head) {
      sums.push_back(k_.loadVector(words, k_.index(((firstHead + head) * parts_ + part) * lanes)));
    }
    LaneSums groups(sums);
    for (int64_t n = 0; n < log2(lanesOfGroup()); ++n) {
      groups.halve(k_);
    }
    return groups.vectors[i];
  }

  /// Per head and vector of rows: each lane's sum of code * query over the codes of its word.
  SmallVector<Value> sumCodes(Value row, Value page, int64_t vectors, int64_t part,
                              int64_t firstHead, int64_t heads) {
    SmallVector<Value> sums(heads * vectors);
    int64_t atOnce = std::clamp<int64_t>(8 / heads, 1, vectors);
    for (int64_t vector = 0; vector < vectors; vector += atOnce) {
      SmallVector<Value> words;
      for (int64_t i = 0; i < atOnce; ++i) {
        words.push_back(loadWords(row, page, vector + i, part));
      }
      if (integers_) {
        for (int64_t h = 0; h < heads; ++h) {
          sumCodeBytes(words, part, firstHead + h,
                       MutableArrayRef(sums).slice(h * vectors + vector, atOnce));
        }
        continue;
      }
      for (int64_t j = 0; j < perWord_; ++j) {
        SmallVector<Value> codes;
        for (int64_t i = 0; i < atOnce; ++i) {
          codes.push_back(unpacker_.unpack(words[i], j));
        }
        for (int64_t h = 0; h < heads; ++h) {
          Value query = k_.loadVector(
              queries_, k_.index((((firstHead + h) * parts_ + part) * perWord_ + j) * lanes));
          for (int64_t i = 0; i < atOnce; ++i) {
            Value &sum = sums[h * vectors + vector + i];
            sum = j == 0 ? k_.mul(codes[i], query) : k_.fma(codes[i], query, sum);
          }
        }
      }
    }
    return sums;
  }

  /// The same in integers, of one head: high bytes first, so that one shift serves all.
  void sumCodeBytes(ArrayRef<Value> words, int64_t part, int64_t head,
                    MutableArrayRef<Value> sums) {
    bool wide = ctx_.spec.wideRegisters();
    for (Value &sum : sums) {
      sum = k_.splatI32(0);
    }
    for (int64_t low = 0; low < 2; ++low) {
      for (int64_t plane = 0; plane < planes_; ++plane) {
        Value query = k_.bitcast(
            k_.loadVector(queries_,
                          k_.index(((head * parts_ + part) * perWord_ + plane * 2 + low) * lanes)),
            k_.vec(k_.i32Type()));
        for (size_t i = 0; i < sums.size(); ++i) {
          Value codes = codeBytes(k_, words[i], segment_.column->bits, plane);
          sums[i] = addByteProducts(k_, wide, sums[i], codes, query);
        }
      }
      for (Value &sum : sums) {
        sum = low == 0 ? k_.shl(sum, k_.splatI32(8)) : sum;
      }
    }
  }

  /// Scales or zeros for lanes labelled as LaneSums does, originals numbered head * vectors +
  /// vector; null without a plane.
  Value loadGroupLanes(PlaneRole role, Value row, Value page, int64_t vectors, int64_t part,
                       ArrayRef<int64_t> labels) {
    const PlaneLayout *plane = segment_.layout->plane(role);
    if (!plane) {
      return Value();
    }
    int64_t across = std::min(words_, lanes), tile = segment_.column->tile,
            groups = segment_.column->groupsPerRow();
    SmallVector<int64_t> which;
    for (int64_t label : labels) {
      int64_t vector = std::max<int64_t>(label, 0) / lanes % vectors,
              lane = std::max<int64_t>(label, 0) % lanes;
      which.push_back((vector * rows_ + lane / across) * groups +
                      (part * lanes + lane % across) * perWord_ / tile);
    }
    int64_t first = *llvm::min_element(which), count = *llvm::max_element(which) - first + 1;
    for (int64_t &value : which) {
      value -= first;
    }
    Value address = k_.add(ctx_.store.unit(segment_, role, row, page),
                           first * ::kvcache::abi::bytesOf(plane->elem));
    return spreadLanes(k_, loadGroupValues(ctx_, address, plane->elem, count), which);
  }

  void storeLogits(const LaneSums &logits, Value at, int64_t vectors, int64_t firstHead,
                   int64_t heads) {
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
      for (int64_t head = base / vectors; head < std::min(heads, (base + perResult) / vectors);
           ++head) {
        Value place = k_.add(at, (firstHead + head) * attendTileStride);
        k_.storeVector(k_.extractLanes(ordered, (head * vectors - base) * rows_, vectors * rows_),
                       ctx_.tile, place);
      }
    }
  }

  Value source_;    ///< f32 [G][Dp]
  Value queries_;   ///< f32 [G][parts][codes of a word][16]
  Value querySums_; ///< f32 [G][parts][16]
  Value groupSums_; ///< see addQueryGroups
  bool integers_;   ///< products are of integers; then there are scales, laid out as the sums
  int64_t planes_;  ///< codes of a byte
  Value queryScales_, groupScales_;
  int64_t vectors_; ///< vectors of rows at once
};

} // namespace

std::unique_ptr<AttendLogitLeaf>
mlir::kvcache::cpu::makeWordLogitLeaf(AttendContext &ctx, SegmentAccess segment, Value queries,
                                      std::vector<std::function<void()>> &prepare) {
  return std::make_unique<WordLogitLeaf>(ctx, segment, queries, prepare);
}
