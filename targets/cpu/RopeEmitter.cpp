// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scalar loops: a few rows of an event, or one table per event of a method that re-indexes its
// cache.

#include "targets/cpu/RopeEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ElementType;

namespace {

struct Rotation {
  Value cosine, sine;
};

/// Cosine and sine, as f32, of position * frequency.
Rotation rotation(KernelBuilder &k, Value position, Value frequency) {
  OpBuilder &b = k.builder();
  Type f64 = b.getF64Type();
  Value angle =
      arith::MulFOp::create(b, k.loc(), arith::SIToFPOp::create(b, k.loc(), f64, k.toI64(position)),
                            arith::ExtFOp::create(b, k.loc(), f64, frequency));
  auto narrow = [&](Value value) {
    return arith::TruncFOp::create(b, k.loc(), k.f32Type(), value).getResult();
  };
  return {narrow(math::CosOp::create(b, k.loc(), angle)),
          narrow(math::SinOp::create(b, k.loc(), angle))};
}

} // namespace

EmittedKernel emitRopeTable(ModuleOp module, StringRef name, int64_t headDim) {
  EmittedKernel result;
  result.name = name.str();
  result.args = {KernelArg::buffer("frequencies", ElementType::F32),
                 KernelArg::buffer("table", ElementType::F32), KernelArg::scalars("scalars")};
  result.words = {"rows", "blocks"};
  result.grid = {"blocks"};
  KernelBuilder k(module, name, result.args);
  Value rows = k.scalarIndex(k.arg("scalars"), 0), blocks = k.scalarIndex(k.arg("scalars"), 1);
  k.forLoop(k.task(), rows, blocks, [&](Value row) {
    k.forLoop(k.index(headDim / 2), [&](Value i) {
      Rotation r = rotation(k, row, k.load(k.arg("frequencies"), i));
      Value at = k.add(k.mul(row, headDim), i);
      k.store(r.cosine, k.arg("table"), at);
      k.store(r.sine, k.arg("table"), k.add(at, headDim / 2));
    });
  });
  k.finish();
  return result;
}

EmittedKernel emitRopeRows(ModuleOp module, StringRef name, int64_t heads, int64_t headDim,
                           bool inverse) {
  EmittedKernel result;
  result.name = name.str();
  result.args = {KernelArg::buffer("rows", ElementType::F32),
                 KernelArg::buffer("positions", ElementType::I32),
                 KernelArg::buffer("frequencies", ElementType::F32),
                 KernelArg::buffer("out", ElementType::F32), KernelArg::scalars("scalars")};
  result.words = {"rows"};
  result.grid = {"rows"};
  KernelBuilder k(module, name, result.args);
  Value position = k.load(k.arg("positions"), k.task());
  k.forLoop(k.index(headDim / 2), [&](Value i) {
    Rotation r = rotation(k, position, k.load(k.arg("frequencies"), i));
    Value sine = inverse ? k.neg(r.sine) : r.sine;
    k.forLoop(k.index(heads), [&](Value head) {
      Value first = k.add(k.mul(k.add(k.mul(k.task(), heads), head), headDim), i),
            second = k.add(first, headDim / 2);
      Value x = k.load(k.arg("rows"), first), y = k.load(k.arg("rows"), second);
      auto product = [&](Value a, Value b) {
        return arith::MulFOp::create(k.builder(), k.loc(), a, b).getResult();
      };
      auto sum = [&](Value a, Value b) {
        return arith::AddFOp::create(k.builder(), k.loc(), a, b).getResult();
      };
      k.store(sum(product(x, r.cosine), k.neg(product(y, sine))), k.arg("out"), first);
      k.store(sum(product(y, r.cosine), product(x, sine)), k.arg("out"), second);
    });
  });
  k.finish();
  return result;
}

} // namespace mlir::kvcache::cpu
