// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Emission of the maps of RowTransforms.h.

#include "targets/cpu/RowTransforms.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

#include <cmath>

using namespace mlir;
using namespace mlir::kvcache::cpu;

Value mlir::kvcache::cpu::stackF32(KernelBuilder &k, int64_t n) {
  OpBuilder &b = k.builder();
  auto fixed = MemRefType::get({n}, b.getF32Type());
  Value memory = memref::AllocaOp::create(b, k.loc(), fixed, b.getI64IntegerAttr(64));
  return memref::CastOp::create(b, k.loc(), MemRefType::get({ShapedType::kDynamic}, b.getF32Type()),
                                memory);
}

static int64_t lengthOf(Value vector) {
  return cast<VectorType>(vector.getType()).getNumElements();
}

/// One stage inside a vector: lane l becomes x[l] + x[l + stride] where bit `stride` of l is 0,
/// else x[l - stride] - x[l].
static Value butterflyInside(KernelBuilder &k, Value x, int64_t stride) {
  SmallVector<int64_t> partner;
  SmallVector<float> signs;
  for (int64_t lane = 0; lane < lengthOf(x); ++lane) {
    partner.push_back(lane ^ stride);
    signs.push_back(lane & stride ? -1.0f : 1.0f);
  }
  Value sign = arith::ConstantOp::create(
      k.builder(), k.loc(),
      DenseElementsAttr::get(cast<VectorType>(x.getType()), ArrayRef<float>(signs)));
  return k.add(k.shuffle(x, x, partner), k.mul(x, sign)); // a product with 1 or -1 is exact
}

SmallVector<Value> mlir::kvcache::cpu::hadamard(KernelBuilder &k, ArrayRef<Value> chunks,
                                                int64_t width) {
  SmallVector<Value> row(chunks);
  for (int64_t stride = 1; stride < std::min(width, lanes); stride *= 2) {
    for (Value &chunk : row) {
      chunk = butterflyInside(k, chunk, stride);
    }
  }
  for (size_t apart = 1; apart < row.size(); apart *= 2) {
    for (size_t i = 0; i < row.size(); ++i) {
      if ((i & apart) == 0) {
        Value a = row[i], b = row[i + apart];
        row[i] = k.add(a, b);
        row[i + apart] = k.sub(a, b);
      }
    }
  }
  for (Value &chunk : row) {
    chunk = k.mul(chunk, k.splatF32(1.0 / std::sqrt(static_cast<double>(width)), lengthOf(chunk)));
  }
  return row;
}

SmallVector<Value> mlir::kvcache::cpu::project(KernelBuilder &k, const FactorAccess &factor,
                                               ArrayRef<Value> row, Value scratch) {
  Value meanBase = k.mul(factor.head, factor.width);
  auto channels = channelChunks(factor.width);
  for (size_t i = 0; i < channels.size(); ++i) {
    Value mean = k.loadF32(factor.mean, k.add(meanBase, channels[i].start), {}, channels[i].size);
    k.storeF32(k.sub(row[i], mean), scratch, k.index(channels[i].start));
  }
  Value basisBase = k.mul(meanBase, factor.rank);
  auto coefficients = channelChunks(factor.rank);
  SmallVector<Value> result;
  // As many accumulators at a time as fit into registers.
  constexpr size_t most = 8;
  for (size_t begin = 0; begin < coefficients.size(); begin += most) {
    ArrayRef<ChannelChunk> part =
        ArrayRef(coefficients).slice(begin, std::min(most, coefficients.size() - begin));
    SmallVector<Value> zeros;
    for (ChannelChunk chunk : part) {
      zeros.push_back(k.splatF32(0.0, chunk.size));
    }
    result.append(k.forLoop(
        k.index(0), k.index(factor.width), k.index(1), zeros, [&](Value channel, ValueRange sums) {
          Value x = k.loadScalarF32(scratch, channel);
          Value at = k.add(basisBase, k.mul(channel, factor.rank));
          SmallVector<Value> next;
          for (auto [chunk, sum] : llvm::zip(part, sums)) {
            Value basis = k.loadF32(factor.basis, k.add(at, chunk.start), {}, chunk.size);
            next.push_back(k.fma(k.broadcast(x, chunk.size), basis, sum));
          }
          return next;
        }));
  }
  return result;
}

void mlir::kvcache::cpu::reconstruct(KernelBuilder &k, const FactorAccess &factor,
                                     ArrayRef<Value> coefficients, Value scratch, Value out,
                                     Value base) {
  auto chunks = channelChunks(factor.rank);
  if (factor.rank % lanes != 0) {
    k.storeF32(k.splatF32(0.0), scratch,
               k.index(chunks.back().start)); // the padding of the last vector
  }
  for (auto [chunk, values] : llvm::zip(chunks, coefficients)) {
    k.storeF32(values, scratch, k.index(chunk.start));
  }
  Value meanBase = k.mul(factor.head, factor.width);
  k.forLoop(k.index(factor.width), [&](Value channel) {
    Value basisRow = k.mul(k.add(meanBase, channel), factor.rank);
    Value sum = k.splatF32(0.0);
    for (ChannelChunk chunk : chunks) {
      Value mask = chunk.size < lanes ? k.tailMask(k.index(0), k.index(chunk.size)) : Value();
      Value basis = k.loadF32(factor.basis, k.add(basisRow, chunk.start), mask);
      sum = k.fma(k.loadF32(scratch, k.index(chunk.start)), basis, sum);
    }
    Value mean = k.loadScalarF32(factor.mean, k.add(meanBase, channel));
    k.storeScalarF32(k.add(k.reduceAdd(sum), mean), out, k.add(base, channel));
  });
}

void mlir::kvcache::cpu::rotateStoredRow(KernelBuilder &k, Value rows, Value base, Value table,
                                         Value row, int64_t width) {
  int64_t half = width / 2;
  Value angles = k.mul(row, width);
  for (ChannelChunk chunk : channelChunks(half)) {
    Value low = k.add(base, chunk.start), high = k.add(low, half);
    Value cosAt = k.add(angles, chunk.start);
    Value a = k.loadF32(rows, low, {}, chunk.size), b = k.loadF32(rows, high, {}, chunk.size);
    Value cos = k.loadF32(table, cosAt, {}, chunk.size),
          sin = k.loadF32(table, k.add(cosAt, half), {}, chunk.size);
    k.storeF32(k.sub(k.mul(a, cos), k.mul(b, sin)), rows, low);
    k.storeF32(k.add(k.mul(b, cos), k.mul(a, sin)), rows, high);
  }
}
