// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Messages to executable ops. Invariant: every number is checked before it becomes a name or a
// value; what the verifier of the ops checks is left to it.

#include "targets/ExecutableTranslation.h"

#include "dialect/KVCacheDialect.h"
#include "dialect/ScheduleOps.h"
#include "runtime/abi/ElementType.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/Verifier.h"

namespace mlir::kvcache {

namespace proto = ::kvcache::proto;

namespace {

/// Where the steps of a program go: its block, or that of a guard that ends before step `end`.
struct OpenBlock {
  Block *block;
  int end;
};

class Importer {
public:
  Importer(Location source, const proto::Executable &from)
      : from_(from), b_(source.getContext()), loc_(source) {}

  FailureOr<OwningOpRef<ModuleOp>> run();

private:
  LogicalResult declare();
  LogicalResult origin();
  LogicalResult program(const proto::Program &program);
  LogicalResult slots(const proto::Program &program);
  LogicalResult buffer(const proto::Buffer &buffer);
  LogicalResult steps(const proto::Program &program);
  LogicalResult launch(const proto::Step::Kernel &kernel);
  LogicalResult storeStep(const proto::Step &step);
  LogicalResult codeStep(const proto::Step &step);
  LogicalResult ranked(const proto::Program &program);

  LogicalResult bad(const Twine &message) {
    return emitError(loc_) << "executable of method '" << from_.method() << "'" << where_ << ": "
                           << message;
  }
  LogicalResult inRange(int64_t index, int64_t count, StringRef what) {
    return index >= 0 && index < count
               ? success()
               : bad("expected a " + what + " below " + Twine(count) + ", got " + Twine(index));
  }
  StringAttr str(const std::string &text) { return b_.getStringAttr(text); }
  StringAttr optional(const std::string &text) { return text.empty() ? StringAttr() : str(text); }
  IntegerAttr i64(int64_t value) { return b_.getI64IntegerAttr(value); }
  IntegerAttr nonZero(int64_t value) { return value == 0 ? IntegerAttr() : i64(value); }
  UnitAttr unit(bool set) { return set ? b_.getUnitAttr() : UnitAttr(); }
  /// An enumerator's name in lower case.
  StringAttr word(const std::string &name) { return b_.getStringAttr(StringRef(name).lower()); }
  /// The name of an element type; what is none has no name, which the verifier refuses.
  StringAttr element(uint32_t type) {
    std::string_view name = type < 8 ? nameOf(static_cast<::kvcache::abi::ElementType>(type)) : "";
    return b_.getStringAttr(StringRef(name.data(), name.size()));
  }
  ArrayAttr texts(const google::protobuf::RepeatedPtrField<std::string> &list) {
    return b_.getStrArrayAttr(SmallVector<StringRef>(list.begin(), list.end()));
  }
  DenseElementsAttr bytes(const std::string &data) {
    auto type = RankedTensorType::get({static_cast<int64_t>(data.size())}, b_.getIntegerType(8));
    return DenseElementsAttr::get(
        type, ArrayRef<int8_t>(reinterpret_cast<const int8_t *>(data.data()), data.size()));
  }

  FailureOr<FlatSymbolRefAttr> store(int32_t index) {
    if (failed(inRange(index, from_.stores_size(), "store"))) {
      return failure();
    }
    return FlatSymbolRefAttr::get(str(from_.stores(index).name()));
  }
  FailureOr<FlatSymbolRefAttr> tensor(int32_t index) {
    if (failed(inRange(index, from_.tensors_size(), "tensor"))) {
      return failure();
    }
    return FlatSymbolRefAttr::get(str(from_.tensors(index).name()));
  }
  FailureOr<StringAttr> column(int32_t storeIndex, int32_t index) {
    if (failed(store(storeIndex)) ||
        failed(inRange(index, from_.stores(storeIndex).columns_size(), "column"))) {
      return failure();
    }
    return str(from_.stores(storeIndex).columns(index).name());
  }
  FailureOr<Value> at(ArrayRef<Value> values, int64_t index, StringRef what) {
    if (failed(inRange(index, static_cast<int64_t>(values.size()), what))) {
      return failure();
    }
    return values[index];
  }
  FailureOr<Value> slot(int64_t index) { return at(slots_, index, "slot"); }
  FailureOr<Value> bufferAt(int64_t index) { return at(buffers_, index, "buffer"); }
  /// Appends an extent to the list that `values` and `constants` form.
  LogicalResult dim(const proto::Dim &from, SmallVector<Value> &values,
                    SmallVector<int64_t> &constants);

  const proto::Executable &from_;
  OpBuilder b_;
  Location loc_;
  std::string where_;
  int launches_ = 0;
  SmallVector<Value> slots_, buffers_;
};

FailureOr<OwningOpRef<ModuleOp>> Importer::run() {
  OwningOpRef<ModuleOp> module = ModuleOp::create(loc_);
  b_.setInsertionPointToEnd(module->getBody());
  const proto::Geometry &g = from_.geometry();
  auto executable = ExecutableOp::create(
      b_, loc_, str(from_.target()), i64(g.layers()), i64(g.query_heads()), i64(g.kv_heads()),
      i64(g.head_dim()), element(g.act()), nonZero(g.sliding_window()),
      g.rope_inv_freq_size() == 0 ? DenseF32ArrayAttr()
                                  : b_.getDenseF32ArrayAttr(SmallVector<float>(
                                        g.rope_inv_freq().begin(), g.rope_inv_freq().end())),
      unit(from_.has_token_budget()), optional(from_.budget_refusal()),
      nonZero(from_.needed_query_rows()), unit(from_.needs_pre_rope_keys()),
      nonZero(from_.draft_steps()));
  Block &body = executable.getBody().emplaceBlock();
  b_.setInsertionPointToEnd(&body);
  if (failed(declare())) {
    return failure();
  }
  for (int p = 0; p < from_.programs_size(); ++p) {
    where_ = ", program " + std::to_string(p);
    b_.setInsertionPointToEnd(&body);
    if (failed(program(from_.programs(p)))) {
      return failure();
    }
  }
  where_.clear();
  b_.setInsertionPointToEnd(&body);
  for (const proto::NativeCode &code : from_.code()) {
    ExecCodeOp::create(b_, loc_, str(code.isa()), texts(code.features()),
                       i64(static_cast<int64_t>(code.object_bytes())), bytes(code.object()));
  }
  for (const proto::Vector &vector : from_.vectors()) {
    ExecRecordedOp::create(b_, loc_, str(vector.name()), str(vector.seed_text()),
                           b_.getF64FloatAttr(vector.tolerance()), bytes(vector.expected()));
  }
  if (launches_ != from_.kernels_size()) {
    return bad("expected a launch for each of its " + Twine(from_.kernels_size()) +
               " kernel descriptions, got " + Twine(launches_));
  }
  if (failed(origin()) || failed(verify(*module))) {
    return failure();
  }
  return module;
}

/// Stores and persistent tensors.
LogicalResult Importer::declare() {
  for (const proto::Store &from : from_.stores()) {
    auto to = ExecStoreOp::create(b_, loc_, str(from.name()), i64(from.row_heads()));
    OpBuilder::InsertionGuard guard(b_);
    b_.setInsertionPointToEnd(&to.getColumns().emplaceBlock());
    for (const proto::Column &column : from.columns()) {
      ExecColumnOp::create(b_, loc_, str(column.name()), i64(column.width()), str(column.storage()),
                           unit(column.rope_view()));
    }
  }
  for (const proto::Tensor &from : from_.tensors()) {
    SmallVector<Attribute> values;
    for (const std::string &layer : from.values()) {
      values.push_back(bytes(layer));
    }
    ExecTensorOp::create(
        b_, loc_, str(from.name()),
        b_.getDenseI64ArrayAttr(SmallVector<int64_t>(from.dims().begin(), from.dims().end())),
        element(from.elem()), unit(from.artefact()), unit(from.carried()),
        values.empty() ? ArrayAttr() : b_.getArrayAttr(values));
  }
  return success();
}

LogicalResult Importer::origin() {
  SmallVector<NamedAttribute> parameters;
  for (const auto &[name, value] : from_.parameters()) {
    if (name.empty()) {
      return bad("a parameter has no name");
    }
    parameters.push_back(b_.getNamedAttr(name, str(value)));
  }
  ExecOriginOp::create(b_, loc_, str(from_.producer()), str(from_.method()),
                       str(from_.method_hash()), b_.getDictionaryAttr(parameters),
                       str(from_.composed_ir()));
  return success();
}

LogicalResult Importer::program(const proto::Program &from) {
  if (!proto::Program::Kind_IsValid(from.kind())) {
    return bad("its kind is not known");
  }
  SmallVector<int64_t> layers(from.layers().begin(), from.layers().end());
  SmallVector<int64_t> sizes(from.sizes().begin(), from.sizes().end());
  bool sampled = !from.source().empty();
  auto to =
      ProgramOp::create(b_, loc_, word(proto::Program::Kind_Name(from.kind())),
                        layers.empty() ? DenseI64ArrayAttr() : b_.getDenseI64ArrayAttr(layers),
                        nonZero(from.nan_check_op()), nonZero(from.chunk_rows()),
                        sampled ? str(from.source()) : StringAttr(),
                        sampled ? b_.getDenseI64ArrayAttr(sizes) : DenseI64ArrayAttr());
  b_.setInsertionPointToEnd(&to.getBody().emplaceBlock());
  slots_.clear();
  buffers_.clear();
  if (failed(slots(from))) {
    return failure();
  }
  for (const proto::Buffer &declared : from.buffers()) {
    if (failed(buffer(declared))) {
      return failure();
    }
  }
  return failure(failed(steps(from)) || failed(ranked(from)));
}

LogicalResult Importer::slots(const proto::Program &from) {
  constexpr int32_t mostSlots = 1 << 20;
  if (failed(inRange(from.slots(), mostSlots, "slot count"))) {
    return failure();
  }
  SmallVector<const proto::SlotBinding *> bound(from.slots(), nullptr);
  for (const proto::SlotBinding &binding : from.bindings()) {
    if (failed(inRange(binding.slot(), from.slots(), "slot"))) {
      return failure();
    }
    if (bound[binding.slot()] || !proto::SlotBinding::Role_IsValid(binding.role())) {
      return bad("slot " + Twine(binding.slot()) + " is bound twice, or to no known role");
    }
    bound[binding.slot()] = &binding;
  }
  for (const proto::SlotBinding *binding : bound) {
    proto::SlotBinding::Role role = binding ? binding->role() : proto::SlotBinding::NONE;
    FlatSymbolRefAttr source;
    bool ofTensor = role == proto::SlotBinding::TENSOR_EXTENT;
    bool limited = role == proto::SlotBinding::WINDOW_ROWS && binding->value() > 0;
    if (role == proto::SlotBinding::STORE_ROWS || ofTensor) {
      FailureOr<FlatSymbolRefAttr> named =
          ofTensor ? tensor(binding->index()) : store(binding->index());
      if (failed(named)) {
        return failure();
      }
      source = *named;
    }
    slots_.push_back(SlotOp::create(
        b_, loc_, MemRefType::get({}, b_.getI64Type()), word(proto::SlotBinding::Role_Name(role)),
        source,
        role == proto::SlotBinding::CONSTANT || ofTensor || limited ? i64(binding->value())
                                                                    : IntegerAttr()));
  }
  return success();
}

LogicalResult Importer::dim(const proto::Dim &from, SmallVector<Value> &values,
                            SmallVector<int64_t> &constants) {
  if (from.kind_case() != proto::Dim::kSlot) {
    constants.push_back(std::max<int64_t>(from.constant(), -1)); // -1 is refused by the verifier
    return success();
  }
  FailureOr<Value> value = slot(from.slot());
  if (failed(value)) {
    return failure();
  }
  values.push_back(*value);
  constants.push_back(ShapedType::kDynamic);
  return success();
}

LogicalResult Importer::buffer(const proto::Buffer &from) {
  SmallVector<Value> extents;
  SmallVector<int64_t> constants;
  for (const proto::Dim &extent : from.dims()) {
    if (failed(dim(extent, extents, constants))) {
      return failure();
    }
  }
  if (!proto::Buffer::Role_IsValid(from.role())) {
    return bad("the role of buffer '" + from.name() + "' is not known");
  }
  FlatSymbolRefAttr named;
  if (from.role() == proto::Buffer::TENSOR) {
    FailureOr<FlatSymbolRefAttr> known = tensor(from.index());
    if (failed(known)) {
      return failure();
    }
    named = *known;
  }
  Value memory;
  if (from.memory() != 0) {
    FailureOr<Value> owner = bufferAt(from.memory() - 1);
    if (failed(owner)) {
      return failure();
    }
    memory = *owner;
  }
  buffers_.push_back(BufferOp::create(b_, loc_,
                                      MemRefType::get({ShapedType::kDynamic}, b_.getIntegerType(8)),
                                      word(proto::Buffer::Role_Name(from.role())), str(from.name()),
                                      extents, b_.getDenseI64ArrayAttr(constants),
                                      element(from.elem()), named, unit(from.zeroed()), memory));
  return success();
}

LogicalResult Importer::steps(const proto::Program &from) {
  SmallVector<OpenBlock> open{{b_.getInsertionBlock(), from.steps_size()}};
  std::string outer = where_;
  for (int s = 0; s < from.steps_size(); ++s) {
    where_ = outer + ", step " + std::to_string(s);
    while (open.back().end == s) {
      open.pop_back();
    }
    b_.setInsertionPointToEnd(open.back().block);
    const proto::Step &step = from.steps(s);
    if (!step.has_guard()) {
      if (failed(step.has_kernel() ? launch(step.kernel()) : storeStep(step))) {
        return failure();
      }
      continue;
    }
    FailureOr<Value> condition = slot(step.guard().slot());
    if (failed(condition) || failed(inRange(step.guard().steps(), open.back().end - s,
                                            "number of steps, inside the guard around it,"))) {
      return failure();
    }
    auto guard = GuardOp::create(b_, loc_, *condition);
    Block &body = guard.getBody().emplaceBlock();
    if (step.guard().steps() > 0) {
      open.push_back({&body, s + 1 + step.guard().steps()});
    }
  }
  where_ = outer;
  b_.setInsertionPointToEnd(open.front().block);
  return success();
}

LogicalResult Importer::launch(const proto::Step::Kernel &from) {
  if (from.info() != launches_ || from.info() >= from_.kernels_size()) {
    return bad("expected kernel descriptions in the order of launches, got number " +
               Twine(from.info()));
  }
  const proto::KernelInfo &info = from_.kernels(launches_++);
  SmallVector<Value> grid, buffers, words;
  SmallVector<int64_t> constants;
  SmallVector<Attribute> args, reads;
  for (const proto::Dim &extent : from.grid()) {
    if (failed(dim(extent, grid, constants))) {
      return failure();
    }
  }
  for (const proto::Arg &arg : from.args()) {
    if (arg.kind_case() == proto::Arg::kStore) {
      FailureOr<FlatSymbolRefAttr> named = store(arg.store());
      if (failed(named)) {
        return failure();
      }
      args.push_back(*named);
    } else if (arg.kind_case() == proto::Arg::kScalars) {
      for (int32_t index : arg.scalars().slots()) {
        words.push_back(slot(index).value_or(Value()));
      }
      args.push_back(i64(arg.scalars().slots_size()));
    } else {
      buffers.push_back(bufferAt(arg.buffer()).value_or(Value()));
      args.push_back(b_.getUnitAttr());
    }
  }
  if (llvm::is_contained(words, Value()) || llvm::is_contained(buffers, Value())) {
    return failure(); // said by `at`
  }
  for (const proto::ColumnRef &read : from.reads()) {
    FailureOr<StringAttr> name = column(read.store(), read.column());
    if (failed(name)) {
      return failure();
    }
    reads.push_back(
        SymbolRefAttr::get(str(from_.stores(read.store()).name()), FlatSymbolRefAttr::get(*name)));
  }
  Value moves;
  if (from.has_moved_rows()) {
    SmallVector<Value> rows;
    SmallVector<int64_t> none;
    if (from.moved_rows().kind_case() != proto::Dim::kSlot) {
      return bad("expected a slot with the rows that a launch moves, got a constant");
    }
    if (failed(dim(from.moved_rows(), rows, none))) {
      return failure();
    }
    moves = rows.front();
  }
  LaunchOp::create(b_, loc_, FlatSymbolRefAttr::get(str(from.symbol())), grid,
                   b_.getDenseI64ArrayAttr(constants), buffers, words, b_.getArrayAttr(args),
                   unit(from.writes_slots()), reads.empty() ? ArrayAttr() : b_.getArrayAttr(reads),
                   moves, texts(info.ops()), str(info.status()), str(info.phase()),
                   optional(info.reason()), optional(info.check_op()),
                   info.name() == from.symbol() ? StringAttr() : str(info.name()),
                   nonZero(info.read_bytes_per_row()), nonZero(info.write_bytes_per_row()));
  return success();
}

LogicalResult Importer::storeStep(const proto::Step &from) {
  SmallVector<Value> rows;
  SmallVector<int64_t> constants;
  switch (from.kind_case()) {
  case proto::Step::kReserve: {
    FailureOr<FlatSymbolRefAttr> named = store(from.reserve().store());
    if (failed(named) || failed(dim(from.reserve().rows(), rows, constants))) {
      return failure();
    }
    ReserveOp::create(b_, loc_, *named, rows, b_.getDenseI64ArrayAttr(constants));
    return success();
  }
  case proto::Step::kTruncate: {
    bool ragged = from.truncate().ragged();
    FailureOr<FlatSymbolRefAttr> named = store(from.truncate().store());
    FailureOr<Value> lengths =
        ragged ? bufferAt(from.truncate().lengths_buffer()) : FailureOr<Value>(Value());
    if (failed(named) || failed(lengths) ||
        (!ragged && failed(dim(from.truncate().rows(), rows, constants)))) {
      return failure();
    }
    TruncateOp::create(b_, loc_, *named, rows, b_.getDenseI64ArrayAttr(constants), *lengths);
    return success();
  }
  case proto::Step::kStoreRows: {
    FailureOr<FlatSymbolRefAttr> named = store(from.store_rows().store());
    FailureOr<Value> cell = slot(from.store_rows().slot());
    if (failed(named) || failed(cell)) {
      return failure();
    }
    int64_t divideUp = std::max<int64_t>(1, from.store_rows().divide_up());
    StoreRowsOp::create(b_, loc_, *named, i64(divideUp), *cell);
    return success();
  }
  case proto::Step::kFetch: {
    FailureOr<Value> buffer = bufferAt(from.fetch().buffer()), cell = slot(from.fetch().slot());
    if (failed(buffer) || failed(cell)) {
      return failure();
    }
    FetchOp::create(b_, loc_, *buffer, i64(from.fetch().index()), *cell);
    return success();
  }
  default:
    return codeStep(from);
  }
}

LogicalResult Importer::codeStep(const proto::Step &from) {
  if (!from.has_begin_code() && !from.has_end_code()) {
    return bad("the step is of no known kind");
  }
  bool begins = from.has_begin_code();
  int32_t storeIndex = begins ? from.begin_code().store() : from.end_code().store();
  FailureOr<StringAttr> name =
      column(storeIndex, begins ? from.begin_code().column() : from.end_code().column());
  FailureOr<Value> due = bufferAt(begins ? from.begin_code().due() : from.end_code().due());
  FailureOr<Value> rows =
      begins ? slot(from.begin_code().due_rows_slot()) : FailureOr<Value>(Value());
  if (failed(name) || failed(due) || failed(rows)) {
    return failure();
  }
  if (begins) {
    BeginCodeOp::create(b_, loc_, *store(storeIndex), *name, *due, *rows);
  } else {
    EndCodeOp::create(b_, loc_, *store(storeIndex), *name, *due);
  }
  return success();
}

LogicalResult Importer::ranked(const proto::Program &from) {
  if (!from.has_ranked()) {
    return success();
  }
  const proto::Program::Ranked &r = from.ranked();
  FailureOr<Value> scores = bufferAt(r.buffer());
  FailureOr<Value> none{Value()};
  FailureOr<Value> first = r.first_slot() < 0 ? none : slot(r.first_slot());
  FailureOr<Value> last = r.last_slot() < 0 ? none : slot(r.last_slot());
  FailureOr<Value> counts = r.counts_buffer() <= 0 ? none : bufferAt(r.counts_buffer());
  if (failed(scores) || failed(first) || failed(last) || failed(counts)) {
    return failure();
  }
  RankedOp::create(b_, loc_, *scores, *first, *last, *counts);
  return success();
}

} // namespace

FailureOr<OwningOpRef<ModuleOp>> importExecutable(Location source,
                                                  const ::kvcache::proto::Executable &from) {
  source.getContext()->loadDialect<KVCacheDialect>();
  return Importer(source, from).run();
}

} // namespace mlir::kvcache
