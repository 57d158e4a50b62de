// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Executable ops to messages. Invariant: everything the ops hold is written, in their order; what
// is absent keeps the default of its field.

#include "targets/ExecutableTranslation.h"

#include "dialect/ScheduleOps.h"
#include "runtime/abi/ElementType.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::kvcache {

namespace proto = ::kvcache::proto;

namespace {

std::string text(std::optional<StringRef> value) { return value.value_or(StringRef()).str(); }

int64_t number(std::optional<uint64_t> value) { return static_cast<int64_t>(value.value_or(0)); }

/// The number of an element type, which the verifier has checked.
uint32_t elementOf(StringRef name) {
  ::kvcache::abi::ElementType type = ::kvcache::abi::ElementType::F32;
  (void)::kvcache::abi::elementTypeFromName({name.data(), name.size()}, type);
  return static_cast<uint32_t>(type);
}

FailureOr<std::string> bytesOf(Operation *op, Attribute attribute) {
  auto elements = dyn_cast<DenseIntElementsAttr>(attribute);
  if (!elements || !elements.getElementType().isInteger(8)) {
    return op->emitOpError("expects dense bytes of type i8");
  }
  std::string bytes;
  for (APInt byte : elements) {
    bytes.push_back(static_cast<char>(byte.getZExtValue()));
  }
  return bytes;
}

/// One program, or the whole executable: what names stand for.
class Exporter {
public:
  Exporter(ExecutableOp from, proto::Executable &to) : from_(from), to_(to) {}

  LogicalResult run();

private:
  void geometry();
  void origin(ExecOriginOp op);
  LogicalResult declare(Operation *op);
  LogicalResult program(ProgramOp op);
  void declareSlot(SlotOp op);
  void declareBuffer(BufferOp op);
  void ranked(RankedOp op);
  LogicalResult steps(Block &block);
  void launch(LaunchOp op);
  void storeStep(Operation *op, proto::Step &step);

  void dims(OperandRange slots, ArrayRef<int64_t> constants,
            google::protobuf::RepeatedPtrField<proto::Dim> &to);
  int store(StringRef name) { return stores_.lookup(name); }
  int column(StringRef storeName, StringRef name) {
    auto op = cast<ExecStoreOp>(SymbolTable::lookupSymbolIn(from_, storeName));
    return static_cast<int>(op.getColumnIndex(name));
  }

  ExecutableOp from_;
  proto::Executable &to_;
  proto::Program *program_ = nullptr;
  llvm::StringMap<int> stores_, tensors_;
  llvm::DenseMap<Value, int> slots_, buffers_;
};

void Exporter::geometry() {
  proto::Geometry &g = *to_.mutable_geometry();
  g.set_layers(from_.getLayers());
  g.set_query_heads(from_.getQueryHeads());
  g.set_kv_heads(from_.getKvHeads());
  g.set_head_dim(from_.getHeadDim());
  g.set_act(elementOf(from_.getAct()));
  g.set_sliding_window(number(from_.getSlidingWindow()));
  for (float frequency : from_.getRopeInvFreq().value_or(ArrayRef<float>())) {
    g.add_rope_inv_freq(frequency);
  }
  to_.set_target(from_.getTarget().str());
  to_.set_has_token_budget(from_.getTokenBudget());
  to_.set_budget_refusal(text(from_.getBudgetRefusal()));
  to_.set_needed_query_rows(number(from_.getNeededQueryRows()));
  to_.set_draft_steps(number(from_.getDraftSteps()));
  to_.set_needs_pre_rope_keys(from_.getPreRopeKeys());
}

void Exporter::origin(ExecOriginOp op) {
  to_.set_producer(op.getProducer().str());
  to_.set_method(op.getMethod().str());
  to_.set_method_hash(op.getMethodHash().str());
  to_.set_composed_ir(op.getComposed().str());
  for (NamedAttribute parameter : op.getParameters()) {
    if (auto value = dyn_cast<StringAttr>(parameter.getValue())) {
      (*to_.mutable_parameters())[parameter.getName().str()] = value.getValue().str();
    }
  }
}

/// What an executable holds beside programs.
LogicalResult Exporter::declare(Operation *op) {
  if (auto store = dyn_cast<ExecStoreOp>(op)) {
    stores_[store.getSymName()] = to_.stores_size();
    proto::Store *to = to_.add_stores();
    to->set_name(store.getSymName().str());
    to->set_row_heads(store.getHeads());
    for (ExecColumnOp column : store.getColumns().getOps<ExecColumnOp>()) {
      proto::Column *added = to->add_columns();
      added->set_name(column.getName().str());
      added->set_width(column.getWidth());
      added->set_storage(column.getStorage().str());
      added->set_rope_view(column.getRopeView());
    }
  } else if (auto tensor = dyn_cast<ExecTensorOp>(op)) {
    tensors_[tensor.getSymName()] = to_.tensors_size();
    proto::Tensor *to = to_.add_tensors();
    to->set_name(tensor.getSymName().str());
    to->set_elem(elementOf(tensor.getElement()));
    to->mutable_dims()->Add(tensor.getExtents().begin(), tensor.getExtents().end());
    to->set_artefact(tensor.getArtefact());
    to->set_carried(tensor.getCarried());
    for (Attribute values : tensor.getValues().value_or(ArrayAttr::get(op->getContext(), {}))) {
      FailureOr<std::string> bytes = bytesOf(op, values);
      if (failed(bytes)) {
        return failure();
      }
      to->add_values(std::move(*bytes));
    }
  } else if (auto code = dyn_cast<ExecCodeOp>(op)) {
    FailureOr<std::string> bytes = bytesOf(op, code.getObject());
    if (failed(bytes)) {
      return failure();
    }
    proto::NativeCode *to = to_.add_code();
    to->set_isa(code.getIsa().str());
    to->set_object_bytes(code.getObjectBytes());
    to->set_object(std::move(*bytes));
    for (StringAttr feature : code.getFeatures().getAsRange<StringAttr>()) {
      to->add_features(feature.getValue().str());
    }
  } else if (auto recorded = dyn_cast<ExecRecordedOp>(op)) {
    FailureOr<std::string> bytes = bytesOf(op, recorded.getExpected());
    if (failed(bytes)) {
      return failure();
    }
    proto::Vector *to = to_.add_vectors();
    to->set_name(recorded.getName().str());
    to->set_seed_text(recorded.getSeedText().str());
    to->set_tolerance(recorded.getTolerance().convertToDouble());
    to->set_expected(std::move(*bytes));
  } else if (auto described = dyn_cast<ExecOriginOp>(op)) {
    origin(described);
  } else {
    return op->emitOpError("is no part of an executable");
  }
  return success();
}

LogicalResult Exporter::run() {
  geometry();
  for (Operation &op : from_.getBody().front()) {
    if (!isa<ProgramOp>(op) && failed(declare(&op))) {
      return failure();
    }
  }
  for (ProgramOp op : from_.getBody().getOps<ProgramOp>()) {
    if (failed(program(op))) {
      return failure();
    }
  }
  return success();
}

LogicalResult Exporter::program(ProgramOp op) {
  program_ = to_.add_programs();
  slots_.clear();
  buffers_.clear();
  proto::Program::Kind kind = proto::Program::PREFILL;
  (void)proto::Program::Kind_Parse(op.getKind().upper(), &kind);
  program_->set_kind(kind);
  for (int64_t layer : op.getLayers().value_or(ArrayRef<int64_t>())) {
    program_->add_layers(layer);
  }
  program_->set_nan_check_op(static_cast<int32_t>(number(op.getNanCheckOp())));
  program_->set_chunk_rows(number(op.getChunkRows()));
  program_->set_source(text(op.getSource()));
  for (int64_t size : op.getSizes().value_or(ArrayRef<int64_t>())) {
    program_->add_sizes(size);
  }
  for (Operation &inner : op.getBody().front()) {
    if (auto slot = dyn_cast<SlotOp>(inner)) {
      declareSlot(slot);
    } else if (auto buffer = dyn_cast<BufferOp>(inner)) {
      declareBuffer(buffer);
    }
  }
  return steps(op.getBody().front());
}

void Exporter::declareSlot(SlotOp op) {
  int slot = program_->slots();
  slots_[op.getSlot()] = slot;
  program_->set_slots(slot + 1);
  if (op.getRole() == "none") {
    return;
  }
  proto::SlotBinding *to = program_->add_bindings();
  proto::SlotBinding::Role role = proto::SlotBinding::NONE;
  (void)proto::SlotBinding::Role_Parse(op.getRole().upper(), &role);
  to->set_slot(slot);
  to->set_role(role);
  to->set_value(number(op.getValue()));
  if (op.getSource()) {
    to->set_index(op.getRole() == "store_rows" ? store(*op.getSource())
                                               : tensors_.lookup(*op.getSource()));
  }
}

void Exporter::declareBuffer(BufferOp op) {
  buffers_[op.getBuffer()] = program_->buffers_size();
  proto::Buffer *to = program_->add_buffers();
  proto::Buffer::Role role = proto::Buffer::TRANSIENT;
  (void)proto::Buffer::Role_Parse(op.getRole().upper(), &role);
  to->set_name(op.getName().str());
  to->set_elem(elementOf(op.getElement()));
  to->set_role(role);
  to->set_zeroed(op.getZeroed());
  dims(op.getExtents(), op.getStaticExtents(), *to->mutable_dims());
  if (op.getTensor()) {
    to->set_index(tensors_.lookup(*op.getTensor()));
  }
  if (op.getMemory()) {
    to->set_memory(1 + buffers_.lookup(op.getMemory()));
  }
}

void Exporter::dims(OperandRange slots, ArrayRef<int64_t> constants,
                    google::protobuf::RepeatedPtrField<proto::Dim> &to) {
  for (int64_t constant : constants) {
    if (ShapedType::isDynamic(constant)) {
      to.Add()->set_slot(slots_.lookup(slots.front()));
      slots = slots.drop_front();
    } else {
      to.Add()->set_constant(constant);
    }
  }
}

void Exporter::ranked(RankedOp op) {
  proto::Program::Ranked *to = program_->mutable_ranked();
  to->set_buffer(buffers_.lookup(op.getScores()));
  to->set_first_slot(op.getFirst() ? slots_.lookup(op.getFirst()) : -1);
  to->set_last_slot(op.getLast() ? slots_.lookup(op.getLast()) : -1);
  if (op.getCounts()) {
    to->set_counts_buffer(buffers_.lookup(op.getCounts()));
  }
}

LogicalResult Exporter::steps(Block &block) {
  for (Operation &op : block) {
    if (isa<SlotOp, BufferOp>(op)) {
      continue;
    }
    if (auto guard = dyn_cast<GuardOp>(op)) {
      int at = program_->steps_size();
      program_->add_steps()->mutable_guard()->set_slot(slots_.lookup(guard.getCondition()));
      if (failed(steps(guard.getBody().front()))) {
        return failure();
      }
      program_->mutable_steps(at)->mutable_guard()->set_steps(program_->steps_size() - at - 1);
    } else if (auto launched = dyn_cast<LaunchOp>(op)) {
      launch(launched);
    } else if (auto reported = dyn_cast<RankedOp>(op)) {
      ranked(reported);
    } else if (isa<ReserveOp, TruncateOp, BeginCodeOp, EndCodeOp, StoreRowsOp, FetchOp>(op)) {
      storeStep(&op, *program_->add_steps());
    } else {
      return op.emitOpError("is no step of a program");
    }
  }
  return success();
}

void Exporter::launch(LaunchOp op) {
  proto::KernelInfo *info = to_.add_kernels();
  info->set_name(op.getLabel().value_or(op.getKernel()).str());
  for (StringAttr covered : op.getOps().getAsRange<StringAttr>()) {
    info->add_ops(covered.getValue().str());
  }
  info->set_status(op.getStatus().str());
  info->set_phase(op.getPhase().str());
  info->set_reason(text(op.getReason()));
  info->set_check_op(text(op.getCheckOp()));
  info->set_read_bytes_per_row(number(op.getReadBytesPerRow()));
  info->set_write_bytes_per_row(number(op.getWriteBytesPerRow()));

  proto::Step::Kernel *to = program_->add_steps()->mutable_kernel();
  to->set_symbol(op.getKernel().str());
  to->set_info(to_.kernels_size() - 1);
  to->set_writes_slots(op.getWritesSlots());
  dims(op.getGrid(), op.getStaticGrid(), *to->mutable_grid());
  OperandRange buffers = op.getBuffers(), words = op.getWords();
  for (Attribute arg : op.getArgs()) {
    proto::Arg *added = to->add_args();
    if (auto name = dyn_cast<FlatSymbolRefAttr>(arg)) {
      added->set_store(store(name.getValue()));
    } else if (auto count = dyn_cast<IntegerAttr>(arg)) {
      added->mutable_scalars();
      for (Value word : words.take_front(count.getInt())) {
        added->mutable_scalars()->add_slots(slots_.lookup(word));
      }
      words = words.drop_front(count.getInt());
    } else {
      added->set_buffer(buffers_.lookup(buffers.front()));
      buffers = buffers.drop_front();
    }
  }
  for (Attribute read : op.getReads().value_or(ArrayAttr::get(op.getContext(), {}))) {
    auto name = cast<SymbolRefAttr>(read);
    proto::ColumnRef *ref = to->add_reads();
    ref->set_store(store(name.getRootReference().getValue()));
    ref->set_column(column(name.getRootReference().getValue(), name.getLeafReference().getValue()));
  }
  if (op.getMoves()) {
    to->mutable_moved_rows()->set_slot(slots_.lookup(op.getMoves()));
  }
}

/// Steps that are no launches and no guards.
void Exporter::storeStep(Operation *op, proto::Step &step) {
  google::protobuf::RepeatedPtrField<proto::Dim> rows;
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](ReserveOp from) {
        dims(from.getRows(), from.getStaticRows(), rows);
        step.mutable_reserve()->set_store(store(from.getStore()));
        *step.mutable_reserve()->mutable_rows() = rows[0];
      })
      .Case([&](TruncateOp from) {
        step.mutable_truncate()->set_store(store(from.getStore()));
        if (from.getLengths()) {
          step.mutable_truncate()->set_lengths_buffer(buffers_.lookup(from.getLengths()));
          step.mutable_truncate()->set_ragged(true);
        } else {
          dims(from.getRows(), from.getStaticRows(), rows);
          *step.mutable_truncate()->mutable_rows() = rows[0];
        }
      })
      .Case([&](BeginCodeOp from) {
        step.mutable_begin_code()->set_store(store(from.getStore()));
        step.mutable_begin_code()->set_column(column(from.getStore(), from.getColumn()));
        step.mutable_begin_code()->set_due(buffers_.lookup(from.getDue()));
        step.mutable_begin_code()->set_due_rows_slot(slots_.lookup(from.getRows()));
      })
      .Case([&](EndCodeOp from) {
        step.mutable_end_code()->set_store(store(from.getStore()));
        step.mutable_end_code()->set_column(column(from.getStore(), from.getColumn()));
        step.mutable_end_code()->set_due(buffers_.lookup(from.getDue()));
      })
      .Case([&](StoreRowsOp from) {
        step.mutable_store_rows()->set_store(store(from.getStore()));
        step.mutable_store_rows()->set_slot(slots_.lookup(from.getSlot()));
        step.mutable_store_rows()->set_divide_up(from.getDivideUp());
      })
      .Case([&](FetchOp from) {
        step.mutable_fetch()->set_buffer(buffers_.lookup(from.getBuffer()));
        step.mutable_fetch()->set_index(from.getIndex());
        step.mutable_fetch()->set_slot(slots_.lookup(from.getSlot()));
      });
}

} // namespace

LogicalResult exportExecutable(ExecutableOp executable, ::kvcache::proto::Executable &to) {
  return Exporter(executable, to).run();
}

} // namespace mlir::kvcache
