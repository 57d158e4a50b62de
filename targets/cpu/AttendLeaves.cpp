// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which leaf reads which segment: the one place that looks at the storage of K and V.

#include "targets/cpu/AttendCodes.h"
#include "targets/cpu/AttendMaps.h"
#include "targets/cpu/AttendRowLoader.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::kvcache::cpu;
using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::SegmentKind;

Value mlir::kvcache::cpu::attendScratch(KernelBuilder &k, int64_t n) {
  OpBuilder &b = k.builder();
  auto fixed = MemRefType::get({n}, b.getF32Type());
  Value memory = memref::AllocaOp::create(b, k.loc(), fixed, b.getI64IntegerAttr(64));
  return memref::CastOp::create(b, k.loc(), MemRefType::get({ShapedType::kDynamic}, b.getF32Type()),
                                memory);
}

void mlir::kvcache::cpu::clearScratch(KernelBuilder &k, Value memref, int64_t n) {
  k.forLoop(k.index(0), k.index(n), k.index(lanes),
            [&](Value word) { k.storeVector(k.splatF32(0), memref, word); });
}

Value mlir::kvcache::cpu::nextAttendPage(AttendContext &ctx, const SegmentAccess &segment,
                                         Value row) {
  Value last = ctx.k.sub(segment.end, ctx.k.index(1));
  return ctx.store.page(segment, ctx.k.min(ctx.k.add(row, segment.layout->rowsPerPage), last));
}

void mlir::kvcache::cpu::prefetchBytes(AttendContext &ctx, Value address, int64_t bytes) {
  OpBuilder &b = ctx.k.builder();
  for (int64_t at = 0; at < bytes; at += 64) {
    memref::PrefetchOp::create(b, ctx.k.loc(), ctx.store.arena(), ctx.k.add(address, at),
                               /*isWrite=*/false, /*localityHint=*/3,
                               /*isDataCache=*/true);
  }
}

int64_t AttendSpec::partialWidth() const {
  const ColumnLayout &layout = values();
  int64_t exact = paddedDim();
  if (layout.rank > 0) {
    return exact + paddedWidth(layout.rank) + lanes;
  }
  if (layout.affine() && canReadWords(*this, layout)) {
    return exact + wordSumsWidth(layout);
  }
  return layout.rotated ? 2 * exact : exact;
}

/// Why a column cannot be attended over; keys may be `narrower` than the head dim.
static std::string whyNotRows(const AttendSpec &spec, const ColumnLayout &layout, bool narrower) {
  int64_t heads = spec.headsOfRow(), width = heads * spec.headDim;
  if (layout.width != width && !(narrower && layout.width % heads == 0)) {
    std::string of =
        heads > 1 ? " (" + std::to_string(heads) + " heads of " + std::to_string(spec.headDim) + ")"
                  : "";
    return "expected " + std::to_string(width) + " values per row of K and V" + of + ", got " +
           std::to_string(layout.width);
  }
  if (!spec.sharesRows) {
    return "";
  }
  if (layout.rotated) {
    return "expected rows that no rotation mixes across heads: each head reads its part of a row";
  }
  return layout.affine() ? StoreAccess::whyNotInParts(layout, spec.headDim) : "";
}

std::string mlir::kvcache::cpu::whyNotAttend(const AttendSpec &spec) {
  bool fewer = spec.keyDim() < spec.headDim && !spec.keys().coded && !spec.ropeView;
  for (const ColumnLayout *layout : {&spec.keys(), &spec.values()}) {
    std::string why = whyNotRows(spec, *layout, fewer && layout == &spec.keys());
    if (!why.empty()) {
      return (layout == &spec.keys() ? "keys: " : "values: ") + why;
    }
  }
  if (spec.clauses.choosesEntries() && (spec.keys().coded || spec.values().coded)) {
    return "at: expected exact keys and values: codes are read in tiles of neighbouring rows";
  }
  if (spec.kvHeads < 1 || spec.queryHeads % spec.kvHeads != 0) {
    return "expected query heads to be a multiple of " + std::to_string(spec.kvHeads) +
           " KV heads, got " + std::to_string(spec.queryHeads);
  }
  if (spec.splitRows < attendTile || spec.splitRows % attendTile != 0) {
    return "expected a split of a multiple of 64 rows, got " + std::to_string(spec.splitRows);
  }
  if (spec.ropeView && (spec.headDim % 2 != 0 || spec.keys().coded)) {
    return "expected dense keys of an even width under a rope view, got " +
           std::to_string(spec.headDim) + " values, " + (spec.keys().coded ? "coded" : "dense");
  }
  return "";
}

Value mlir::kvcache::cpu::storeHeadOf(KernelBuilder &k, const AttendSpec &spec, Value kvHead) {
  return spec.sharesRows ? k.index(0) : kvHead;
}

SegmentAccess mlir::kvcache::cpu::attendSegment(StoreAccess &store, const AttendSpec &spec,
                                                int64_t column, SegmentKind kind, Value kvHead) {
  const ColumnLayout &layout = spec.columns[static_cast<size_t>(column)];
  SegmentAccess segment = store.segment(column, kind, storeHeadOf(store.kernel(), spec, kvHead));
  bool coefficients = kind == SegmentKind::Coded && layout.rank > 0;
  return spec.sharesRows && !coefficients
             ? store.part(segment, kvHead, layout.width / spec.headsOfRow())
             : segment;
}

/// The leaf of coded keys, and what has to be computed from the queries first.
static void addCodedKeys(AttendContext &ctx, SegmentAccess segment, AttendLeaves &leaves) {
  KernelBuilder &k = ctx.k;
  const ColumnLayout &layout = ctx.spec.keys();
  int64_t group = ctx.spec.group();
  if (layout.rank > 0) {
    Value projected = attendScratch(k, group * paddedWidth(layout.rank)),
          constants = attendScratch(k, group);
    leaves.prepare.push_back(
        [&ctx, projected, constants] { projectAttendQueries(ctx, projected, constants); });
    leaves.logits.push_back(
        {segment,
         makeRowLogitLeaf(ctx, makeDenseLoader(ctx, segment, layout.rank), projected, constants)});
    return;
  }
  Value queries = ctx.queries;
  if (layout.rotated) {
    queries = attendScratch(k, group * ctx.spec.paddedDim());
    leaves.prepare.push_back([&ctx, queries] { rotateAttendQueries(ctx, queries); });
  }
  if (canReadWords(ctx.spec, layout)) {
    leaves.logits.push_back({segment, makeWordLogitLeaf(ctx, segment, queries, leaves.prepare)});
  } else if (canReadTokenWords(ctx.spec, layout)) {
    leaves.logits.push_back({segment, multipliesTokenBytes(ctx.spec, layout)
                                          ? makeTokenByteLeaf(ctx, segment, queries)
                                          : makeTokenLogitLeaf(ctx, segment, queries)});
  } else {
    leaves.logits.push_back(
        {segment, makeRowLogitLeaf(ctx, makeCodesLoader(ctx, segment, ctx.spec.headDim), queries)});
  }
}

static void addCodedValues(AttendContext &ctx, SegmentAccess segment, AttendLeaves &leaves) {
  const ColumnLayout &layout = ctx.spec.values();
  int64_t behindExact = ctx.spec.paddedDim();
  if (layout.rank > 0) {
    leaves.values.push_back(
        {segment, makeRowValueLeaf(ctx, makeDenseLoader(ctx, segment, layout.rank), behindExact)});
    leaves.values.push_back(
        {segment, makeWeightSumLeaf(ctx, behindExact + paddedWidth(layout.rank))});
    return;
  }
  if (canReadWords(ctx.spec, layout)) {
    leaves.values.push_back({segment, weighsInBytes(ctx.spec, layout)
                                          ? makeWordByteLeaf(ctx, segment, behindExact)
                                          : makeWordValueLeaf(ctx, segment, behindExact)});
    return;
  }
  int64_t offset = layout.rotated ? behindExact : 0;
  if (canReadTokenWords(ctx.spec, layout)) {
    leaves.values.push_back({segment, makeTokenValueLeaf(ctx, segment, offset)});
  } else {
    leaves.values.push_back(
        {segment, makeRowValueLeaf(ctx, makeCodesLoader(ctx, segment, ctx.spec.headDim), offset)});
  }
}

AttendLeaves mlir::kvcache::cpu::makeAttendLeaves(AttendContext &ctx) {
  const AttendSpec &spec = ctx.spec;
  AttendLeaves leaves;
  ctx.sumsStride = spec.partialWidth();
  for (SegmentKind kind : {SegmentKind::Sinks, SegmentKind::Coded, SegmentKind::Exact}) {
    if (ctx.store.hasSegment(spec.k, kind)) {
      SegmentAccess segment = attendSegment(ctx.store, spec, spec.k, kind, ctx.head);
      if (kind == SegmentKind::Coded) {
        addCodedKeys(ctx, segment, leaves);
      } else {
        auto loader = spec.ropeView ? makeRopeLoader(ctx, segment, spec.headDim)
                                    : makeDenseLoader(ctx, segment, spec.keyDim());
        leaves.logits.push_back({segment, makeRowLogitLeaf(ctx, std::move(loader), ctx.queries)});
      }
    }
    if (spec.wantsOut && ctx.store.hasSegment(spec.v, kind)) {
      SegmentAccess segment = attendSegment(ctx.store, spec, spec.v, kind, ctx.head);
      if (kind == SegmentKind::Coded) {
        addCodedValues(ctx, segment, leaves);
      } else {
        leaves.values.push_back(
            {segment, makeRowValueLeaf(ctx, makeDenseLoader(ctx, segment, spec.headDim), 0)});
      }
    }
  }
  return leaves;
}
