// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Row by row, 16 channels at a time; float columns only, as for every coded column.

#include "targets/cpu/DueRows.h"

#include "targets/cpu/StoreAccess.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
namespace abi = ::kvcache::abi;

/// Rows of a task's block.
static constexpr int64_t dueBlockRows = 32;

/// Calls `body(address, element, chunk)` for each chunk of the due rows of this task: `address` in
/// the arena, `element` in the buffer.
static void
forDueChunks(StoreAccess &store, int64_t column, Value head, Value block, Value first, Value end,
             llvm::function_ref<void(Value address, Value element, ChannelChunk chunk)> body) {
  KernelBuilder &k = store.kernel();
  const abi::ColumnLayout &layout = store.column(column);
  Value capacity = k.scalarIndex(k.arg("scalars"), 0), blocks = k.scalarIndex(k.arg("scalars"), 1);
  SegmentAccess exact = store.segment(column, abi::SegmentKind::Exact, head);
  store.forRowBlocks(first, end, block, blocks, dueBlockRows, [&](Value lo, Value hi) {
    k.forLoop(lo, hi, k.index(1), [&](Value row) {
      Value address = store.unit(exact, abi::PlaneRole::Rows, row);
      Value element = k.mul(k.add(k.mul(head, capacity), k.sub(row, first)), layout.width);
      for (ChannelChunk chunk : channelChunks(layout.width)) {
        body(k.add(address, chunk.start * abi::bytesOf(layout.exactElem)),
             k.add(element, chunk.start), chunk);
      }
    });
  });
}

EmittedKernel mlir::kvcache::cpu::emitLoadDue(ModuleOp module, StringRef name,
                                              ArrayRef<abi::ColumnLayout> columns, int64_t column,
                                              int64_t block) {
  std::vector<KernelArg> args{KernelArg::store("store"),
                              KernelArg::buffer("due", abi::ElementType::I64),
                              KernelArg::buffer("lengths", abi::ElementType::I32),
                              KernelArg::buffer("rows", abi::ElementType::F32),
                              KernelArg::scalars("scalars")};
  KernelBuilder k(module, name, args);
  StoreAccess store(k, "store", columns);
  auto task = k.splitTask({store.heads(), k.scalarIndex(k.arg("scalars"), 1)});
  Value due = k.mul(task[0], 2);
  Value first = k.toIndex(k.load(k.arg("due"), due)),
        end = k.toIndex(k.load(k.arg("due"), k.add(due, 1)));
  k.ifThen(k.eq(task[1], k.index(0)), [&] {
    k.store(k.toI32(k.floorDiv(k.sub(end, first), block)), k.arg("lengths"), task[0]);
  });
  abi::ElementType elem = columns[column].exactElem;
  forDueChunks(store, column, task[0], task[1], first, end,
               [&](Value address, Value element, ChannelChunk chunk) {
                 k.storeF32(store.loadF32(address, elem, chunk.size), k.arg("rows"), element);
               });
  k.finish();
  return {name.str(), args, {"capacity", "blocks"}, {"heads", "blocks"}, dueBlockRows};
}

EmittedKernel mlir::kvcache::cpu::emitStoreDue(ModuleOp module, StringRef name,
                                               ArrayRef<abi::ColumnLayout> columns,
                                               int64_t column) {
  std::vector<KernelArg> args{
      KernelArg::store("store"), KernelArg::buffer("due", abi::ElementType::I64),
      KernelArg::buffer("rows", abi::ElementType::F32), KernelArg::scalars("scalars")};
  KernelBuilder k(module, name, args);
  StoreAccess store(k, "store", columns);
  auto task = k.splitTask({store.heads(), k.scalarIndex(k.arg("scalars"), 1)});
  Value due = k.mul(task[0], 2);
  Value first = k.toIndex(k.load(k.arg("due"), due)),
        end = k.toIndex(k.load(k.arg("due"), k.add(due, 1)));
  abi::ElementType elem = columns[column].exactElem;
  forDueChunks(store, column, task[0], task[1], first, end,
               [&](Value address, Value element, ChannelChunk chunk) {
                 store.storeF32(k.loadF32(k.arg("rows"), element, {}, chunk.size), address, elem);
               });
  k.finish();
  return {name.str(), args, {"capacity", "blocks"}, {"heads", "blocks"}, dueBlockRows};
}
