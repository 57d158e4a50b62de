// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// attend, in two forms. Decode reads any storage, split over rows, and its statistics come from the logits it writes on
// the way. Prefill reads exact rows in tiles of queries, and its statistics take one more pass over K once the row
// sums are known. Also the rotary moves around it.

#include "targets/cpu/Scheduler.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "targets/cpu/AttendReduce.h"
#include "targets/cpu/RopeEmitter.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ElementType;

namespace {

/// Query blocks of a prefill launch: a chunk of 512 rows in pieces for every core.
constexpr int64_t prefillBlocks = 16;

/// What reads the log-sum-exp of an attention; null when anything else than score.reduce does.
SmallVector<ScoreReduceOp> reductionsOf(AttendOp op) {
  SmallVector<ScoreReduceOp> found;
  for (Value statistic : op.getStatistics()) {
    for (Operation *user : statistic.getUsers()) {
      found.push_back(dyn_cast<ScoreReduceOp>(user));
    }
  }
  return found;
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
  // A computed tensor will do where it lies as rows of an event do.
  bool liesAsRows = input.axes.size() > 1 && input.axes.front().getKind() == "query" &&
                    input.axes.back().getKind() == "channel" && input.elem == ElementType::F32 &&
                    llvm::all_of(input.places, [](const AxisPlace &axis) { return axis.lengths < 0; });
  if (!queryRows_.count(op.getInput()) && !liesAsRows) {
    return op.emitError() << "expected rows of the event (query or key), or a computed tensor of f32 whose first axis is "
                             "query and last is channel, got "
                          << op.getInput().getType();
  }
  int64_t heads = 1;
  for (AxisAttr axis : input.axes) {
    heads *= axis.getKind() == "head" || axis.getKind() == "group" ? axis.getInteger().value_or(1) : 1;
  }
  bool ofEvent = queryRows_.count(op.getInput());
  Extent rows = ofEvent ? queryRows_[op.getInput()] : input.places.front().capacity;
  TensorPlace place = input;
  auto result = cast<AxisTensorType>(op.getType());
  for (AxisAttr &axis : place.axes) {
    if (axis.getKind() == "channel") {
      axis = findAxisOfKind(result.getAxes(), "channel");
    }
  }
  place.buffer = ropeRows(input.buffer, tensors_[op.getPositions()].buffer, rows, heads, /*inverse=*/false);
  tensors_[op.getOutput()] = place;
  if (!ofEvent) {
    return success();
  }
  queryRows_[op.getOutput()] = rows;
  // What a query sees stays a matter of the tokens' own positions, wherever it is rotated to.
  queryPositions_[op.getOutput()] = queryPositions_.lookup(op.getInput());
  return success();
}

/// Rows that only serve statistics of the last n queries need no attention for the others: ingest then reads the
/// last queries fed instead of all of the event's.
void Scheduler::takeLastQueriesOnly(AttendOp op) {
  if (builder_.kind() != proto::Program::INGEST || !op.getOutput().use_empty() || !op.getStats()) {
    return;
  }
  int64_t most = 0;
  for (ScoreReduceOp reduction : reductionsOf(op)) {
    auto last = reduction ? dyn_cast_or_null<IntegerAttr>(reduction.getLast().value_or(Attribute())) : IntegerAttr();
    if (!last) {
      return;
    }
    most = std::max(most, last.getInt());
  }
  context_.needQueryRows(most);
  Extent rows = Extent::inSlot(builder_.boundSlot(proto::SlotBinding::WINDOW_ROWS));
  SmallVector<Extent> dims{rows, Extent::of(context_.geometry.queryHeads), Extent::of(context_.geometry.headDim)};
  TensorPlace place = tensors_[op.getQuery()];
  place.buffer = builder_.roleBuffer(proto::Buffer::LAST_QUERIES, "last_queries", ElementType::F32, dims);
  place.places.front().capacity = rows;
  tensors_[op.getQuery()] = place;
  queryRows_[op.getQuery()] = rows;
  queryPositions_[op.getQuery()] = builder_.roleBuffer(proto::Buffer::LAST_POSITIONS, "last_positions", ElementType::I32, {rows});
}

/// `logit` and `at` of an attention that is otherwise described.
LogicalResult Scheduler::bindClauses(AttendOp op, const StorePlace &store, AttendSpec &spec, bool decode,
                                     KernelOperands &operands) {
  if (!op.getLogitBody() && !op.getAt()) {
    return success();
  }
  if (op.getAt() && !decode) {
    return op.emitError("at: expected queries of a step or a question: the prompt is attended in tiles of rows");
  }
  AttendClauses &clauses = spec.clauses;
  clauses.op = op;
  clauses.inputs.ops.push_back(op);
  clauses.group = context_.geometry.queryHeads / context_.geometry.kvHeads;
  clauses.tokenAxis = store.type.getRows().back().getName();
  for (AxisAttr axis : axesOf(op.getQuery())) {
    clauses.queryAxis = axis.getKind() == "query" ? axis.getName() : clauses.queryAxis;
  }
  if (op.getAt() && findAxisOfKind(axesOf(op.getAt()), "group") && spec.group() > 1) {
    // Lists of their own for the query heads of a group: each is a head that shares the store's.
    spec.sharers = spec.group();
    spec.kvHeads = spec.queryHeads;
  }
  SmallVector<Value> read(op.getInputs());
  if (op.getAt()) {
    read.push_back(op.getAt());
  }
  clauses.words = bindNestInputs(read, clauses.inputs, operands, clauses.args);
  return success();
}

/// What the kernels of an attention compute, without its clauses.
AttendSpec Scheduler::describe(AttendOp op, const StorePlace &store, bool decode) {
  AttendSpec spec;
  spec.name = kernelName("attend");
  spec.queryHeads = context_.geometry.queryHeads;
  // Query heads with rows of their own are heads of one query head each.
  spec.kvHeads = findAxis(store.type.getRows(), "group") ? context_.geometry.queryHeads : context_.geometry.kvHeads;
  spec.headDim = context_.geometry.headDim;
  spec.columns = store.layouts;
  spec.k = store.column("k");
  spec.v = store.column("v");
  spec.pos = store.column("pos");
  spec.causal = op.getCausal();
  spec.window = op.getCausal() ? context_.geometry.slidingWindow : 0;
  spec.sharesRows = store.sharesRows();
  spec.ropeView = ropeViews_.contains(op.getCache());
  spec.accumulators = context_.wideRegisters ? 16 : 4;
  spec.integerProducts = context_.integerProducts;
  spec.wantsOut = op.getOutput() == out_ || !op.getOutput().use_empty();
  spec.wantsLse = builder_.kind() == proto::Program::ATTEND || !op.getStatistics().empty();
  spec.wantsLogits = decode && llvm::any_of(reductionsOf(op), [](ScoreReduceOp reduction) { return reduction; });
  return spec;
}

LogicalResult Scheduler::attend(AttendOp op) {
  const StorePlace *store = storeOf(op.getCache());
  if (!queryRows_.count(op.getQuery())) {
    return op.emitError() << "expected queries of the event, got a computed tensor";
  }
  takeLastQueriesOnly(op);
  const TensorPlace &query = tensors_[op.getQuery()];
  auto kind = builder_.kind();
  bool decode = kind == proto::Program::DECODE || kind == proto::Program::ATTEND || kind == proto::Program::STEP_END;
  AttendSpec spec = describe(op, *store, decode);
  KernelOperands operands;
  if (failed(bindClauses(op, *store, spec, decode, operands))) {
    return failure();
  }
  std::string why = whyNotAttend(spec);
  if (!why.empty()) {
    return op.emitError() << why;
  }

  bool isOut = op.getOutput() == out_;
  Extent rows = queryRows_[op.getQuery()], heads = Extent::of(spec.queryHeads), dim = Extent::of(spec.headDim);
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
  auto reads = [&](LaunchOp launch, bool values) {
    builder_.reads(launch, store->index, "k");
    if (values) {
      builder_.reads(launch, store->index, "v");
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
    FailureOr<EmittedKernel> kernel = emitAttendDecode(context_.kernels, spec);
    if (failed(kernel)) {
      return failure();
    }
    LaunchOp launch = builder_.launch(*kernel, operands, ops, phaseName_);
    if (!op.getAt()) { // of chosen entries nobody knows how many before the program runs
      reads(launch, spec.wantsOut);
    }
    builder_.launch(emitAttendMerge(context_.kernels, spec), operands, {"kvcache.attend"}, phaseName_);
  } else {
    FailureOr<EmittedKernel> kernel = emitAttendPrefill(context_.kernels, spec);
    if (failed(kernel)) {
      return failure();
    }
    reads(builder_.launch(*kernel, operands, ops, phaseName_), spec.wantsOut);
  }
  // What is left of the statistics at this stage: the log-sum-exp of each row.
  for (Value result : op.getStatistics()) {
    TensorPlace place;
    for (AxisAttr axis : query.axes) {
      if (axis.getKind() != "channel") {
        place.axes.push_back(axis);
        place.places.push_back({axis.isDynamic() ? rows : Extent::of(*axis.getInteger()), -1, -1, {}});
      }
    }
    place.buffer = operands.buffers["lse"];
    tensors_[result] = place;
    attends_[result] = {spec, operands, decode};
  }
  return success();
}

LogicalResult Scheduler::reduceScores(ScoreReduceOp op) {
  auto attended = attends_.find(op.getLse());
  if (attended == attends_.end()) {
    return op.emitError("expected the log-sum-exp of an attention of this program");
  }
  const StorePlace *store = storeOf(op.getCache());
  KernelOperands operands = attended->second.operands;
  Extent rows = queryRows_[op.getQuery()], capacity = operands.words["capacity"];
  AttendReduceSpec spec;
  spec.attend = attended->second.spec;
  spec.attend.name = kernelName("scores");
  spec.op = op;
  spec.max = op.getFn() == "max";
  spec.fromLogits = attended->second.decode;
  spec.meanOfGroup = op.getMean().has_value();
  if (spec.meanOfGroup && *op.getMean() != "group") {
    return op.emitError() << "cpu: probabilities are averaged over the query heads of a group alone, "
                             "expected mean [group], got mean ["
                          << *op.getMean() << "]; where f is linear, insert a reduce of the result";
  }
  spec.group = context_.geometry.queryHeads / context_.geometry.kvHeads;
  spec.tokenAxis = store->type.getRows().back().getName();
  spec.inputs.ops.push_back(op);
  spec.inputArgs.clear();
  spec.inputWords = bindNestInputs(op.getInputs(), spec.inputs, operands, spec.inputArgs);

  TensorPlace place;
  SmallVector<Extent> dims;
  for (AxisAttr axis : cast<AxisTensorType>(op.getType()).getAxes()) {
    bool isQuery = axis.getKind() == "query", isToken = axis.getName() == spec.tokenAxis;
    spec.keepsGroup |= axis.getKind() == "group";
    spec.keepsQuery |= isQuery;
    place.axes.push_back(axis);
    place.places.push_back(isToken   ? store->tokenAxis(capacity)
                           : isQuery ? AxisPlace{rows, -1, -1, {}}
                                     : AxisPlace{Extent::of(*axis.getInteger()), -1, -1, {}});
    dims.push_back(place.places.back().capacity);
  }
  for (AxisAttr axis : tensors_[op.getQuery()].axes) {
    spec.queryAxis = axis.getKind() == "query" ? axis.getName() : spec.queryAxis;
  }
  if (spec.attend.group() == 1 && spec.group > 1 && !spec.keepsGroup) {
    return op.emitError("expected a result for each query head: each holds entries of its own");
  }
  if (spec.attend.group() == 1) {
    spec.keepsGroup = spec.meanOfGroup = false; // the heads of the store are the query heads
  }
  place.buffer = builder_.newBuffer("scores", ElementType::F32, dims);
  tensors_[op.getOutput()] = place;
  operands.buffers["reduced"] = place.buffer;
  operands.words["blocks"] = builder_.storeRows(store->index, 64);
  operands.words["first"] = Extent::of(0);
  operands.words["end"] = rows;
  if (auto last = dyn_cast_or_null<IntegerAttr>(op.getLast().value_or(Attribute()))) {
    operands.words["first"] = lastRows(rows, last.getInt());
  } else if (builder_.kind() == proto::Program::INGEST) {
    context_.needQueryRows(-1);
  }
  FailureOr<EmittedKernel> kernel = emitAttendReduce(context_.kernels, spec);
  if (failed(kernel)) {
    return failure();
  }
  builder_.launch(*kernel, operands, {"kvcache.score.reduce"}, phaseName_);
  return success();
}

} // namespace mlir::kvcache::cpu
