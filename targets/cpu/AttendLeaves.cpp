// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which leaf reads which segment: the one place that looks at the storage of K and V.

#include "targets/cpu/AttendLeaf.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::SegmentKind;

Value mlir::kvcache::cpu::attendScratch(KernelBuilder &k, int64_t n) {
  OpBuilder &b = k.builder();
  auto fixed = MemRefType::get({n}, b.getF32Type());
  Value memory = memref::AllocaOp::create(b, k.loc(), fixed, b.getI64IntegerAttr(64));
  return memref::CastOp::create(b, k.loc(), MemRefType::get({ShapedType::kDynamic}, b.getF32Type()), memory);
}

void mlir::kvcache::cpu::clearScratch(KernelBuilder &k, Value memref, int64_t n) {
  k.forLoop(k.index(0), k.index(n), k.index(lanes), [&](Value word) { k.storeVector(k.splatF32(0), memref, word); });
}

int64_t AttendSpec::partialWidth() const { return paddedDim(); }

std::string mlir::kvcache::cpu::whyNotAttend(const AttendSpec &spec) {
  for (int64_t column : {spec.k, spec.v}) {
    const ColumnLayout &layout = spec.columns[column];
    if (layout.width != spec.headDim) {
      return "expected " + std::to_string(spec.headDim) + " values per row of K and V, got " + std::to_string(layout.width);
    }
  }
  return "";
}

AttendLeaves mlir::kvcache::cpu::makeAttendLeaves(AttendContext &ctx) {
  const AttendSpec &spec = ctx.spec;
  AttendLeaves leaves;
  ctx.sumsStride = spec.partialWidth();
  for (SegmentKind kind : {SegmentKind::Sinks, SegmentKind::Coded, SegmentKind::Exact}) {
    if (ctx.store.hasSegment(spec.k, kind)) {
      SegmentAccess segment = ctx.store.segment(spec.k, kind, ctx.head);
      leaves.logits.push_back({segment, makeDenseLogitLeaf(ctx, segment, spec.headDim, ctx.queries)});
    }
    if (spec.wantsOut && ctx.store.hasSegment(spec.v, kind)) {
      SegmentAccess segment = ctx.store.segment(spec.v, kind, ctx.head);
      leaves.values.push_back({segment, makeDenseValueLeaf(ctx, segment, spec.headDim, 0)});
    }
  }
  return leaves;
}

void mlir::kvcache::cpu::emitAttendValueMaps(KernelBuilder &k, const AttendSpec &spec, Value joined, Value kvHead) {}
