// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Values as words of codes: sums stay in the order of the words until the splits are merged.
//
// Invariant: a row behind the last one may be read, but its weight is 0.

#include "targets/cpu/AttendWordRows.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::PlaneRole;

namespace {

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
            emitCodes(first, end, page, head == 0 && j == 0 ? next : Value(), part, j,
                      std::min(atOnce, perWord_ - j), head, heads);
          }
        }
      }
    });
  }

private:
  Value weightsPlace(Value vector, int64_t head, int64_t part) {
    return k_.add(k_.mul(vector, ctx_.spec.group() * parts_ * lanes),
                  (head * parts_ + part) * lanes);
  }

  /// weights_[vector][head][part][lane] = p of the lane's row times its scale; adds p times the
  /// constant term.
  void emitWeights(Value first, Value end, Value page, Value tileStart, int64_t firstHead,
                   int64_t heads) {
    SmallVector<Value> constants;
    auto place = [&](int64_t head, int64_t part) {
      return k_.index((firstHead + head) * ctx_.sumsStride + constants_ + part * lanes);
    };
    for (int64_t i = 0; i < heads * parts_; ++i) {
      constants.push_back(k_.loadVector(ctx_.sums, place(i / parts_, i % parts_)));
    }
    constants =
        k_.forLoop(first, end, k_.index(rows_), constants, [&](Value row, ValueRange carried) {
          SmallVector<Value> next(carried), scales, terms;
          for (int64_t part = 0; part < parts_; ++part) {
            scales.push_back(loadGroups(PlaneRole::Scales, row, page, 0, part));
            terms.push_back(unpacker_.constantTerm(
                scales[part], loadGroups(PlaneRole::Zeros, row, page, 0, part)));
            maskRows(row, end, scales[part]);
            maskRows(row, end, terms[part]);
          }
          Value vector = k_.floorDiv(k_.sub(row, first), rows_);
          for (int64_t head = 0; head < heads; ++head) {
            Value p =
                loadWeights(k_.add(k_.sub(row, tileStart), (firstHead + head) * attendTileStride));
            maskRows(row, end, p);
            for (int64_t part = 0; part < parts_; ++part) {
              k_.storeVector(k_.mul(p, scales[part]), weights_,
                             weightsPlace(vector, firstHead + head, part));
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

  void emitCodes(Value first, Value end, Value page, Value nextPage, int64_t part,
                 int64_t firstCode, int64_t codes, int64_t firstHead, int64_t heads) {
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
  Value weights_;             ///< f32 [64 / rows][G][parts][16]
};

} // namespace

int64_t mlir::kvcache::cpu::wordSumsWidth(const ColumnLayout &column) {
  WordMap map(column);
  return map.parts * (map.perWord + 1) * lanes;
}

Value mlir::kvcache::cpu::addRowLanes(KernelBuilder &k, const WordMap &map, Value sums) {
  for (int64_t half = lanes / 2; half >= map.words; half /= 2) {
    SmallVector<int64_t> partner;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      partner.push_back(lane ^ half);
    }
    sums = k.add(sums, k.shuffle(sums, sums, partner));
  }
  return sums;
}

void mlir::kvcache::cpu::orderWordSums(KernelBuilder &k, const ColumnLayout &column, Value memref,
                                       int64_t from, int64_t to) {
  WordMap map(column);
  CodeUnpacker unpacker(k, column);
  for (int64_t part = 0; part < map.parts; ++part) {
    Value constant = k.loadVector(memref, k.index(from + (map.parts * map.perWord + part) * lanes));
    for (int64_t j = 0; j < map.perWord; ++j) {
      Value codes = k.loadVector(memref, k.index(from + (part * map.perWord + j) * lanes));
      Value sum = k.fma(codes, k.splatF32(1.0 / unpacker.weight(j)), constant);
      sum = addRowLanes(k, map, sum);
      for (int64_t lane = 0; lane < std::min(map.words, lanes); ++lane) {
        Value place = k.index(to + (part * lanes + lane) * map.perWord + j);
        k.store(k.add(k.load(memref, place), k.extractLane(sum, lane)), memref, place);
      }
    }
  }
}

std::unique_ptr<AttendValueLeaf>
mlir::kvcache::cpu::makeWordValueLeaf(AttendContext &ctx, SegmentAccess segment, int64_t offset) {
  return std::make_unique<WordValueLeaf>(ctx, segment, offset);
}
