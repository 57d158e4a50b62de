// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Append, compaction and column writes of RowsEmitter.h. Reading is in RowsEmitterRead.cpp.

#include "targets/cpu/RowsEmitter.h"

#include "targets/cpu/RowsEmitterRuns.h"
#include "targets/cpu/StoreAccess.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

/// Rows of a task's block when it copies rows.
static constexpr int64_t copyBlockRows = 64;

// ---- append
// ---------------------------------------------------------------------------------------------------------

/// The constant as a vector of n lanes of what lies in memory before narrowing: f32, or i32 for
/// integers.
static Value constantLanes(KernelBuilder &k, double constant, bool floats, int64_t n) {
  return floats ? k.splatF32(constant, n) : k.splatI32(static_cast<int64_t>(constant), n);
}

/// Writes event row `i` of a head to store row `row`.
static void appendRow(StoreAccess &store, const AppendSource &source,
                      const StoreAccess::ExactRows &rows, Value head, Value i, Value row) {
  KernelBuilder &k = store.kernel();
  const abi::ColumnLayout &column = store.column(source.column);
  abi::ElementType elem = column.exactElem;
  bool floats = isFloatElement(elem);
  Value target = store.exactRow(rows, row);
  Value heads = store.heads(), own = head;
  if (source.sharedBy > 1) {
    heads = k.floorDiv(heads, source.sharedBy);
    own = k.floorDiv(head, source.sharedBy);
  }
  Value from = source.kind == AppendSource::Kind::Rows
                   ? k.mul(k.add(k.mul(i, heads), own), column.width)
                   : i;
  for (ChannelChunk chunk : channelChunks(column.width)) {
    Value values;
    if (source.kind == AppendSource::Kind::Constant) {
      values = constantLanes(k, source.constant, floats, chunk.size);
    } else if (source.kind == AppendSource::Kind::Positions) {
      values = k.loadI32(k.arg(source.buffer), from, {}, 1);
    } else {
      values = k.loadF32(k.arg(source.buffer), k.add(from, chunk.start), {}, chunk.size);
      values = floats ? values : k.f32ToInt(values);
    }
    Value at = k.add(target, chunk.start * abi::bytesOf(elem));
    floats ? store.storeF32(values, at, elem) : store.storeI32(values, at, elem);
  }
}

EmittedKernel mlir::kvcache::cpu::emitAppend(ModuleOp module, StringRef name,
                                             ArrayRef<abi::ColumnLayout> columns,
                                             ArrayRef<AppendSource> sources) {
  std::vector<KernelArg> args{KernelArg::store("store")};
  for (const AppendSource &source : sources) {
    if (source.kind != AppendSource::Kind::Constant) {
      bool positions = source.kind == AppendSource::Kind::Positions;
      args.push_back(KernelArg::buffer(source.buffer,
                                       positions ? abi::ElementType::I32 : abi::ElementType::F32));
    }
  }
  args.push_back(KernelArg::scalars("scalars"));
  KernelBuilder k(module, name, args);
  StoreAccess store(k, "store", columns);
  Value count = k.scalarIndex(k.arg("scalars"), 0), blocks = k.scalarIndex(k.arg("scalars"), 1);
  auto task = k.splitTask({store.heads(), blocks});
  Value head = task[0];
  Value before = k.sub(store.rows(head), count);
  SmallVector<StoreAccess::ExactRows> targets;
  for (const AppendSource &source : sources) {
    targets.push_back(store.exactRows(source.column, head));
  }
  store.forRowBlocks(k.index(0), count, task[1], blocks, copyBlockRows, [&](Value lo, Value hi) {
    k.forLoop(lo, hi, k.index(1), [&](Value i) {
      for (auto [source, rows] : llvm::zip(sources, targets)) {
        appendRow(store, source, rows, head, i, k.add(before, i));
      }
    });
  });
  k.finish();
  return {name.str(), args, {"rows", "blocks"}, {"heads", "blocks"}, copyBlockRows};
}

// ---- compaction
// -----------------------------------------------------------------------------------------------------

/// Copies `bytes` bytes inside the arena; source and target do not overlap.
static void copyBytes(StoreAccess &store, Value from, Value to, int64_t bytes) {
  KernelBuilder &k = store.kernel();
  Type byte = k.builder().getI8Type();
  int64_t done = 0;
  for (int64_t piece : {64, 32, 16, 8, 4, 2, 1}) {
    for (; bytes - done >= piece; done += piece) {
      Value data = k.loadBytesAs(store.arena(), k.add(from, done), k.vec(byte, piece));
      k.storeBytesOf(data, store.arena(), k.add(to, done));
    }
  }
}

static void compactColumn(StoreAccess &store, int64_t column, Value head, Value listBase,
                          Value length) {
  KernelBuilder &k = store.kernel();
  StoreAccess::ExactRows rows = store.exactRows(column, head);
  const abi::ColumnLayout &layout = store.column(column);
  int64_t rowBytes = layout.width * abi::bytesOf(layout.exactElem);
  // Ascending order: indices[i] >= i, so a row is read before anything is written over it.
  k.forLoop(length, [&](Value i) {
    Value source = k.toIndex(k.load(k.arg("indices"), k.add(listBase, i)));
    k.ifThen(k.ne(source, i), [&] {
      copyBytes(store, store.exactRow(rows, source), store.exactRow(rows, i), rowBytes);
    });
  });
}

EmittedKernel mlir::kvcache::cpu::emitCompact(ModuleOp module, StringRef name,
                                              ArrayRef<abi::ColumnLayout> columns, KeptRows kept) {
  std::vector<KernelArg> args{KernelArg::store("store"),
                              KernelArg::buffer("indices", abi::ElementType::I32)};
  if (kept.raggedLengths) {
    args.push_back(KernelArg::buffer("lengths", abi::ElementType::I32));
  }
  args.push_back(KernelArg::scalars("scalars"));
  KernelBuilder k(module, name, args);
  StoreAccess store(k, "store", columns);
  auto task = k.splitTask({store.heads(), k.index(static_cast<int64_t>(columns.size()))});
  Value head = task[0];
  Value capacity = k.scalarIndex(k.arg("scalars"), 0);
  Value length = kept.raggedLengths ? k.toIndex(k.load(k.arg("lengths"), head))
                                    : k.scalarIndex(k.arg("scalars"), 1);
  Value listBase = kept.perHead ? k.mul(head, capacity) : k.index(0);
  for (int64_t column = 0; column < static_cast<int64_t>(columns.size()); ++column) {
    k.ifThen(k.eq(task[1], k.index(column)),
             [&] { compactColumn(store, column, head, listBase, length); });
  }
  k.finish();
  std::vector<std::string> words{"capacity"};
  if (!kept.raggedLengths) {
    words.push_back("length");
  }
  return {name.str(), args, words, {"heads", std::to_string(columns.size())}, 0};
}

// ---- column writes
// --------------------------------------------------------------------------------------------------

EmittedKernel mlir::kvcache::cpu::emitSetColumn(ModuleOp module, StringRef name,
                                                ArrayRef<abi::ColumnLayout> columns,
                                                int64_t column) {
  abi::ElementType elem = columns[column].exactElem;
  bool floats = isFloatElement(elem);
  std::vector<KernelArg> args{
      KernelArg::store("store"),
      KernelArg::buffer("values", floats ? abi::ElementType::F32 : abi::ElementType::I32),
      KernelArg::scalars("scalars")};
  KernelBuilder k(module, name, args);
  StoreAccess store(k, "store", columns);
  Value capacity = k.scalarIndex(k.arg("scalars"), 0), blocks = k.scalarIndex(k.arg("scalars"), 1);
  auto task = k.splitTask({store.heads(), blocks});
  Value values = k.arg("values");
  store.forRowBlocks(
      k.index(0), store.rows(task[0]), task[1], blocks, copyBlockRows, [&](Value lo, Value hi) {
        forDenseRuns(store, column, task[0], capacity, lo, hi,
                     [&](Value address, Value element, int64_t n) {
                       if (floats) {
                         store.storeF32(k.loadF32(values, element, {}, n), address, elem);
                       } else {
                         store.storeI32(k.loadI32(values, element, {}, n), address, elem);
                       }
                     });
      });
  k.finish();
  return {name.str(), args, {"capacity", "blocks"}, {"heads", "blocks"}, copyBlockRows};
}

void mlir::kvcache::cpu::forDenseRuns(
    StoreAccess &store, int64_t column, Value head, Value capacity, Value lo, Value hi,
    llvm::function_ref<void(Value address, Value element, int64_t n)> body) {
  KernelBuilder &k = store.kernel();
  const abi::ColumnLayout &layout = store.column(column);
  int64_t width = layout.width;
  for (abi::SegmentKind kind : {abi::SegmentKind::Sinks, abi::SegmentKind::Exact}) {
    if (!store.hasSegment(column, kind)) {
      continue;
    }
    SegmentAccess segment = store.segment(column, kind, head);
    int64_t bytes = abi::bytesOf(segment.layout->plane(abi::PlaneRole::Rows)->elem);
    store.forPages(segment, k.max(lo, segment.first), k.min(hi, segment.end),
                   [&](Value from, Value to, Value page) {
                     Value address = store.unit(segment, abi::PlaneRole::Rows, from, page);
                     Value element = k.mul(k.add(k.mul(head, capacity), from), width);
                     Value count = k.mul(k.sub(to, from), width);
                     Value full = k.mul(k.floorDiv(count, lanes), lanes);
                     k.forLoop(k.index(0), full, k.index(lanes), [&](Value i) {
                       body(k.add(address, k.mul(i, bytes)), k.add(element, i), lanes);
                     });
                     k.forLoop(full, count, k.index(1), [&](Value i) {
                       body(k.add(address, k.mul(i, bytes)), k.add(element, i), 1);
                     });
                   });
  }
}
