// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows of a tile as f32 scratch, for kernels that use them many times (prefill, column sums).
//
// Invariant: only rows of exact segments are read; rows [0, count) of the scratch are written.

#include "targets/cpu/AttendLeaf.h"
#include "targets/cpu/RowTransforms.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::PlaneRole;
using ::kvcache::abi::SegmentKind;

void mlir::kvcache::cpu::widenAttendRows(StoreAccess &store, const AttendSpec &spec, int64_t column,
                                         Value head, Value tileStart, Value count, Value scratch) {
  KernelBuilder &k = store.kernel();
  int64_t width = spec.columns[static_cast<size_t>(column)].width / spec.headsOfRow();
  Value tileEnd = k.add(tileStart, count);
  for (SegmentKind kind : {SegmentKind::Sinks, SegmentKind::Exact}) {
    if (!store.hasSegment(column, kind)) {
      continue;
    }
    SegmentAccess segment = attendSegment(store, spec, column, kind, head);
    Value lo = k.max(segment.first, tileStart), hi = k.min(segment.end, tileEnd);
    store.forPages(segment, lo, hi, [&](Value first, Value end, Value page) {
      k.forLoop(first, end, k.index(1), [&](Value row) {
        Value typed = k.typedAt(store.arena(), store.unit(segment, PlaneRole::Rows, row, page),
                                segment.layout->plane(PlaneRole::Rows)->elem);
        Value to = k.mul(k.sub(row, tileStart), (width + lanes - 1) / lanes * lanes);
        for (const ChannelChunk &chunk : channelChunks(width)) {
          Value mask = chunk.size == lanes ? Value() : k.tailMask(k.index(0), k.index(chunk.size));
          Value from = k.index(chunk.start);
          from = segment.firstValue ? k.add(segment.firstValue, from) : from;
          k.storeVector(k.loadF32(typed, from, mask), scratch, k.add(to, chunk.start));
        }
        if (spec.ropeView && column == spec.k) {
          rotateStoredRow(k, scratch, to, k.arg("rope"), row, spec.headDim);
        }
      });
    });
  }
}
