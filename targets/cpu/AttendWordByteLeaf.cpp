// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Values as words of codes, multiplied in integers. Four word vectors at a time, a unit: their
// bytes are interleaved, so that a word of the result holds one byte of each, which meets the four
// weights (probability times scale) as fixed-point numbers of a byte product. The scale of the
// numbers is that of the largest weight of a run of rows; sums are turned into f32 at the end of
// the run.
//
// Invariant: a row that was not asked for may be read, but its weight is 0.

#include "targets/cpu/AttendWordRows.h"
#include "targets/cpu/IntegerProducts.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::PlaneRole;
using ::kvcache::abi::SegmentKind;

namespace {

constexpr int64_t wordsOfUnit = 4; ///< word vectors whose bytes are interleaved
constexpr int64_t mostWeights =
    4 * lanes; ///< of a unit and head: what one shuffle of bytes reaches

/// Sizes of a unit.
struct UnitMap : WordMap {
  explicit UnitMap(const ColumnLayout &column)
      : WordMap(column), rowsOfUnit(wordsOfUnit * rows), groups(column.groupsPerRow()),
        planes(8 / column.bits), weights(rowsOfUnit * groups),
        vectors((weights + lanes - 1) / lanes), tile(column.tile) {}

  /// Interleaving keeps bytes within 128 bits: output o holds the bytes of words o, 4 + o, 8 + o,
  /// 12 + o. The word that lane `lane` of output `output` has its byte from, of 16.
  static int64_t wordOf(int64_t lane, int64_t output) { return lane / 4 * 4 + output; }
  /// The weight (row-major [rowsOfUnit][groups]) that belongs to byte `i` of a lane of an output.
  int64_t weightOf(int64_t lane, int64_t output, int64_t part, int64_t i) const {
    int64_t word = wordOf(lane, output), across = std::min(words, lanes);
    int64_t row = i * rows + word / across;
    return row * groups + (part * lanes + word % across) * perWord / tile;
  }

  int64_t rowsOfUnit, groups, planes;
  int64_t weights; ///< of a unit and head
  int64_t vectors; ///< that hold them
  int64_t tile;
};

class WordByteLeaf final : public AttendValueLeaf, WordRows {
public:
  WordByteLeaf(AttendContext &ctx, SegmentAccess segment, int64_t offset)
      : WordRows(ctx, segment), unit_(*segment.column), wide_(ctx.spec.wideRegisters()),
        codes_(offset), constants_(offset + parts_ * perWord_ * lanes) {
    for (int64_t output = 0; output < 4; ++output) {
      SmallVector<int64_t> order;
      for (int64_t place = 0; place < parts_ * 4 * lanes; ++place) {
        order.push_back(unit_.weightOf(place / 4 % lanes, output, place / (4 * lanes), place % 4));
      }
      auto known = llvm::find(orders_, order);
      orderOf_[output] = known - orders_.begin();
      if (known == orders_.end()) {
        orders_.push_back(order);
      }
    }
    int64_t units = attendTile / unit_.rowsOfUnit, group = ctx.spec.group();
    weights_ = attendScratch(k_, units * group * unit_.vectors * lanes);
    factors_ = attendScratch(k_, units * factorsOfUnit());
    scales_ = attendScratch(k_, group);
  }

  void emit(Value lo, Value hi, Value tileStart) override {
    int64_t group = ctx_.spec.group();
    int64_t block = std::min<int64_t>(group, ctx_.spec.accumulators / 2);
    ctx_.store.forPages(segment_, lo, hi, [&](Value first, Value end, Value page) {
      Run run{first,
              end,
              k_.mul(k_.floorDiv(first, unit_.rowsOfUnit), unit_.rowsOfUnit),
              page,
              nextAttendPage(ctx_, segment_, first),
              tileStart};
      prefetchTerms(first, run.next);
      int64_t weighed = std::max<int64_t>(
          1, 20 / (unit_.vectors + 1)); // sums and a maximum of each head in registers
      for (int64_t head = 0; head < group; head += weighed) {
        emitWeights(run, head, std::min(weighed, group - head));
      }
      auto codesAtOnce = [&](int64_t heads) {
        return std::clamp<int64_t>(ctx_.spec.accumulators / (2 * heads), 1, perWord_);
      };
      Turn turn{0, group}; // every loop over the rows asks for a share of the next page
      for (int64_t head = 0; head < group; head += block) {
        int64_t atOnce = codesAtOnce(std::min(block, group - head));
        turn.of += parts_ * ((perWord_ + atOnce - 1) / atOnce);
      }
      for (int64_t head = 0; head < group; ++head, ++turn.number) {
        emitFactors(run, turn, head);
      }
      for (int64_t head = 0; head < group; head += block) {
        int64_t heads = std::min(block, group - head), atOnce = codesAtOnce(heads);
        for (int64_t part = 0; part < parts_; ++part) {
          for (int64_t j = 0; j < perWord_; j += atOnce, ++turn.number) {
            emitCodes(run, turn, part, j, std::min(atOnce, perWord_ - j), head, heads);
          }
        }
      }
    });
  }

private:
  /// Rows [first, end) of a page; units are counted from `start` on.
  struct Run {
    Value first, end, start, page, next, tileStart;
  };

  /// One of the loops over the rows of a run.
  struct Turn {
    int64_t number, of;
  };

  int64_t factorsOfUnit() const {
    return ctx_.spec.group() * parts_ * static_cast<int64_t>(orders_.size()) * 2 * lanes;
  }
  Value unitNumber(const Run &run, Value row) {
    return k_.floorDiv(k_.sub(row, run.start), unit_.rowsOfUnit);
  }
  Value weightsPlace(const Run &run, Value row, int64_t head, int64_t vector) {
    int64_t stride = ctx_.spec.group() * unit_.vectors * lanes;
    return k_.add(k_.mul(unitNumber(run, row), stride), (head * unit_.vectors + vector) * lanes);
  }
  Value factorsPlace(const Run &run, Value row, int64_t head, int64_t part, int64_t order) {
    auto orders = static_cast<int64_t>(orders_.size());
    return k_.add(k_.mul(unitNumber(run, row), factorsOfUnit()),
                  ((head * parts_ + part) * orders + order) * 2 * lanes);
  }

  /// Scales or zeros of vector `vector` of a unit, 0 in lanes that hold none; null without a plane.
  Value loadUnitTerms(PlaneRole role, Value row, Value page, int64_t vector) {
    const ::kvcache::abi::PlaneLayout *plane = segment_.layout->plane(role);
    if (!plane) {
      return Value();
    }
    int64_t n = std::min(lanes, unit_.weights - vector * lanes);
    Value address = k_.add(ctx_.store.unit(segment_, role, row, page),
                           vector * lanes * ::kvcache::abi::bytesOf(plane->elem));
    Value values = loadGroupValues(ctx_, address, plane->elem, n);
    if (n == lanes) {
      return values;
    }
    int64_t read = cast<VectorType>(values.getType()).getNumElements();
    SmallVector<int64_t> which;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      which.push_back(lane < n ? lane : read);
    }
    return k_.shuffle(values, k_.splatF32(0, 1), which);
  }
  /// The row of a unit that each lane of a vector of weights belongs to.
  SmallVector<int64_t> rowsOf(int64_t vector) const {
    SmallVector<int64_t> rows;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      rows.push_back(std::min((vector * lanes + lane) / unit_.groups, unit_.rowsOfUnit - 1));
    }
    return rows;
  }
  /// Lanes of rows that were asked for.
  Value asked(const Run &run, Value row, ArrayRef<int64_t> rows) {
    SmallVector<int32_t> numbers(rows.begin(), rows.end());
    Value offsets = arith::ConstantOp::create(
        k_.builder(), k_.loc(),
        DenseElementsAttr::get(k_.vec(k_.i32Type()), ArrayRef<int32_t>(numbers)));
    Value number = k_.add(k_.broadcast(k_.toI32(row)), offsets);
    return k_.andi(k_.le(k_.broadcast(k_.toI32(run.first)), number),
                   k_.lt(number, k_.broadcast(k_.toI32(run.end))));
  }

  /// weights_[unit][head] = p * scale; scales_[head] = the largest of them; adds p times the
  /// constant terms.
  void emitWeights(const Run &run, int64_t firstHead, int64_t heads) {
    int64_t vectors = unit_.vectors;
    // Of each head: sums of constants, the largest weight.
    SmallVector<Value> carried(heads * (vectors + 1), k_.splatF32(0));
    carried = k_.forLoop(
        run.start, run.end, k_.index(unit_.rowsOfUnit), carried, [&](Value row, ValueRange in) {
          SmallVector<Value> next(in), probabilities;
          for (int64_t head = 0; head < heads; ++head) {
            Value at = k_.add(k_.sub(row, run.tileStart), (firstHead + head) * attendTileStride);
            probabilities.push_back(k_.loadVector(ctx_.tile, at, Value(), unit_.rowsOfUnit));
          }
          for (int64_t i = 0; i < vectors; ++i) {
            SmallVector<int64_t> rows = rowsOf(i);
            // What is read of other rows need not be a number.
            Value valid = asked(run, row, rows), zero = k_.splatF32(0);
            Value scale = loadUnitTerms(PlaneRole::Scales, row, run.page, i);
            Value term =
                unpacker_.constantTerm(scale, loadUnitTerms(PlaneRole::Zeros, row, run.page, i));
            scale = k_.select(valid, scale, zero);
            term = k_.select(valid, term, zero);
            for (int64_t head = 0; head < heads; ++head) {
              Value p = k_.select(valid, spreadLanes(k_, probabilities[head], rows), zero);
              Value weight = k_.mul(p, scale);
              k_.storeVector(weight, weights_, weightsPlace(run, row, firstHead + head, i));
              Value *sums = &next[head * (vectors + 1)];
              sums[i] = k_.fma(p, term, sums[i]);
              sums[vectors] = k_.max(sums[vectors], k_.abs(weight));
            }
          }
          return next;
        });
    for (int64_t head = 0; head < heads; ++head) {
      ArrayRef<Value> sums = ArrayRef(carried).slice(head * (vectors + 1), vectors + 1);
      k_.store(k_.reduceMax(sums.back()), scales_, k_.index(firstHead + head));
      addConstants(sums.drop_back(), firstHead + head);
    }
  }

  /// Sums of p * constant term, by row and group of a unit, to the lanes of their words.
  void addConstants(ArrayRef<Value> sums, int64_t head) {
    int64_t across = std::min(words_, lanes);
    for (int64_t part = 0; part < parts_; ++part) {
      Value place = k_.index(head * ctx_.sumsStride + constants_ + part * lanes);
      Value total = k_.loadVector(ctx_.sums, place);
      for (int64_t i = 0; i < wordsOfUnit; ++i) {
        // A lane finds its weight in one of the vectors; the others give it 0.
        for (int64_t vector = 0; vector < unit_.vectors; ++vector) {
          SmallVector<int64_t> which;
          bool any = false;
          for (int64_t lane = 0; lane < lanes; ++lane) {
            int64_t weight = (i * rows_ + lane / across) * unit_.groups +
                             (part * lanes + lane % across) * perWord_ / unit_.tile;
            bool here = weight / lanes == vector;
            any |= here;
            which.push_back(here ? weight % lanes : lanes);
          }
          if (any) {
            total = k_.add(total, k_.shuffle(sums[vector], k_.splatF32(0, 1), which));
          }
        }
      }
      k_.storeVector(total, ctx_.sums, place);
    }
  }

  /// Vectors of numbers behind each other, as bytes, the low one of a number first; filled up to a
  /// power of two.
  Value joinNumbers(SmallVector<Value> vectors) {
    while (vectors.size() > 1) {
      if (vectors.size() % 2 != 0) {
        vectors.push_back(vectors.back()); // never used
      }
      int64_t n = 2 * cast<VectorType>(vectors[0].getType()).getNumElements();
      SmallVector<int64_t> all;
      for (int64_t i = 0; i < n; ++i) {
        all.push_back(i);
      }
      for (size_t i = 0; i < vectors.size() / 2; ++i) {
        vectors[i] = k_.shuffle(vectors[2 * i], vectors[2 * i + 1], all);
      }
      vectors.resize(vectors.size() / 2);
    }
    int64_t n = cast<VectorType>(vectors[0].getType()).getNumElements();
    return k_.bitcast(vectors[0], VectorType::get({2 * n}, k_.builder().getI8Type()));
  }

  /// factors_[unit][head][part][order][high, low] = weights as fixed-point numbers, in the places
  /// of the bytes they are multiplied with. scales_[head] becomes what the products are to be
  /// multiplied by.
  void emitFactors(const Run &run, Turn turn, int64_t head) {
    Value largest = k_.load(scales_, k_.index(head));
    Value isZero = k_.eq(largest, k_.f32(0));
    Value factor =
        k_.broadcast(k_.div(k_.f32(fixedPointLimit), k_.select(isZero, k_.f32(1), largest)));
    k_.store(k_.mul(largest, k_.f32(1.0 / static_cast<double>(fixedPointLimit))), scales_,
             k_.index(head));
    k_.forLoop(run.start, run.end, k_.index(unit_.rowsOfUnit), [&](Value row) {
      prefetchUnit(row, run.next, turn);
      SmallVector<Value> numbers;
      for (int64_t i = 0; i < unit_.vectors; ++i) {
        Value weight = k_.loadVector(weights_, weightsPlace(run, row, head, i));
        numbers.push_back(fixedPointBytes(k_, weight, factor));
      }
      Value bytes = joinNumbers(numbers);
      for (int64_t part = 0; part < parts_; ++part) {
        for (auto [order, which] : llvm::enumerate(orders_)) {
          for (int64_t low = 0; low < 2; ++low) {
            SmallVector<int64_t> places;
            for (int64_t weight : ArrayRef(which).slice(part * 4 * lanes, 4 * lanes)) {
              places.push_back(2 * weight + 1 - low);
            }
            Value spread = k_.bitcast(k_.shuffle(bytes, bytes, places), k_.vec(k_.f32Type()));
            Value place = factorsPlace(run, row, head, part, static_cast<int64_t>(order));
            k_.storeVector(spread, factors_, k_.add(place, low * lanes));
          }
        }
      }
    });
  }

  /// Bytes of a and b in turn, within 128 bits: those of the lower or of the upper 64. `unit` bytes
  /// stay together.
  Value interleave(Value a, Value b, bool upper, int64_t unit) {
    auto bytes = VectorType::get({4 * lanes}, k_.builder().getI8Type());
    SmallVector<int64_t> which;
    for (int64_t place = 0; place < 4 * lanes; ++place) {
      int64_t piece = place % 16 / unit, from = piece / 2 * unit + place % unit + (upper ? 8 : 0);
      which.push_back(piece % 2 * 4 * lanes + place / 16 * 16 + from);
    }
    return k_.shuffle(k_.bitcast(a, bytes), k_.bitcast(b, bytes), which);
  }

  /// Sums of codes [firstCode, firstCode + codes), numbered output * planes + plane, of some heads.
  void emitCodes(const Run &run, Turn turn, int64_t part, int64_t firstCode, int64_t codes,
                 int64_t firstHead, int64_t heads) {
    SmallVector<Value> sums(heads * codes * 2, k_.splatI32(0)); // [head][code][high, low]
    sums = k_.forLoop(
        run.start, run.end, k_.index(unit_.rowsOfUnit), sums, [&](Value row, ValueRange carried) {
          prefetchUnit(row, run.next, turn);
          SmallVector<Value> words, next(carried);
          for (int64_t i = 0; i < wordsOfUnit; ++i) {
            words.push_back(loadWords(row, run.page, i, part));
          }
          for (int64_t code = 0; code < codes; ++code) {
            int64_t output = (firstCode + code) / unit_.planes,
                    plane = (firstCode + code) % unit_.planes;
            bool upper = output >= 2;
            Value bytes = interleave(interleave(words[0], words[1], upper, 1),
                                     interleave(words[2], words[3], upper, 1), output % 2 == 1, 2);
            Value values = codeBytes(k_, k_.bitcast(bytes, k_.vec(k_.i32Type())),
                                     segment_.column->bits, plane);
            for (int64_t head = 0; head < heads; ++head) {
              Value place = factorsPlace(run, row, firstHead + head, part, orderOf_[output]);
              for (int64_t low = 0; low < 2; ++low) {
                Value factors = k_.bitcast(k_.loadVector(factors_, k_.add(place, low * lanes)),
                                           k_.vec(k_.i32Type()));
                Value &sum = next[(head * codes + code) * 2 + low];
                sum = addByteProducts(k_, wide_, sum, values, factors);
              }
            }
          }
          return next;
        });
    for (int64_t head = 0; head < heads; ++head) {
      Value scale = k_.broadcast(k_.load(scales_, k_.index(firstHead + head)));
      for (int64_t code = 0; code < codes; ++code) {
        Value place = k_.index((firstHead + head) * ctx_.sumsStride + codes_ +
                               (part * perWord_ + firstCode + code) * lanes);
        size_t i = (head * codes + code) * 2;
        Value sum = k_.intToF32(k_.add(k_.shl(sums[i], k_.splatI32(8)), sums[i + 1]));
        k_.storeVector(k_.fma(sum, scale, k_.loadVector(ctx_.sums, place)), ctx_.sums, place);
      }
    }
  }

  /// This turn's share of the words of a unit, in the next page. Requests wait for each other, so
  /// they are spread over the work of a run.
  void prefetchUnit(Value row, Value next, Turn turn) {
    const ::kvcache::abi::PlaneLayout &plane = *segment_.layout->plane(PlaneRole::Codes);
    int64_t lines = wordsOfUnit * parts_;
    for (int64_t line = 0; line < lines; ++line) {
      if (line * turn.of / lines == turn.number) {
        Value ahead = ctx_.store.unit(segment_, PlaneRole::Codes, row, next);
        int64_t place = line / parts_ * rows_ * plane.bytesPerUnit + line % parts_ * 64;
        prefetchBytes(ctx_, k_.add(ahead, place), 64);
      }
    }
  }

  UnitMap unit_;
  bool wide_;
  int64_t codes_, constants_; ///< words of ctx.sums
  /// Orders of a unit's weights, [part][16 lanes][4 bytes], each once; which of them an output
  /// meets.
  std::vector<SmallVector<int64_t>> orders_;
  int64_t orderOf_[4] = {};
  Value weights_; ///< f32 [64 / rowsOfUnit][G][vectors][16]
  Value factors_; ///< words [64 / rowsOfUnit][G][parts][orders][high, low][16]
  Value scales_;  ///< f32 [G]
};

} // namespace

bool mlir::kvcache::cpu::weighsInBytes(const AttendSpec &spec, const ColumnLayout &column) {
  return spec.integerProducts && canReadWords(spec, column) &&
         UnitMap(column).weights <= mostWeights &&
         column.segment(SegmentKind::Coded)->rowsPerPage % UnitMap(column).rowsOfUnit == 0;
}

void mlir::kvcache::cpu::orderByteSums(KernelBuilder &k, const ColumnLayout &column, Value memref,
                                       int64_t from, int64_t to) {
  UnitMap map(column);
  for (int64_t part = 0; part < map.parts; ++part) {
    Value constants =
        k.loadVector(memref, k.index(from + (map.parts * map.perWord + part) * lanes));
    for (int64_t code = 0; code < map.perWord; ++code) {
      int64_t output = code / map.planes, plane = code % map.planes;
      SmallVector<int64_t> words;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        words.push_back(UnitMap::wordOf(lane, output));
      }
      Value sum = k.add(k.loadVector(memref, k.index(from + (part * map.perWord + code) * lanes)),
                        spreadLanes(k, constants, words));
      sum = addRowLanes(k, map, sum);
      for (int64_t lane = 0; lane < std::min(map.words, lanes); ++lane) {
        Value place = k.index(to + (part * lanes + words[lane]) * map.perWord +
                              lane % 4 * map.planes + plane);
        k.store(k.add(k.load(memref, place), k.extractLane(sum, lane)), memref, place);
      }
    }
  }
}

std::unique_ptr<AttendValueLeaf>
mlir::kvcache::cpu::makeWordByteLeaf(AttendContext &ctx, SegmentAccess segment, int64_t offset) {
  return std::make_unique<WordByteLeaf>(ctx, segment, offset);
}
