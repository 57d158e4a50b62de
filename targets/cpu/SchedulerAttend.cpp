// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// attend, in two forms. Decode reads any storage, split over rows, and its statistics come from the logits it writes on
// the way. Prefill reads exact rows in tiles of queries, and its statistics take one more pass over K once the row
// sums are known. Also the rotary moves around it.

#include "targets/cpu/Scheduler.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "targets/cpu/Attend.h"
#include "targets/cpu/RopeEmitter.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ElementType;

namespace {

/// Query blocks of a prefill launch: a chunk of 512 rows in pieces for every core.
constexpr int64_t prefillBlocks = 16;

/// Whether a statistic sums over the heads of a group.
bool sumsOverGroup(StatAttr stat) {
  return llvm::any_of(stat.getOver().getAsRange<StringAttr>(), [](StringAttr name) { return name.getValue() == "group"; });
}

} // namespace

int Scheduler::ropeTable(const StorePlace &store) {
  int64_t dim = context_.geometry.headDim;
  Extent rows = builder_.storeRows(store.index);
  KernelOperands operands;
  operands.buffers["frequencies"] =
      builder_.roleBuffer(proto::Buffer::ROPE_INV_FREQ, "rope_inv_freq", ElementType::F32, {Extent::of(dim / 2)});
  operands.buffers["table"] = builder_.newBuffer("rope_table", ElementType::F32, {rows, Extent::of(dim)});
  operands.words["rows"] = rows;
  operands.words["blocks"] = Extent::of(4);
  builder_.launch(emitRopeTable(context_.kernels, kernelName("rope_table"), dim), operands, {"kvcache.rope"}, phaseName_);
  return operands.buffers["table"];
}

int Scheduler::ropeRows(int rowsBuffer, int positions, Extent rows, int64_t heads, bool inverse) {
  int64_t dim = context_.geometry.headDim;
  KernelOperands operands;
  operands.buffers["rows"] = rowsBuffer;
  operands.buffers["positions"] = positions;
  operands.buffers["frequencies"] =
      builder_.roleBuffer(proto::Buffer::ROPE_INV_FREQ, "rope_inv_freq", ElementType::F32, {Extent::of(dim / 2)});
  operands.buffers["out"] = builder_.newBuffer("rotated", ElementType::F32, {rows, Extent::of(heads), Extent::of(dim)});
  operands.words["rows"] = rows;
  builder_.launch(emitRopeRows(context_.kernels, kernelName("rope_rows"), heads, dim, inverse), operands, {"kvcache.rope"}, phaseName_);
  return operands.buffers["out"];
}

LogicalResult Scheduler::rope(RopeOp op) {
  const TensorPlace &input = tensors_[op.getInput()];
  if (!queryRows_.count(op.getInput())) {
    return op.emitError() << "expected rows of the event (query or key), got a computed tensor";
  }
  int64_t heads = 1;
  for (AxisAttr axis : input.axes) {
    heads *= axis.getKind() == "head" || axis.getKind() == "group" ? axis.getInteger().value_or(1) : 1;
  }
  Extent rows = queryRows_[op.getInput()];
  TensorPlace place = input;
  auto result = cast<AxisTensorType>(op.getType());
  for (AxisAttr &axis : place.axes) {
    if (axis.getKind() == "channel") {
      axis = findAxisOfKind(result.getAxes(), "channel");
    }
  }
  place.buffer = ropeRows(input.buffer, tensors_[op.getPositions()].buffer, rows, heads, /*inverse=*/false);
  tensors_[op.getOutput()] = place;
  queryRows_[op.getOutput()] = rows;
  // What a query sees stays a matter of the tokens' own positions, wherever it is rotated to.
  queryPositions_[op.getOutput()] = queryPositions_.lookup(op.getInput());
  return success();
}

/// Rows that only serve statistics of the last n queries need no attention for the others: ingest then reads the
/// last queries fed instead of all of the event's.
void Scheduler::takeLastQueriesOnly(AttendOp op) {
  if (builder_.program().kind() != proto::Program::INGEST || !op.getOutput().use_empty() || !op.getStats()) {
    return;
  }
  int64_t most = 0;
  for (StatAttr stat : op.getStats()->getAsRange<StatAttr>()) {
    auto last = dyn_cast_or_null<IntegerAttr>(stat.getLast());
    if (!last) {
      return;
    }
    most = std::max(most, last.getInt());
  }
  auto &needed = context_.executable;
  needed.set_needed_query_rows(needed.needed_query_rows() < 0 ? -1 : std::max<int64_t>(needed.needed_query_rows(), most));
  Extent rows = Extent::inSlot(builder_.boundSlot(proto::SlotBinding::WINDOW_ROWS));
  SmallVector<Extent> dims{rows, Extent::of(context_.geometry.queryHeads), Extent::of(context_.geometry.headDim)};
  TensorPlace place = tensors_[op.getQuery()];
  place.buffer = builder_.roleBuffer(proto::Buffer::LAST_QUERIES, "last_queries", ElementType::F32, dims);
  place.places.front().capacity = rows;
  tensors_[op.getQuery()] = place;
  queryRows_[op.getQuery()] = rows;
  queryPositions_[op.getQuery()] = builder_.roleBuffer(proto::Buffer::LAST_POSITIONS, "last_positions", ElementType::I32, {rows});
}

LogicalResult Scheduler::attend(AttendOp op) {
  const StorePlace *store = storeOf(op.getCache());
  if (!queryRows_.count(op.getQuery())) {
    return op.emitError() << "expected queries of the event, got a computed tensor";
  }
  takeLastQueriesOnly(op);
  const TensorPlace &query = tensors_[op.getQuery()];
  auto kind = builder_.program().kind();
  bool decode = kind == proto::Program::DECODE || kind == proto::Program::ATTEND || kind == proto::Program::STEP_END;
  AttendSpec spec;
  spec.name = kernelName("attend");
  spec.queryHeads = context_.geometry.queryHeads;
  spec.kvHeads = context_.geometry.kvHeads;
  spec.headDim = context_.geometry.headDim;
  spec.columns = store->layouts;
  spec.k = store->column("k");
  spec.v = store->column("v");
  spec.pos = store->column("pos");
  spec.causal = op.getCausal();
  spec.window = op.getCausal() ? context_.geometry.slidingWindow : 0;
  spec.ropeView = ropeViews_.contains(op.getCache());
  spec.accumulators = context_.wideRegisters ? 16 : 4;
  bool isOut = op.getOutput() == out_;
  spec.wantsOut = isOut || !op.getOutput().use_empty();
  bool sums = llvm::any_of(op.getStats().value_or(ArrayAttr::get(op.getContext(), {})).getAsRange<StatAttr>(),
                           [](StatAttr stat) { return stat.getKind() == "sum"; });
  spec.wantsLse = kind == proto::Program::ATTEND || !op.getStatistics().empty();
  spec.wantsLogits = decode && sums;
  std::string why = whyNotAttend(spec);
  if (!why.empty()) {
    return op.emitError() << why;
  }

  Extent rows = queryRows_[op.getQuery()], heads = Extent::of(spec.queryHeads), dim = Extent::of(spec.headDim);
  KernelOperands operands;
  operands.heads = store->heads;
  operands.stores["store"] = store->index;
  operands.buffers["q"] = query.buffer;
  operands.buffers["qpos"] = queryPositions_[op.getQuery()];
  if (spec.wantsOut) {
    operands.buffers["out"] = isOut ? builder_.roleBuffer(proto::Buffer::OUT, "out", ElementType::F32, {rows, heads, dim})
                                    : builder_.newBuffer("out", ElementType::F32, {rows, heads, dim});
    TensorPlace place = query;
    place.buffer = operands.buffers["out"];
    place.axes.back() = axesOf(op.getOutput()).back();
    tensors_[op.getOutput()] = place;
    queryRows_[op.getOutput()] = rows;
  }
  if (spec.wantsLse) {
    operands.buffers["lse"] = kind == proto::Program::ATTEND
                                  ? builder_.roleBuffer(proto::Buffer::LSE, "lse", ElementType::F32, {rows, heads})
                                  : builder_.newBuffer("lse", ElementType::F32, {rows, heads});
  }
  operands.words["rows"] = rows;
  operands.words["blocks"] = Extent::of(prefillBlocks);
  Extent capacity = builder_.storeRows(store->index);
  operands.words["capacity"] = capacity;
  std::vector<std::string> ops{"kvcache.attend"};
  if (spec.ropeView) {
    operands.buffers["rope"] = ropeTable(*store);
    ops.push_back("kvcache.rope");
  }
  auto reads = [&](proto::Step::Kernel *step, bool values) {
    for (int64_t column : {spec.k, values ? spec.v : spec.k}) {
      if (step->reads_size() == 0 || step->reads(0).column() != column) {
        auto *ref = step->add_reads();
        ref->set_store(store->index);
        ref->set_column(static_cast<int>(column));
      }
    }
  };
  if (decode) {
    Extent splits = builder_.storeRows(store->index, spec.splitRows);
    operands.words["splits"] = splits;
    operands.buffers["partial"] = builder_.newBuffer("partial", ElementType::F32, {rows, heads, splits, Extent::of(spec.partialWidth())});
    operands.buffers["maxima"] = builder_.newBuffer("maxima", ElementType::F32, {rows, heads, splits, Extent::of(2)});
    if (spec.wantsLogits) {
      operands.buffers["logits"] = builder_.newBuffer("logits", ElementType::F32, {rows, heads, capacity});
    }
    factorOperands(*store, "k", operands, "kBasis", "kMean");
    factorOperands(*store, "v", operands, "vBasis", "vMean");
    reads(builder_.launch(emitAttendDecode(context_.kernels, spec), operands, ops, phaseName_), spec.wantsOut);
    builder_.launch(emitAttendMerge(context_.kernels, spec), operands, {"kvcache.attend"}, phaseName_);
  } else {
    reads(builder_.launch(emitAttendPrefill(context_.kernels, spec), operands, ops, phaseName_), spec.wantsOut);
  }
  for (auto [stat, result] : llvm::zip(op.getStats().value_or(ArrayAttr::get(op.getContext(), {})).getAsRange<StatAttr>(),
                                       op.getStatistics())) {
    if (failed(statistic(op, stat, result, spec, operands, decode))) {
      return failure();
    }
  }
  return success();
}

LogicalResult Scheduler::statistic(AttendOp op, StatAttr stat, Value result, AttendSpec spec, KernelOperands operands, bool decode) {
  const StorePlace *store = storeOf(op.getCache());
  Extent rows = queryRows_[op.getQuery()], capacity = operands.words["capacity"];
  auto type = cast<AxisTensorType>(result.getType());
  TensorPlace place;
  place.axes.assign(type.getAxes().begin(), type.getAxes().end());
  if (stat.getKind() == "lse") {
    place.axes.clear();
    for (AxisAttr axis : tensors_[op.getQuery()].axes) {
      if (axis.getKind() != "channel") {
        place.axes.push_back(axis);
        place.places.push_back({axis.isDynamic() ? rows : Extent::of(*axis.getInteger()), -1, -1, {}});
      }
    }
    place.buffer = operands.buffers["lse"];
    tensors_[result] = place;
    return success();
  }
  // sum(p, over(query [, group]) [, last(n)]): [head, (group,) token].
  for (AxisAttr axis : place.axes) {
    if (axis.getKind() == "query" || axis.getKind() == "channel") {
      return op.emitError() << "expected a sum over every query axis, got a result with axis '" << axis.getName() << "'";
    }
    place.places.push_back(axis.isDynamic() ? store->tokenAxis(capacity)
                                            : AxisPlace{Extent::of(*axis.getInteger()), -1, -1, {}});
  }
  spec.name = kernelName("sums");
  spec.sumsPerQueryHead = !sumsOverGroup(stat);
  int64_t sumHeads = spec.sumsPerQueryHead ? spec.queryHeads : spec.kvHeads;
  place.buffer = builder_.newBuffer("sums", ElementType::F32, {Extent::of(sumHeads), capacity});
  tensors_[result] = place;
  operands.buffers["sums"] = place.buffer;
  operands.words["add"] = Extent::of(0);
  operands.words["blocks"] = builder_.storeRows(store->index, 64);
  std::vector<std::string> ops{"kvcache.attend"};
  if (decode) {
    builder_.launch(emitAttendLogitSums(context_.kernels, spec), operands, ops, phaseName_);
    return success();
  }
  operands.words["first"] = Extent::of(0);
  operands.words["end"] = rows;
  if (auto last = dyn_cast_or_null<IntegerAttr>(stat.getLast())) {
    operands.words["first"] = lastRows(rows, last.getInt());
  } else if (builder_.program().kind() == proto::Program::INGEST) {
    context_.executable.set_needed_query_rows(-1);
  }
  builder_.launch(emitAttendColumnSums(context_.kernels, spec), operands, ops, phaseName_);
  return success();
}

} // namespace mlir::kvcache::cpu
