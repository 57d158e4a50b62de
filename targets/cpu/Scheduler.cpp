// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The walk over a program. Invariant: steps stand in the order of the ops, and scalar ops are
// computed just before the first step that may read them.

#include "targets/cpu/Scheduler.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/KernelOps.h"
#include "dialect/MethodOps.h"
#include "dialect/PrimitiveOps.h"
#include "dialect/RowOps.h"
#include "dialect/ScoreOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Matchers.h"

#include "llvm/ADT/bit.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ElementType;

int StorePlace::column(StringRef name) const {
  auto found = llvm::find(names, name);
  return found == names.end() ? -1 : static_cast<int>(found - names.begin());
}

bool StorePlace::isRopeView(int column) const {
  ArrayRef<AxisAttr> axes = type.getColumns()[column].getAxes();
  return !axes.empty() && axes.back().getTag() == "pre";
}

void ScheduleContext::needQueryRows(int64_t rows) {
  int64_t needed = executable.getNeededQueryRows().value_or(0);
  executable.setNeededQueryRows(rows < 0 || needed < 0 ? -1 : std::max(needed, rows));
}

bool StorePlace::sharesRows() const {
  auto startsWithHeads = [&](StringRef name) {
    ColumnAttr column = type.getColumn(name);
    return column && column.getAxes().size() == 2 && column.getAxes()[0].getKind() == "head";
  };
  return type.getRows().size() == 1 && startsWithHeads("k") && startsWithHeads("v");
}

AxisPlace StorePlace::tokenAxis(Extent rows) const {
  AxisPlace place{rows, -1, ragged ? index : -1, {}};
  for (AxisAttr axis : ragged ? type.getRows().drop_back() : ArrayRef<AxisAttr>()) {
    place.lengthAxes.push_back(axis.getName());
  }
  return place;
}

namespace {

/// Whether some gather of a cache of this type takes rows head by head.
bool isRagged(MethodOp method, CacheType type) {
  bool ragged = false;
  method.walk([&](GatherOp gather) {
    ragged = ragged || (gather.getType() == type && findAxisOfKind(axesOf(gather.getAt()), "head"));
  });
  return ragged;
}

std::optional<proto::Program::Kind> kindOf(PhaseOp phase) {
  static const std::pair<StringRef, proto::Program::Kind> kinds[] = {
      {"prefill", proto::Program::PREFILL},
      {"ingest", proto::Program::INGEST},
      {"decode", proto::Program::DECODE},
      {"prompt_end", proto::Program::PROMPT_END},
      {"prompt_score", proto::Program::PROMPT_SCORE},
      {"prompt_model", proto::Program::PROMPT_MODEL},
      {"step_end", proto::Program::STEP_END},
      {"attend", proto::Program::ATTEND},
      {"calibrate", proto::Program::CALIBRATE},
      {"probe", proto::Program::PROBE},
      {"draft_end", proto::Program::DRAFT_END},
      {"calibrate_model", proto::Program::CALIBRATE_MODEL}};
  for (auto &[name, kind] : kinds) {
    if (phase.hasKind(name)) {
      return kind;
    }
  }
  return std::nullopt;
}

/// The bits of a scalar constant as a slot holds them.
int64_t slotBits(Attribute value) {
  if (auto number = dyn_cast<FloatAttr>(value)) {
    if (number.getType().isF32()) {
      return llvm::bit_cast<int32_t>(static_cast<float>(number.getValueAsDouble()));
    }
    return llvm::bit_cast<int64_t>(number.getValueAsDouble());
  }
  auto integer = cast<IntegerAttr>(value);
  return integer.getType().isInteger(1) ? integer.getValue().getZExtValue() : integer.getInt();
}

/// Columns of a state and their layouts.
FailureOr<StorePlace> placeState(StateOp state, ElementType act) {
  StorePlace place;
  place.type = cast<CacheType>(state.getType());
  for (AxisAttr axis : place.type.getRows().drop_back()) {
    place.heads *= axis.getInteger().value_or(1);
  }
  for (ColumnAttr column : place.type.getColumns()) {
    int64_t width = 1;
    for (AxisAttr axis : column.getAxes()) {
      width *= axis.getInteger().value_or(1);
    }
    std::string error;
    auto layout =
        ::kvcache::abi::computeColumnLayout(*column.getStorage().getTerm(), width, act, error);
    if (!layout) {
      return state.emitError() << "column '" << column.getName() << "': " << error;
    }
    if (layout->rank > 0 && findAxis(place.type.getRows(), "group")) {
      return state.emitError() << "column '" << column.getName()
                               << "': a factor has one basis for each KV head; expected "
                               << "granularity = kv_head";
    }
    place.layouts.push_back(*layout);
    place.names.push_back(column.getName().str());
  }
  return place;
}

/// Values of an artefact until a file gives it: bytes for each layer. Null where it must be made
/// first.
ArrayAttr initialValues(ArtefactOp artefact, ArrayRef<int64_t> extents, int64_t layers) {
  if (!artefact.getOtherwise()) {
    return {};
  }
  int64_t count = 1;
  for (int64_t extent : extents) {
    count *= extent;
  }
  std::vector<float> values(static_cast<size_t>(count),
                            artefact.getOtherwiseAttr().getValueAsDouble());
  int64_t bytes = count * static_cast<int64_t>(sizeof(float));
  Builder b(artefact.getContext());
  Attribute attribute = DenseElementsAttr::get(
      RankedTensorType::get({bytes}, b.getIntegerType(8)),
      ArrayRef<int8_t>(reinterpret_cast<const int8_t *>(values.data()), bytes));
  return b.getArrayAttr(SmallVector<Attribute>(static_cast<size_t>(layers), attribute));
}

} // namespace

LogicalResult declareStates(ScheduleContext &context) {
  OpBuilder b = OpBuilder::atBlockEnd(&context.executable.getBody().front());
  for (auto state : context.method.getBody().front().getOps<StateOp>()) {
    if (!isa<CacheType>(state.getType())) {
      return state.emitError() << "expected a cache: the cpu target holds no other states";
    }
    FailureOr<StorePlace> place = placeState(state, context.geometry.act);
    if (failed(place)) {
      return failure();
    }
    place->index = static_cast<int>(context.stores.size());
    place->name = state.getSymName().str();
    place->ragged = isRagged(context.method, place->type);
    auto store = ExecStoreOp::create(b, state.getLoc(), place->name, place->heads);
    OpBuilder columns = OpBuilder::atBlockEnd(&store.getColumns().emplaceBlock());
    for (auto [i, column] : llvm::enumerate(place->type.getColumns())) {
      ExecColumnOp::create(columns, state.getLoc(), column.getName(), place->layouts[i].width,
                           column.getStorage().getTerm()->str(),
                           place->isRopeView(static_cast<int>(i)));
    }
    context.stores[state.getSymName().str()] = *place;
  }
  for (auto artefact : context.method.getBody().front().getOps<ArtefactOp>()) {
    context.tensors.insert(artefact.getSymName().str());
    SmallVector<int64_t> extents;
    for (AxisAttr axis : cast<AxisTensorType>(artefact.getType()).getAxes()) {
      extents.push_back(axis.getInteger().value_or(1));
    }
    ExecTensorOp::create(b, artefact.getLoc(), artefact.getSymName(), extents, "f32",
                         /*artefact=*/true, /*carried=*/false,
                         initialValues(artefact, extents, context.geometry.layers));
  }
  return success();
}

LogicalResult scheduleProgram(ScheduleContext &context, PhaseOp phase) {
  SmallVector<int64_t> layers;
  StringRef kind = cast<StringAttr>(phase.getKinds()[0]).getValue();
  if (auto except = phase.getExceptAttr()) {
    auto list = cast<ParamOp>(SymbolTable::lookupSymbolIn(context.method, except));
    llvm::DenseSet<int64_t> skipped;
    if (auto dense = dyn_cast<DenseI64ArrayAttr>(list.getValue())) {
      skipped.insert(dense.asArrayRef().begin(), dense.asArrayRef().end());
    } else {
      for (Attribute layer : cast<ArrayAttr>(list.getValue())) {
        skipped.insert(cast<IntegerAttr>(layer).getInt());
      }
    }
    for (int64_t layer = 0; layer < context.geometry.layers && !skipped.empty(); ++layer) {
      if (!skipped.contains(layer)) {
        layers.push_back(layer);
      }
    }
    if (!skipped.empty() && layers.empty()) {
      layers.push_back(-1); // no layer at all: an empty list would mean every one
    }
  }
  return Scheduler(context, *kindOf(phase), layers, kind).run(phase);
}

Scheduler::Scheduler(ScheduleContext &context, proto::Program::Kind kind, ArrayRef<int64_t> layers,
                     StringRef name)
    : context_(context), builder_(context.executable, kind, layers), name_(name.str()),
      phaseName_(name.str()) {
  ++context_.programs;
}

std::string Scheduler::kernelName(StringRef what) {
  // Symbols of one object: the number of the program keeps kernels of programs of one kind apart.
  return (name_ + "_" + Twine(context_.programs) + "_" + Twine(kernelCount_++) + "_" + what).str();
}

LogicalResult Scheduler::run(PhaseOp phase) {
  NextOp next = phase.getNext();
  out_ = next.getValueFor("out");
  if (int64_t rows = phase.getChunkRows()) {
    builder_.chunkRows(rows);
  }
  if (phase.hasKind("calibrate") && phase.getTriggersAttr()) {
    auto trigger = cast<TriggerAttr>(phase.getTriggersAttr()[0]);
    SmallVector<int64_t> sizes;
    for (Attribute size : cast<ArrayAttr>(trigger.getLimit())) {
      sizes.push_back(cast<IntegerAttr>(size).getInt());
    }
    builder_.source(trigger.getEvent(), sizes);
  }
  for (BlockArgument argument : phase.getBlock().getArguments()) {
    if (failed(bindArgument(phase, argument))) {
      return failure();
    }
  }
  if (failed(runBlock(phase.getBlock())) || failed(finish(next))) {
    return failure();
  }
  if (phase.hasKind("prompt_end") || phase.hasKind("step_end") || phase.hasKind("draft_end")) {
    for (auto &[name, store] : context_.stores) {
      if (failed(commit(store))) {
        return failure();
      }
    }
  }
  builder_.finish();
  return success();
}

/// The slot role of a number that the event gives; nothing for other roles.
static std::optional<proto::SlotBinding::Role> scalarRole(StringRef role) {
  static const std::pair<StringRef, proto::SlotBinding::Role> scalars[] = {
      {"length", proto::SlotBinding::LENGTH}, {"layer", proto::SlotBinding::LAYER},
      {"layers", proto::SlotBinding::LAYERS}, {"budget", proto::SlotBinding::BUDGET},
      {"rows", proto::SlotBinding::ROWS},     {"prompt_length", proto::SlotBinding::PROMPT_LENGTH},
      {"step", proto::SlotBinding::STEP}};
  for (auto &[name, slot] : scalars) {
    if (role == name) {
      return slot;
    }
  }
  return std::nullopt;
}

LogicalResult Scheduler::bindArgument(PhaseOp phase, BlockArgument argument) {
  BindingAttr binding = phase.getBinding(argument.getArgNumber());
  const auto &g = context_.geometry;
  Extent heads = Extent::of(g.queryHeads), kvHeads = Extent::of(g.kvHeads),
         dim = Extent::of(g.headDim);
  if (FlatSymbolRefAttr symbol = binding.getSymbol()) {
    auto store = context_.stores.find(symbol.getValue().str());
    if (store != context_.stores.end()) {
      caches_[argument] = &store->second;
      return success();
    }
    if (!context_.tensors.count(symbol.getValue().str())) {
      return phase.emitError() << "'@" << symbol.getValue()
                               << "' is neither a state nor an artefact";
    }
    tensors_[argument] = placeArtefact(symbol.getValue(), axesOf(argument));
    return success();
  }

  StringRef role = binding.getRole();
  if (bindCarried(argument, role)) {
    return success();
  }
  if (std::optional<proto::SlotBinding::Role> slot = scalarRole(role)) {
    if (role == "budget") {
      context_.executable.setTokenBudget(true);
    }
    scalars_[argument] = Extent::inSlot(builder_.boundSlot(*slot));
    return success();
  }

  if (role == "request") {
    bindRequest(argument, cast<StringAttr>(binding.getArgument()).getValue());
    return success();
  }

  // Rows of the event. They lie rows first: [rows, heads, channel].
  bool window = role == "last_queries", draft = role == "draft_queries", some = window || draft;
  int64_t wanted = some ? cast<IntegerAttr>(binding.getArgument()).getInt() : int64_t(0);
  Extent rows = some && wanted == 0
                    ? Extent::of(0)
                    : Extent::inSlot(window ? builder_.windowSlot(wanted)
                                            : builder_.boundSlot(draft ? proto::SlotBinding::DRAFT_ROWS
                                                                       : proto::SlotBinding::ROWS));
  TensorPlace place;
  SmallVector<AxisAttr> rowAxes, headAxes, channelAxes;
  for (AxisAttr axis : axesOf(argument)) {
    bool isRow = axis.getKind() == "query" || axis.getKind() == "token";
    bool isHead = axis.getKind() == "head" || axis.getKind() == "group";
    (isRow ? rowAxes : isHead ? headAxes : channelAxes).push_back(axis);
  }
  for (AxisAttr axis : llvm::concat<AxisAttr>(rowAxes, headAxes, channelAxes)) {
    bool isRow = axis.getKind() == "query" || axis.getKind() == "token";
    place.axes.push_back(axis);
    place.places.push_back({isRow ? rows : Extent::of(axis.getInteger().value_or(1)), -1, -1, {}});
  }
  if (window) {
    context_.needQueryRows(builder_.calibrates() ? 0 : wanted); // which has all of a sequence
    place.buffer = builder_.roleBuffer(proto::Buffer::LAST_QUERIES, "last_queries_" + std::to_string(wanted),
                                       ElementType::F32, {rows, heads, dim});
    queryPositions_[argument] = builder_.roleBuffer(
        proto::Buffer::LAST_POSITIONS, "last_positions_" + std::to_string(wanted), ElementType::I32, {rows});
  } else if (draft) {
    place.buffer = builder_.roleBuffer(proto::Buffer::DRAFT_QUERIES, "draft_queries",
                                       ElementType::F32, {rows, heads, dim});
    queryPositions_[argument] = builder_.roleBuffer(proto::Buffer::DRAFT_POSITIONS,
                                                    "draft_positions", ElementType::I32, {rows});
  } else if (role == "query") {
    place.buffer =
        builder_.roleBuffer(proto::Buffer::QUERY, "query", ElementType::F32, {rows, heads, dim});
    queryPositions_[argument] =
        builder_.roleBuffer(proto::Buffer::POSITIONS, "positions", ElementType::I32, {rows});
    if (!channelAxes.empty() && channelAxes.back().getTag() == "pre") {
      // Queries come rotated to their positions; the method asked for them before that.
      place.buffer =
          ropeRows(place.buffer, queryPositions_[argument], rows, g.queryHeads, /*inverse=*/true);
    }
  } else if (role == "key" || role == "value") {
    bool pre = role == "key" && !channelAxes.empty() && channelAxes.back().getTag() == "pre";
    if (pre && !builder_.calibrates()) {
      context_.executable.setPreRopeKeys(true);
    }
    auto bufferRole = role == "value" ? proto::Buffer::VALUE
                      : pre           ? proto::Buffer::KEY_PRE
                                      : proto::Buffer::KEY;
    place.buffer = builder_.roleBuffer(bufferRole, role, ElementType::F32, {rows, kvHeads, dim});
  } else if (role == "ids") {
    place.elem = ElementType::I32;
    place.buffer = builder_.roleBuffer(proto::Buffer::IDS, "ids", ElementType::I32, {rows});
  } else if (role == "pos") {
    place.elem = ElementType::I32;
    place.buffer =
        builder_.roleBuffer(proto::Buffer::POSITIONS, "positions", ElementType::I32, {rows});
  } else {
    return phase.emitError() << "the cpu target has no value for the role '" << role << "'";
  }
  queryRows_[argument] = rows;
  tensors_[argument] = place;
  return success();
}

void Scheduler::bindRequest(BlockArgument argument, StringRef table) {
  if (!isa<AxisTensorType>(argument.getType())) { // a number: the first entry
    int buffer =
        builder_.roleBuffer(proto::Buffer::REQUEST, table, ElementType::I32, {Extent::of(1)});
    scalars_[argument] = builder_.fetch(buffer, 0);
    return;
  }
  AxisAttr axis = axesOf(argument).front();
  bool ofRows = axis.getKind() == "query", ofTokens = axis.getKind() == "token";
  Extent entries = ofRows ? Extent::inSlot(builder_.boundSlot(proto::SlotBinding::ROWS))
                   : ofTokens
                       ? Extent::inSlot(builder_.boundSlot(proto::SlotBinding::LENGTH))
                       : builder_.fetch(builder_.roleBuffer(proto::Buffer::REQUEST_SIZE, table,
                                                            ElementType::I32, {Extent::of(1)}),
                                        0);
  TensorPlace place;
  place.elem = ElementType::I32;
  place.axes.push_back(axis);
  place.places.push_back({entries, -1, -1, {}});
  place.buffer = builder_.roleBuffer(ofRows ? proto::Buffer::REQUEST_ROWS : proto::Buffer::REQUEST,
                                     table, ElementType::I32, {entries});
  if (ofRows) {
    queryRows_[argument] = entries;
  }
  tensors_[argument] = place;
}

const StorePlace *Scheduler::storeOf(Value cache) { return caches_.lookup(cache); }

Extent Scheduler::scalar(Value value) {
  Attribute constant;
  if (matchPattern(value, m_Constant(&constant))) {
    return Extent::of(slotBits(constant));
  }
  return scalars_.lookup(value);
}

LogicalResult Scheduler::runBlock(Block &block) {
  for (Operation &op : block.without_terminator()) {
    if (failed(runOp(&op))) {
      return failure();
    }
  }
  return flushScalars();
}

LogicalResult Scheduler::runOp(Operation *op) {
  if (op->hasTrait<OpTrait::ConstantLike>()) {
    return success();
  }
  StringRef dialect = op->getName().getDialectNamespace();
  if (dialect == "arith" || dialect == "math") {
    pendingScalars_.push_back(op);
    return success();
  }
  if (failed(flushScalars())) {
    return failure();
  }
  builder_.setSource(op);
  if (auto extent = dyn_cast<ExtentOp>(op)) {
    if (const StorePlace *store = storeOf(extent.getOf())) {
      scalars_[extent] = builder_.storeRows(store->index);
      return success();
    }
    const TensorPlace &place = tensors_[extent.getOf()];
    for (auto [axis, where] : llvm::zip(place.axes, place.places)) {
      if (axis.getName() == extent.getAxis()) {
        if (where.lengths >= 0) {
          return longest(extent, where);
        }
        scalars_[extent] = where.capacity;
      }
    }
    return success();
  }
  if (auto rope = dyn_cast<RopeOp>(op); rope && isa<CacheType>(rope.getType())) {
    caches_[rope] = storeOf(rope.getInput());
    ropeViews_.insert(rope);
    return success();
  }
  if (auto moved = dyn_cast<RopeOp>(op)) {
    return rope(moved);
  }
  if (auto kernel = dyn_cast<KernelOp>(op)) {
    return runKernel(kernel);
  }
  if (auto appended = dyn_cast<AppendOp>(op)) {
    return append(appended);
  }
  if (auto gather = dyn_cast<GatherOp>(op)) {
    return compact(gather);
  }
  if (auto set = dyn_cast<SetColumnOp>(op)) {
    return setColumn(set);
  }
  if (auto attention = dyn_cast<AttendOp>(op)) {
    return attend(attention);
  }
  if (auto reduced = dyn_cast<ScoreReduceOp>(op)) {
    return reduceScores(reduced);
  }
  if (isa<scf::IfOp>(op)) {
    return runIf(op);
  }
  return op->emitError() << "the cpu target cannot compile '" << op->getName() << "' here";
}

LogicalResult Scheduler::longest(ExtentOp op, const AxisPlace &axis) {
  // Of axes, too, that the tensor lacks: rows along them are said to be equally long.
  int64_t lengths = 1;
  for (int64_t extent : builder_.staticExtents(axis.lengths)) {
    if (ShapedType::isDynamic(extent)) {
      return op.emitError() << "the lengths of axis '" << op.getAxis() << "' are unknown in number";
    }
    lengths *= extent;
  }
  // As IR: one extent for each length, and the largest of them.
  OpBuilder b(op);
  Value most;
  for (int64_t i = 0; i < lengths; ++i) {
    Value one = b.clone(*op)->getResult(0);
    scalars_[one] = builder_.fetch(axis.lengths, i);
    if (most) {
      auto larger = arith::MaxUIOp::create(b, op.getLoc(), most, one);
      pendingScalars_.push_back(larger);
      one = larger;
    }
    most = one;
  }
  op.replaceAllUsesWith(most);
  return success();
}

LogicalResult Scheduler::runIf(Operation *op) {
  auto branch = cast<scf::IfOp>(op);
  for (Type type : branch.getResultTypes()) {
    if (!isa<CacheType>(type)) {
      return op->emitError() << "expected caches as the only results of scf.if in a program, got "
                             << type;
    }
  }
  for (Operation &other : branch.getElseRegion().empty()
                              ? Block().without_terminator()
                              : branch.elseBlock()->without_terminator()) {
    return other.emitError()
           << "expected an empty else: a program either runs the work or leaves it";
  }
  LogicalResult inside = success();
  builder_.guarded(builder_.slotOf(scalar(branch.getCondition())),
                   [&] { inside = runBlock(*branch.thenBlock()); });
  if (failed(inside)) {
    return failure();
  }
  for (auto [result, yielded] : llvm::zip(branch.getResults(), branch.thenYield().getResults())) {
    caches_[result] = storeOf(yielded);
  }
  return success();
}

LogicalResult Scheduler::flushScalars() {
  if (pendingScalars_.empty()) {
    return success();
  }
  OwningOpRef<OutlineOp> around = builder_.takeSource();
  builder_.setSource(pendingScalars_);
  NestKernel spec;
  spec.name = kernelName("scalars");
  KernelOperands operands;
  int words = 0;
  auto word = [&](Value value, Extent extent, std::vector<NestOperand> &list) {
    NestOperand operand;
    operand.value = value;
    operand.arg = "w" + std::to_string(words++);
    operands.words[operand.arg] = extent;
    list.push_back(operand);
  };
  llvm::DenseSet<Value> seen;
  for (Operation *op : pendingScalars_) {
    spec.ops.push_back(op);
    for (Value operand : op->getOperands()) {
      bool own = llvm::is_contained(pendingScalars_, operand.getDefiningOp());
      if (!own && !matchPattern(operand, m_Constant()) && seen.insert(operand).second) {
        word(operand, scalar(operand), spec.inputs);
      }
    }
  }
  for (Operation *op : pendingScalars_) {
    scalars_[op->getResult(0)] = Extent::inSlot(builder_.newSlot());
    word(op->getResult(0), scalars_[op->getResult(0)], spec.outputs);
  }
  FailureOr<NestResult> emitted = emitScalars(context_.kernels, spec);
  if (failed(emitted)) {
    return failure();
  }
  pendingScalars_.clear();
  builder_.launch(emitted->kernel, operands, emitted->ops, phaseName_, /*writesSlots=*/true);
  builder_.giveSource(std::move(around));
  return success();
}

LogicalResult Scheduler::finish(NextOp next) {
  for (auto [name, value] : llvm::zip(next.getNames(), next.getValues())) {
    auto symbol = dyn_cast<FlatSymbolRefAttr>(name);
    if (symbol && isa<CacheType>(value.getType()) && !storeOf(value)) {
      return next.emitError() << "state '@" << symbol.getValue() << "' is not the value of a store";
    }
    if (symbol && isa<BlockArgument>(value) && context_.tensors.count(symbol.getValue().str())) {
      return next.emitError() << "artefact '@" << symbol.getValue()
                              << "': expected a value that the phase computes, got an argument of it";
    }
    if (!symbol && cast<StringAttr>(name).getValue() == "rows" && failed(passRows(next, value))) {
      return failure();
    }
    if ((builder_.kind() == proto::Program::PROMPT_SCORE || builder_.seesAllLayers() ||
         builder_.calibrates()) &&
        !symbol && failed(carry(next, cast<StringAttr>(name).getValue(), value))) {
      return failure();
    }
  }
  return success();
}

} // namespace mlir::kvcache::cpu
