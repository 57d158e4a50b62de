// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ops that change a store: append, gather in place, set_column, and the commit that codes what is
// due.

#include "targets/cpu/Scheduler.h"

#include "dialect/Axes.h"
#include "dialect/CacheOps.h"
#include "dialect/RowOps.h"
#include "targets/cpu/EncodeEmitter.h"
#include "targets/cpu/RowsEmitter.h"

namespace mlir::kvcache::cpu {

using ::kvcache::abi::ColumnLayout;
using ::kvcache::abi::ElementType;

namespace {

/// Row blocks that a launch over an event's rows is cut into: enough for two cores, and cheap when
/// there is one row.
constexpr int64_t eventBlocks = 8;

int64_t bytesPerRow(const StorePlace &store) {
  int64_t bytes = 0;
  for (const ColumnLayout &layout : store.layouts) {
    bytes += layout.width * ::kvcache::abi::bytesOf(layout.exactElem);
  }
  return bytes;
}

} // namespace

LogicalResult Scheduler::append(AppendOp op) {
  const StorePlace *store = storeOf(op.getCache());
  std::vector<AppendSource> sources;
  KernelOperands operands;
  operands.heads = store->heads;
  operands.stores["store"] = store->index;
  Extent rows;
  llvm::DenseSet<int> given;
  for (auto [name, value] : llvm::zip(op.getColumns().getAsRange<StringAttr>(), op.getValues())) {
    const TensorPlace &place = tensors_[value];
    AppendSource source;
    source.column = store->column(name.getValue());
    source.buffer = name.getValue().str();
    source.kind = place.elem == ElementType::I32 && !findAxis(axesOf(value), "head")
                      ? AppendSource::Kind::Positions
                      : AppendSource::Kind::Rows;
    bool perGroup = findAxis(axesOf(value), "group") != nullptr;
    AxisAttr group = findAxis(store->type.getRows(), "group");
    source.sharedBy = group && !perGroup ? *group.getInteger() : 1;
    operands.buffers[source.buffer] = place.buffer;
    sources.push_back(source);
    given.insert(static_cast<int>(source.column));
    rows = queryRows_.count(value) ? queryRows_[value] : rows;
  }
  for (size_t column = 0; column < store->layouts.size(); ++column) {
    if (!given.contains(static_cast<int>(column))) {
      sources.push_back({static_cast<int64_t>(column), AppendSource::Kind::Constant, "", 0.0, 1});
    }
  }
  builder_.reserve(store->index, rows);
  EmittedKernel kernel =
      emitAppend(context_.kernels, kernelName("append"), store->layouts, sources);
  operands.words["rows"] = rows;
  operands.words["blocks"] =
      Extent::of(builder_.kind() == proto::Program::DECODE ? 1 : eventBlocks);
  LaunchOp launch = builder_.launch(kernel, operands, {"kvcache.append"}, phaseName_);
  builder_.moves(launch, rows);
  launch.setWriteBytesPerRow(bytesPerRow(*store));
  caches_[op] = store;
  return success();
}

LogicalResult Scheduler::compact(GatherOp op) {
  const StorePlace *store = storeOf(op.getInput());
  const TensorPlace &kept = tensors_[op.getAt()];
  int lengths = kept.places.back().lengths;
  for (auto [name, layout] : llvm::zip(store->names, store->layouts)) {
    if (layout.coded && builder_.kind() != proto::Program::PROMPT_END &&
        builder_.kind() != proto::Program::DRAFT_END) {
      return op.emitError()
             << "column '" << name
             << "' is coded at the end of the prompt; its rows cannot be taken out one by one "
             << "afterwards (granule " << layout.granule()
             << "); expected rows that leave at the end of the prompt, or an uncoded column";
    }
  }
  KeptRows how;
  how.perHead = static_cast<bool>(findAxis(axesOf(op.getAt()), "head"));
  if (how.perHead && axesOf(op.getAt()).size() != store->type.getRows().size()) {
    return op.emitError() << "expected rows to keep for all heads, or for every point of the row "
                          << "axes of " << store->type;
  }
  how.raggedLengths = how.perHead;
  KernelOperands operands;
  operands.heads = store->heads;
  operands.stores["store"] = store->index;
  operands.buffers["indices"] = kept.buffer;
  operands.words["capacity"] = kept.places.back().capacity;
  EmittedKernel kernel = emitCompact(context_.kernels, kernelName("gather"), store->layouts, how);
  Extent length;
  if (how.perHead) {
    operands.buffers["lengths"] = lengths;
  } else {
    length = builder_.fetch(lengths, 0);
    operands.words["length"] = length;
  }
  LaunchOp launch = builder_.launch(kernel, operands, {"kvcache.gather"}, phaseName_);
  launch.setReadBytesPerRow(bytesPerRow(*store));
  launch.setWriteBytesPerRow(bytesPerRow(*store));
  if (how.perHead) {
    builder_.truncateRagged(store->index, lengths);
  } else {
    builder_.truncate(store->index, length);
  }
  caches_[op.getOutput()] = store;
  return success();
}

LogicalResult Scheduler::setColumn(SetColumnOp op) {
  const StorePlace *store = storeOf(op.getCache());
  for (auto [name, value] : llvm::zip(op.getColumns().getAsRange<StringAttr>(), op.getValues())) {
    int column = store->column(name.getValue());
    const TensorPlace &place = tensors_[value];
    KernelOperands operands;
    operands.heads = store->heads;
    operands.stores["store"] = store->index;
    operands.buffers["values"] = place.buffer;
    // Values without a head axis are the same for all heads only after a broadcast, which the
    // verifier asks for.
    for (auto [axis, where] : llvm::zip(place.axes, place.places)) {
      if (axis.getKind() == "token") {
        operands.words["capacity"] = where.capacity;
      }
    }
    operands.words["blocks"] =
        Extent::of(builder_.kind() == proto::Program::DECODE ? 1 : eventBlocks);
    EmittedKernel kernel =
        emitSetColumn(context_.kernels, kernelName("set_column"), store->layouts, column);
    LaunchOp launch = builder_.launch(kernel, operands, {"kvcache.set_column"}, phaseName_);
    launch.setWriteBytesPerRow(
        store->layouts[column].width * ::kvcache::abi::bytesOf(store->layouts[column].exactElem));
  }
  caches_[op] = store;
  return success();
}

void Scheduler::factorOperands(const StorePlace &store, StringRef column, KernelOperands &operands,
                               StringRef basis, StringRef mean) {
  auto state = cast<StateOp>(SymbolTable::lookupSymbolIn(context_.method, store.name));
  auto names = state.getFixedAttr() ? dyn_cast_or_null<ArrayAttr>(state.getFixedAttr().get(column))
                                    : ArrayAttr();
  if (!names) {
    return;
  }
  const ColumnLayout &layout = store.layouts[store.column(column)];
  auto tensor = [&](Attribute name, ArrayRef<Extent> dims) {
    StringRef symbol = cast<FlatSymbolRefAttr>(name).getValue();
    return builder_.roleBuffer(proto::Buffer::TENSOR, symbol, ElementType::F32, dims);
  };
  Extent heads = Extent::of(store.heads), width = Extent::of(layout.width);
  operands.buffers[basis] = tensor(names[0], {heads, width, Extent::of(layout.rank)});
  operands.buffers[mean] = tensor(names[1], {heads, width});
}

LogicalResult Scheduler::commit(const StorePlace &store) {
  for (auto [column, layout] : llvm::enumerate(store.layouts)) {
    if (!layout.coded) {
      continue;
    }
    std::string why = whyNotEncode(layout);
    if (!why.empty()) {
      return context_.method.emitError() << "column '" << store.names[column] << "': " << why;
    }
    int due = builder_.newBuffer("due", ElementType::I64, {Extent::of(store.heads), Extent::of(2)});
    int dueRows = builder_.newSlot();
    builder_.beginCode(store.index, store.names[column], due, dueRows);
    int64_t tasks = builder_.kind() == proto::Program::STEP_END ? 1 : eventBlocks;
    LogicalResult transformed = success();
    builder_.guarded(dueRows, [&] {
      if (EncoderOp encoder = encoderOf(store, store.names[column])) {
        transformed = runEncoder(encoder, store, static_cast<int>(column), due, dueRows, tasks);
      }
      EmittedKernel kernel = emitEncode(
          context_.kernels, kernelName("encode_" + store.names[column]), store.layouts, column);
      KernelOperands operands;
      operands.heads = store.heads;
      operands.stores["store"] = store.index;
      operands.buffers["due"] = due;
      operands.words["blocks"] = Extent::of(tasks);
      factorOperands(store, store.names[column], operands, "basis", "mean");
      std::vector<std::string> ops{"kvcache.quantize.encode"};
      if (layout.rank > 0) {
        ops = {"kvcache.project.lowrank"};
      } else if (layout.rotated) {
        ops.insert(ops.begin(), "kvcache.project.hadamard");
      }
      LaunchOp launch = builder_.launch(kernel, operands, ops, "commit");
      builder_.moves(launch, Extent::inSlot(dueRows));
      launch.setReadBytesPerRow(static_cast<int64_t>(layout.bitsPerExactRow() / 8));
      launch.setWriteBytesPerRow(static_cast<int64_t>(layout.bitsPerCodedRow() / 8));
    });
    if (failed(transformed)) {
      return failure();
    }
    builder_.endCode(store.index, store.names[column], due);
  }
  return success();
}

LogicalResult Scheduler::readColumn(const StorePlace &store, StringRef name) {
  int column = store.column(name);
  int64_t ropeDim = store.isRopeView(column) ? context_.geometry.headDim : 0;
  std::string why = whyNotRead(store.layouts[column], ropeDim);
  if (!why.empty()) {
    return context_.method.emitError() << "column '" << name << "': " << why;
  }
  EmittedKernel kernel =
      emitRead(context_.kernels, kernelName("read_" + name.str()), store.layouts, column, ropeDim);
  Extent rows = builder_.storeRows(store.index);
  KernelOperands operands;
  operands.heads = store.heads;
  operands.stores["store"] = store.index;
  operands.buffers["out"] =
      builder_.newBuffer(name, ElementType::F32,
                         {Extent::of(store.heads), rows, Extent::of(store.layouts[column].width)});
  operands.words["capacity"] = rows;
  operands.words["blocks"] = Extent::of(eventBlocks);
  factorOperands(store, name, operands, "basis", "mean");
  if (ropeDim > 0) {
    operands.buffers["ropeTable"] = ropeTable(store);
  }
  builder_.launch(kernel, operands, {"kvcache.column"}, "read");
  return success();
}

LogicalResult scheduleReads(ScheduleContext &context) {
  for (auto &[name, store] : context.stores) {
    if (store.column("k") < 0 || store.column("v") < 0) {
      continue;
    }
    Scheduler scheduler(context, proto::Program::READ, {}, "read");
    if (failed(scheduler.readColumn(store, "k")) || failed(scheduler.readColumn(store, "v"))) {
      return failure();
    }
  }
  return success();
}

} // namespace mlir::kvcache::cpu
