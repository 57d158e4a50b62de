// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Joins the splits of decode attention: out = sum of exp(m_s - m) o_s / sum of exp(m_s - m) l_s,
// lse = m + log of that sum. Linear maps of the value storage (rotation, basis) are applied here,
// once per query row and head.
//
// Invariant: splits are added in ascending order.

#include "targets/cpu/AttendMaps.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <limits>

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ElementType;

namespace {

constexpr double minusInfinity = -std::numeric_limits<double>::infinity();

class MergeEmitter {
public:
  MergeEmitter(KernelBuilder &k, const AttendSpec &spec) : k_(k), spec_(spec) {}

  void emit() {
    Value words = k_.arg("scalars");
    Value splits = k_.scalarIndex(words, 1);
    SmallVector<Value> coordinates =
        k_.splitTask({k_.scalarIndex(words, 0), k_.index(spec_.queryHeads)});
    headRow_ = k_.add(k_.mul(coordinates[0], spec_.queryHeads), coordinates[1]);
    queryHead_ = coordinates[1];
    if (spec_.wantsOut) {
      joined_ = attendScratch(k_, spec_.partialWidth() + spec_.paddedDim());
      clearScratch(k_, joined_, spec_.partialWidth());
    }
    firstRecord_ = k_.mul(headRow_, splits);
    Value lastRecord = k_.add(firstRecord_, splits);
    Value maxima = k_.arg("maxima");
    Value maximum =
        k_.forLoop(firstRecord_, lastRecord, k_.index(1), {k_.f32(minusInfinity)},
                   [&](Value record, ValueRange m) {
                     return SmallVector<Value>{k_.max(m[0], k_.load(maxima, k_.mul(record, 2)))};
                   })[0];
    Value nothing = k_.eq(maximum, k_.f32(minusInfinity));
    Value reference = k_.select(nothing, k_.f32(0), maximum);
    Value total = k_.forLoop(firstRecord_, lastRecord, k_.index(1), {k_.f32(0)},
                             [&](Value record, ValueRange sum) {
                               return SmallVector<Value>{addRecord(record, reference, sum[0])};
                             })[0];
    if (spec_.wantsLse) {
      Value lse = k_.add(reference, math::LogOp::create(k_.builder(), k_.loc(),
                                                        k_.select(nothing, k_.f32(1), total)));
      k_.store(k_.select(nothing, k_.f32(minusInfinity), lse), k_.arg("lse"), headRow_);
    }
    if (spec_.wantsOut) {
      emitAttendValueMaps(k_, spec_, joined_, k_.floorDiv(queryHead_, spec_.group() * spec_.sharers));
      storeOut(k_.select(nothing, k_.f32(0), k_.div(k_.f32(1), total)));
    }
  }

private:
  /// Adds split `record` with its weight; returns the new sum of p.
  Value addRecord(Value record, Value reference, Value sum) {
    Value maxima = k_.arg("maxima"), at = k_.mul(record, 2);
    Value weights = k_.expNonPositive(k_.broadcast(k_.sub(k_.load(maxima, at), reference)));
    if (spec_.wantsOut) {
      Value base = k_.mul(record, spec_.partialWidth());
      k_.forLoop(k_.index(0), k_.index(spec_.partialWidth()), k_.index(lanes), [&](Value word) {
        Value part = k_.loadVector(k_.arg("partial"), k_.add(base, word));
        k_.storeVector(k_.fma(part, weights, k_.loadVector(joined_, word)), joined_, word);
      });
    }
    return k_.fma(k_.load(maxima, k_.add(at, 1)), k_.extractLane(weights, 0), sum);
  }

  void storeOut(Value factor) {
    Value factors = k_.broadcast(factor), base = k_.mul(headRow_, spec_.headDim);
    for (const ChannelChunk &chunk : channelChunks(spec_.headDim)) {
      Value mask = chunk.size == lanes ? Value() : k_.tailMask(k_.index(0), k_.index(chunk.size));
      Value out = k_.mul(k_.loadVector(joined_, k_.index(chunk.start)), factors);
      k_.storeVector(out, k_.arg("out"), k_.add(base, chunk.start), mask);
    }
  }

  KernelBuilder &k_;
  const AttendSpec &spec_;
  Value headRow_, queryHead_, firstRecord_;
  Value joined_; ///< f32 [partialWidth + Dp]
};

} // namespace

EmittedKernel mlir::kvcache::cpu::emitAttendMerge(ModuleOp module, const AttendSpec &spec) {
  EmittedKernel kernel;
  kernel.name = spec.name + "_merge";
  auto buffer = [&](const char *name) {
    kernel.args.push_back(KernelArg::buffer(name, ElementType::F32));
  };
  if (spec.wantsOut) {
    buffer("partial");
  }
  buffer("maxima");
  if (spec.wantsOut && spec.values().rank > 0) {
    buffer("vBasis");
    buffer("vMean");
  }
  if (spec.wantsOut) {
    buffer("out");
  }
  if (spec.wantsLse) {
    buffer("lse");
  }
  kernel.args.push_back(KernelArg::scalars("scalars"));
  kernel.words = {"rows", "splits"};
  kernel.grid = {"rows", std::to_string(spec.queryHeads)};
  KernelBuilder k(module, kernel.name, kernel.args);
  MergeEmitter(k, spec).emit();
  k.finish();
  return kernel;
}
