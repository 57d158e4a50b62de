// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel that reads a column as its reader sees it.

#include "targets/cpu/RowTransforms.h"
#include "targets/cpu/RowsEmitter.h"
#include "targets/cpu/RowsEmitterRuns.h"
#include "targets/cpu/StoreAccess.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

/// Rows of a task's block when it decodes rows.
static constexpr int64_t readBlockRows = 64;

std::string mlir::kvcache::cpu::whyNotRead(const abi::ColumnLayout &column, int64_t ropeDim) {
  if (column.affine() && column.width > maxUnrolledWidth) {
    return "expected at most " + std::to_string(maxUnrolledWidth) + " values per coded row, got " +
           std::to_string(column.width);
  }
  if (ropeDim > 0 &&
      (ropeDim % 2 != 0 || column.width % ropeDim != 0 || !isFloatElement(column.exactElem))) {
    return "expected rows of an even number of floats per head under rope, got " +
           std::to_string(column.width) + " in heads of " + std::to_string(ropeDim);
  }
  return {};
}

namespace {

/// The read of one column in the kernel under construction.
struct Reader {
  KernelBuilder &k;
  StoreAccess &store;
  int64_t column;
  Value head, capacity, out;
  FactorAccess factor; ///< set for a factor column
  Value scratch;       ///< coefficients of a row, for a factor column

  Value outBase(Value row) {
    return k.mul(k.add(k.mul(head, capacity), row), store.column(column).width);
  }

  void readExact(Value lo, Value hi) {
    abi::ElementType elem = store.column(column).exactElem;
    forDenseRuns(store, column, head, capacity, lo, hi,
                 [&](Value address, Value element, int64_t n) {
                   k.storeVector(isFloatElement(elem) ? store.loadF32(address, elem, n)
                                                      : store.loadI32(address, elem, n),
                                 out, element);
                 });
  }

  void readCoded(Value lo, Value hi) {
    SegmentAccess coded = store.segment(column, abi::SegmentKind::Coded, head);
    store.forPages(coded, k.max(lo, coded.first), k.min(hi, coded.end),
                   [&](Value from, Value to, Value page) {
                     k.forLoop(from, to, k.index(1), [&](Value row) {
                       store.column(column).rank > 0 ? readFactorRow(coded, row, page)
                                                     : readAffineRow(coded, row, page);
                     });
                   });
  }

  void readFactorRow(const SegmentAccess &coded, Value row, Value page) {
    abi::ElementType elem = store.column(column).factorElem;
    Value base = store.unit(coded, abi::PlaneRole::Rows, row, page);
    SmallVector<Value> coefficients;
    for (ChannelChunk chunk : channelChunks(factor.rank)) {
      coefficients.push_back(
          store.loadF32(k.add(base, chunk.start * abi::bytesOf(elem)), elem, chunk.size));
    }
    reconstruct(k, factor, coefficients, scratch, out, outBase(row));
  }

  void readAffineRow(const SegmentAccess &coded, Value row, Value page) {
    const abi::ColumnLayout &layout = store.column(column);
    auto chunks = channelChunks(layout.width);
    SmallVector<Value> values;
    for (ChannelChunk chunk : chunks) {
      values.push_back(store.decode(coded, row, page, chunk));
    }
    if (layout.rotated) {
      values = hadamard(k, values, layout.width); // its own inverse
    }
    Value base = outBase(row);
    for (auto [chunk, value] : llvm::zip(chunks, values)) {
      k.storeF32(value, out, k.add(base, chunk.start));
    }
  }
};

} // namespace

EmittedKernel mlir::kvcache::cpu::emitRead(ModuleOp module, StringRef name,
                                           ArrayRef<abi::ColumnLayout> columns, int64_t column,
                                           int64_t ropeDim) {
  const abi::ColumnLayout &layout = columns[column];
  std::vector<KernelArg> args{KernelArg::store("store")};
  if (layout.rank > 0) {
    args.push_back(KernelArg::buffer("basis", abi::ElementType::F32));
    args.push_back(KernelArg::buffer("mean", abi::ElementType::F32));
  }
  if (ropeDim > 0) {
    args.push_back(KernelArg::buffer("ropeTable", abi::ElementType::F32));
  }
  args.push_back(KernelArg::buffer(
      "out", isFloatElement(layout.exactElem) ? abi::ElementType::F32 : abi::ElementType::I32));
  args.push_back(KernelArg::scalars("scalars"));
  KernelBuilder k(module, name, args);
  StoreAccess store(k, "store", columns);
  Value capacity = k.scalarIndex(k.arg("scalars"), 0), blocks = k.scalarIndex(k.arg("scalars"), 1);
  auto task = k.splitTask({store.heads(), blocks});
  Reader reader{k, store, column, task[0], capacity, k.arg("out"), {}, {}};
  if (layout.rank > 0) {
    reader.factor = {k.arg("basis"), k.arg("mean"), task[0], layout.width, layout.rank};
    reader.scratch = stackF32(k, (layout.rank + lanes - 1) / lanes * lanes);
  }
  store.forRowBlocks(
      k.index(0), store.rows(task[0]), task[1], blocks, readBlockRows, [&](Value lo, Value hi) {
        reader.readExact(lo, hi);
        if (layout.coded) {
          reader.readCoded(lo, hi);
        }
        if (ropeDim > 0) {
          k.forLoop(lo, hi, k.index(1), [&](Value row) {
            Value base = reader.outBase(row);
            k.forLoop(base, k.add(base, layout.width), k.index(ropeDim), [&](Value at) {
              rotateStoredRow(k, reader.out, at, k.arg("ropeTable"), row, ropeDim);
            });
          });
        }
      });
  k.finish();
  return {name.str(), args, {"capacity", "blocks"}, {"heads", "blocks"}, readBlockRows};
}
