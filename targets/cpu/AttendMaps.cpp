// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rotations and factors pushed past the rows: q . (H c) = (H q) . c, sum of p (H c) = H (sum of p
// c), and the same with a basis and its mean.

#include "targets/cpu/AttendMaps.h"
#include "targets/cpu/AttendCodes.h"
#include "targets/cpu/AttendRowLoader.h"

#include <cmath>

using namespace mlir;
using namespace mlir::kvcache::cpu;

/// One butterfly of distance `half` < 16 within a vector: lane l gets v[l ^ half] + v[l], or v[l ^
/// half] - v[l] in upper lanes.
static Value butterfly(KernelBuilder &k, Value vector, int64_t half) {
  SmallVector<int64_t> partner;
  SmallVector<float> sign;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    partner.push_back(lane ^ half);
    sign.push_back(lane & half ? -1.0f : 1.0f);
  }
  Value signs = arith::ConstantOp::create(
      k.builder(), k.loc(), DenseElementsAttr::get(k.vec(k.f32Type()), ArrayRef<float>(sign)));
  return k.fma(vector, signs, k.shuffle(vector, vector, partner));
}

void mlir::kvcache::cpu::rotateScratch(KernelBuilder &k, Value memref, Value offset, int64_t n) {
  SmallVector<Value> vectors;
  for (int64_t at = 0; at < n; at += lanes) {
    Value vector = k.loadVector(memref, k.add(offset, at));
    for (int64_t half = 1; half < std::min(n, lanes); half *= 2) {
      vector = butterfly(k, vector, half);
    }
    vectors.push_back(vector);
  }
  for (size_t half = 1; half < vectors.size(); half *= 2) {
    for (size_t i = 0; i < vectors.size(); ++i) {
      if ((i & half) == 0) {
        Value low = vectors[i], high = vectors[i | half];
        vectors[i] = k.add(low, high);
        vectors[i | half] = k.sub(low, high);
      }
    }
  }
  Value scale = k.splatF32(1.0 / std::sqrt(static_cast<double>(n)));
  for (size_t i = 0; i < vectors.size(); ++i) {
    k.storeVector(k.mul(vectors[i], scale), memref, k.add(offset, static_cast<int64_t>(i) * lanes));
  }
}

void mlir::kvcache::cpu::rotateAttendQueries(AttendContext &ctx, Value rotated) {
  KernelBuilder &k = ctx.k;
  int64_t dim = ctx.spec.paddedDim();
  k.forLoop(k.index(0), k.index(ctx.spec.group() * dim), k.index(dim), [&](Value at) {
    for (int64_t i = 0; i < dim; i += lanes) {
      k.storeVector(k.loadVector(ctx.queries, k.add(at, i)), rotated, k.add(at, i));
    }
    rotateScratch(k, rotated, at, ctx.spec.headDim);
  });
}

void mlir::kvcache::cpu::projectAttendQueries(AttendContext &ctx, Value projected,
                                              Value constants) {
  KernelBuilder &k = ctx.k;
  int64_t rank = ctx.spec.keys().rank, dim = ctx.spec.headDim;
  std::vector<ChannelChunk> chunks = channelChunks(rank);
  Value firstRow = k.mul(ctx.head, dim);
  k.forLoop(k.index(ctx.spec.group()), [&](Value g) {
    Value query = k.mul(g, ctx.spec.paddedDim());
    SmallVector<Value> init(chunks.size(), k.splatF32(0));
    init.push_back(k.f32(0));
    SmallVector<Value> sums = k.forLoop(
        k.index(0), k.index(dim), k.index(1), init, [&](Value channel, ValueRange carried) {
          Value q = k.load(ctx.queries, k.add(query, channel)), row = k.add(firstRow, channel),
                spread = k.broadcast(q);
          SmallVector<Value> next;
          for (size_t i = 0; i < chunks.size(); ++i) {
            Value mask =
                chunks[i].size == lanes ? Value() : k.tailMask(k.index(0), k.index(chunks[i].size));
            Value basis =
                k.loadVector(k.arg("kBasis"), k.add(k.mul(row, rank), chunks[i].start), mask);
            next.push_back(k.fma(spread, basis, carried[i]));
          }
          next.push_back(k.fma(q, k.load(k.arg("kMean"), row), carried.back()));
          return next;
        });
    for (size_t i = 0; i < chunks.size(); ++i) {
      k.storeVector(sums[i], projected, k.add(k.mul(g, paddedWidth(rank)), chunks[i].start));
    }
    k.store(sums.back(), constants, g);
  });
}

namespace {

class WeightSumLeaf final : public AttendValueLeaf {
public:
  WeightSumLeaf(AttendContext &ctx, int64_t offset) : ctx_(ctx), k_(ctx.k), offset_(offset) {}

  void emit(Value lo, Value hi, Value tileStart) override {
    Value first = k_.sub(lo, tileStart), end = k_.sub(hi, tileStart);
    k_.forLoop(k_.index(ctx_.spec.group()), [&](Value g) {
      Value place = k_.add(k_.mul(g, ctx_.sumsStride), offset_), base = k_.mul(g, attendTileStride);
      Value sum =
          k_.forVectors(first, end, {k_.loadVector(ctx_.sums, place)},
                        [&](Value at, Value mask, ValueRange carried) {
                          return SmallVector<Value>{
                              k_.add(carried[0], k_.loadVector(ctx_.tile, k_.add(base, at), mask))};
                        })[0];
      k_.storeVector(sum, ctx_.sums, place);
    });
  }

private:
  AttendContext &ctx_;
  KernelBuilder &k_;
  int64_t offset_;
};

/// joined[d] += sum over r of coefficients[r] * basis[d][r] + mean[d] * (sum of p).
void addFactor(KernelBuilder &k, const AttendSpec &spec, Value joined, Value kvHead) {
  int64_t rank = spec.values().rank, first = spec.paddedDim();
  Value weight = k.reduceAdd(k.loadVector(joined, k.index(first + paddedWidth(rank))));
  k.forLoop(k.index(spec.headDim), [&](Value channel) {
    Value row = k.add(k.mul(kvHead, spec.headDim), channel), sum = k.splatF32(0);
    for (const ChannelChunk &chunk : channelChunks(rank)) {
      Value mask = chunk.size == lanes ? Value() : k.tailMask(k.index(0), k.index(chunk.size));
      Value basis = k.loadVector(k.arg("vBasis"), k.add(k.mul(row, rank), chunk.start), mask);
      sum = k.fma(basis, k.loadVector(joined, k.index(first + chunk.start)), sum);
    }
    Value mapped = k.fma(weight, k.load(k.arg("vMean"), row), k.reduceAdd(sum));
    k.store(k.add(k.load(joined, channel), mapped), joined, channel);
  });
}

} // namespace

std::unique_ptr<AttendValueLeaf> mlir::kvcache::cpu::makeWeightSumLeaf(AttendContext &ctx,
                                                                       int64_t offset) {
  return std::make_unique<WeightSumLeaf>(ctx, offset);
}

void mlir::kvcache::cpu::emitAttendValueMaps(KernelBuilder &k, const AttendSpec &spec, Value joined,
                                             Value kvHead) {
  if (spec.values().rank > 0) {
    addFactor(k, spec, joined, kvHead);
  }
  bool isInWords = spec.values().affine() && canReadWords(spec, spec.values());
  if (!isInWords && !spec.values().rotated) {
    return;
  }
  int64_t dim = spec.paddedDim(), coded = dim;
  if (isInWords) {
    coded = spec.partialWidth(); // the caller's scratch has Dp words more
    for (int64_t at = 0; at < dim; at += lanes) {
      k.storeVector(k.splatF32(0), joined, k.index(coded + at));
    }
    auto order = weighsInBytes(spec, spec.values()) ? orderByteSums : orderWordSums;
    order(k, spec.values(), joined, dim, coded);
  }
  if (spec.values().rotated) {
    rotateScratch(k, joined, k.index(coded), spec.headDim);
  }
  for (int64_t at = 0; at < dim; at += lanes) {
    Value sum = k.add(k.loadVector(joined, k.index(at)), k.loadVector(joined, k.index(coded + at)));
    k.storeVector(sum, joined, k.index(at));
  }
}
