// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The checks that make running a program safe from bad references. What kernels do with their
// arguments is not checked: an executable is a program.

#include "runtime/exec/ExecutableLoader.h"

#include <algorithm>

namespace kvcache::rt {

static constexpr int64_t mostLayers = 4096, mostHeads = 65536, mostWidth = int64_t(1) << 24,
                         mostSlots = 1 << 20;
static constexpr int64_t mostTensorBytes = int64_t(1) << 32;

Status ExecutableLoader::bad(const std::string &message) const {
  return Status::badInput("executable of method '" + from_.method() + "'" + where_ + ": " +
                          message);
}

Status ExecutableLoader::inRange(int64_t index, int64_t count, const char *what) const {
  if (index >= 0 && index < count) {
    return Status::ok();
  }
  return bad(std::string("expected a ") + what + " below " + std::to_string(count) + ", got " +
             std::to_string(index));
}

Status ExecutableLoader::run() {
  KVCACHE_RETURN_IF_ERROR(geometry());
  KVCACHE_RETURN_IF_ERROR(stores());
  KVCACHE_RETURN_IF_ERROR(tensors());
  for (auto &layers : to_.byKind_) {
    layers.resize(to_.geometry_.layers);
  }
  for (int32_t p = 0; p < from_.programs_size(); ++p) {
    KVCACHE_RETURN_IF_ERROR(program(from_.programs(p), p));
  }
  return Status::ok();
}

Status ExecutableLoader::geometry() {
  const proto::Geometry &g = from_.geometry();
  auto within = [](int64_t value, int64_t most) { return value >= 1 && value <= most; };
  if (!within(g.layers(), mostLayers) || !within(g.query_heads(), mostHeads) ||
      !within(g.kv_heads(), mostHeads) || !within(g.head_dim(), mostWidth) ||
      g.query_heads() % g.kv_heads() != 0 || g.act() > 7 || g.sliding_window() < 0) {
    return bad("its geometry is not valid: layers " + std::to_string(g.layers()) +
               ", query heads " + std::to_string(g.query_heads()) + ", KV heads " +
               std::to_string(g.kv_heads()) + ", head dim " + std::to_string(g.head_dim()));
  }
  if (g.rope_inv_freq_size() != 0 && g.rope_inv_freq_size() != g.head_dim() / 2) {
    return bad("expected " + std::to_string(g.head_dim() / 2) + " RoPE frequencies, got " +
               std::to_string(g.rope_inv_freq_size()));
  }
  to_.geometry_ = {g.layers(),
                   g.query_heads(),
                   g.kv_heads(),
                   g.head_dim(),
                   static_cast<ElementType>(g.act()),
                   g.sliding_window(),
                   {g.rope_inv_freq().begin(), g.rope_inv_freq().end()}};
  return Status::ok();
}

Status ExecutableLoader::stores() {
  for (const proto::Store &store : from_.stores()) {
    where_ = ", store '" + store.name() + "'";
    if (store.row_heads() < 1 || store.row_heads() > mostHeads || store.columns_size() == 0) {
      return bad("expected columns and at least one row head, got " +
                 std::to_string(store.row_heads()));
    }
    std::vector<StoreColumn> columns;
    for (const proto::Column &column : store.columns()) {
      std::string error;
      auto term = abi::parseStorageTerm(column.storage(), error);
      auto layout = term && column.width() >= 1 && column.width() <= mostWidth
                        ? abi::computeColumnLayout(*term, column.width(), to_.geometry_.act, error)
                        : std::nullopt;
      if (!layout) {
        return bad("column '" + column.name() + "' of width " + std::to_string(column.width()) +
                   ": " + (error.empty() ? "the width is not valid" : error));
      }
      columns.push_back({column.name(), *layout, column.rope_view()});
    }
    to_.stores_.push_back(
        std::make_shared<StoreSchema>(store.name(), store.row_heads(), std::move(columns)));
  }
  where_.clear();
  return Status::ok();
}

Status ExecutableLoader::tensors() {
  for (const proto::Tensor &tensor : from_.tensors()) {
    where_ = ", tensor '" + tensor.name() + "'";
    LoadedTensor loaded{tensor.name(),
                        static_cast<ElementType>(tensor.elem()),
                        {tensor.dims().begin(), tensor.dims().end()},
                        0,
                        tensor.artefact(),
                        tensor.carried()};
    if (loaded.carried &&
        (loaded.artefact || tensor.dims_size() != 0 || tensor.values_size() != 0)) {
      return bad("it is carried, and has extents or values");
    }
    KVCACHE_RETURN_IF_ERROR(inRange(tensor.elem(), 8, "element type"));
    int64_t bytes = abi::bytesOf(loaded.elem);
    for (int64_t extent : loaded.dims) {
      if (extent < 1 || extent > mostTensorBytes / bytes) {
        return bad("its extents are not valid");
      }
      bytes *= extent;
    }
    loaded.bytes = loaded.carried ? 0 : bytes;
    if (tensor.values_size() != 0 && tensor.values_size() != to_.geometry_.layers) {
      return bad("expected values for " + std::to_string(to_.geometry_.layers) + " layers, got " +
                 std::to_string(tensor.values_size()));
    }
    for (const std::string &values : tensor.values()) {
      if (static_cast<int64_t>(values.size()) != bytes) {
        return bad("expected " + std::to_string(bytes) + " bytes a layer, got " +
                   std::to_string(values.size()));
      }
    }
    to_.tensors_.push_back(std::move(loaded));
  }
  where_.clear();
  return Status::ok();
}

Status ExecutableLoader::program(const proto::Program &from, int32_t number) {
  where_ = ", program " + std::to_string(number) + " (" + programKindName(from.kind()) + ")";
  KVCACHE_RETURN_IF_ERROR(inRange(from.kind(), proto::Program::Kind_ARRAYSIZE, "program kind"));
  to_.programs_.push_back(std::make_unique<LoadedProgram>());
  program_ = to_.programs_.back().get();
  program_->kind = from.kind();
  if (from.chunk_rows() < 0) {
    return bad("expected chunk_rows of at least 0, got " + std::to_string(from.chunk_rows()));
  }
  program_->chunkRows = from.chunk_rows();
  program_->source = from.source();
  program_->sizes.assign(from.sizes().begin(), from.sizes().end());
  bool sampled = !from.source().empty();
  if (sampled != (from.sizes_size() == 2) || (sampled && from.kind() != proto::Program::CALIBRATE)) {
    return bad("expected the two sizes of a source of a calibrate program, or neither");
  }
  program_->slots = from.slots();
  KVCACHE_RETURN_IF_ERROR(inRange(from.slots(), mostSlots, "slot count"));
  KVCACHE_RETURN_IF_ERROR(bindings(from));
  for (const proto::Buffer &b : from.buffers()) {
    KVCACHE_RETURN_IF_ERROR(buffer(b));
  }
  std::string outer = where_;
  for (int32_t s = 0; s < from.steps_size(); ++s) {
    where_ = outer + ", step " + std::to_string(s);
    KVCACHE_RETURN_IF_ERROR(step(from.steps(s), from.steps_size() - s - 1));
  }
  where_ = outer;
  KVCACHE_RETURN_IF_ERROR(ranked(from));
  return appliesTo(from);
}

Status ExecutableLoader::bindings(const proto::Program &from) {
  for (const proto::SlotBinding &binding : from.bindings()) {
    KVCACHE_RETURN_IF_ERROR(inRange(binding.slot(), from.slots(), "slot"));
    KVCACHE_RETURN_IF_ERROR(
        inRange(binding.role(), proto::SlotBinding::Role_ARRAYSIZE, "slot role"));
    if (binding.role() == proto::SlotBinding::STORE_ROWS) {
      KVCACHE_RETURN_IF_ERROR(
          inRange(binding.index(), static_cast<int64_t>(to_.stores_.size()), "store"));
    }
    if (binding.role() == proto::SlotBinding::TENSOR_EXTENT) {
      KVCACHE_RETURN_IF_ERROR(
          inRange(binding.index(), static_cast<int64_t>(to_.tensors_.size()), "tensor"));
      KVCACHE_RETURN_IF_ERROR(inRange(binding.value(), mostSlots, "number of an extent"));
      KVCACHE_RETURN_IF_ERROR(carries(binding.index()));
    }
    program_->bindings.push_back(binding);
  }
  return Status::ok();
}

/// What is carried is there at the end of a prompt and while a method is calibrated.
Status ExecutableLoader::carries(int32_t tensor) const {
  bool ends = program_->kind == proto::Program::PROMPT_SCORE ||
              program_->kind == proto::Program::PROMPT_MODEL ||
              program_->kind == proto::Program::PROMPT_END || !program_->source.empty() ||
              program_->kind == proto::Program::CALIBRATE_MODEL;
  return ends && to_.tensors_[tensor].carried
             ? Status::ok()
             : bad("tensor '" + to_.tensors_[tensor].name + "' is carried outside of the end of a prompt");
}

Status ExecutableLoader::buffer(const proto::Buffer &from) {
  KVCACHE_RETURN_IF_ERROR(inRange(from.elem(), 8, "element type"));
  KVCACHE_RETURN_IF_ERROR(inRange(from.role(), proto::Buffer::Role_ARRAYSIZE, "buffer role"));
  LoadedBuffer loaded;
  loaded.name = from.name();
  loaded.role = from.role();
  loaded.elem = static_cast<ElementType>(from.elem());
  loaded.index = from.index();
  loaded.zeroed = from.zeroed();
  for (const proto::Dim &d : from.dims()) {
    loaded.dims.emplace_back();
    KVCACHE_RETURN_IF_ERROR(dim(d, loaded.dims.back()));
  }
  if (from.role() == proto::Buffer::TENSOR) {
    KVCACHE_RETURN_IF_ERROR(
        inRange(from.index(), static_cast<int64_t>(to_.tensors_.size()), "tensor"));
    const LoadedTensor &tensor = to_.tensors_[from.index()];
    if (tensor.carried) {
      KVCACHE_RETURN_IF_ERROR(carries(from.index()));
      if (tensor.elem != loaded.elem || loaded.zeroed) {
        return bad("buffer '" + from.name() + "' is not what tensor '" + tensor.name + "' holds");
      }
    } else if (tensor.artefact && loaded.dims.size() + 1 == tensor.dims.size() &&
               tensor.dims.front() != to_.geometry_.layers) { // the part of a layer
      return bad("buffer '" + from.name() + "' is no layer of tensor '" + tensor.name + "'");
    }
  }
  // What sees sequences is run where there is a model.
  if (from.role() == proto::Buffer::ROPE_INV_FREQ && to_.geometry_.ropeInvFreq.empty() &&
      program_->source.empty()) {
    return bad("it uses RoPE frequencies, the geometry has none");
  }
  if (isMade(loaded.role) && loaded.role != proto::Buffer::TRANSIENT) {
    bool takesPrompt =
        program_->kind == proto::Program::PREFILL || program_->kind == proto::Program::INGEST;
    if (!takesPrompt || loaded.elem != ElementType::I32 || loaded.dims.size() != 1 ||
        program_->uses(loaded.role)) {
      return bad("buffer '" + loaded.name + "' cannot tell which rows the next layer sees");
    }
  }
  bool written = isMade(loaded.role) || loaded.role == proto::Buffer::OUT ||
                 loaded.role == proto::Buffer::LSE || loaded.role == proto::Buffer::TENSOR;
  if (loaded.zeroed && !written) {
    return bad("it clears its input '" + loaded.name + "'");
  }
  if (from.memory() != 0) {
    loaded.memory = from.memory() - 1;
    KVCACHE_RETURN_IF_ERROR(
        inRange(loaded.memory, static_cast<int64_t>(program_->buffers.size()), "number of an earlier buffer"));
    const LoadedBuffer &owner = program_->buffers[loaded.memory];
    if (loaded.role != proto::Buffer::TRANSIENT || owner.role != proto::Buffer::TRANSIENT ||
        owner.memory >= 0) {
      return bad("buffer '" + loaded.name + "' is in memory that is not a transient buffer's own");
    }
  }
  program_->buffers.push_back(std::move(loaded));
  return Status::ok();
}

Status ExecutableLoader::dim(const proto::Dim &from, LoadedDim &to) {
  if (from.kind_case() == proto::Dim::kSlot) {
    to = {0, from.slot()};
    return inRange(from.slot(), program_->slots, "slot");
  }
  to = {from.constant(), -1};
  return from.constant() >= 0
             ? Status::ok()
             : bad("expected an extent of at least 0, got " + std::to_string(from.constant()));
}

/// `left` steps follow this one.
Status ExecutableLoader::step(const proto::Step &from, int32_t left) {
  program_->steps.emplace_back();
  LoadedStep &to = program_->steps.back();
  bool readsOnly =
      program_->kind == proto::Program::ATTEND || program_->kind == proto::Program::READ ||
      program_->kind == proto::Program::PROMPT_SCORE ||
      program_->kind == proto::Program::PROMPT_MODEL ||
      program_->kind == proto::Program::CALIBRATE_MODEL;
  switch (from.kind_case()) {
  case proto::Step::kKernel:
    return kernel(from.kernel(), to.kernel);
  case proto::Step::kGuard:
    to.kind = LoadedStep::Kind::Guard;
    to.slot = from.guard().slot();
    to.steps = from.guard().steps();
    KVCACHE_RETURN_IF_ERROR(inRange(to.slot, program_->slots, "slot"));
    return inRange(to.steps, int64_t(left) + 1, "number of steps to skip");
  case proto::Step::kStoreRows:
    to.kind = LoadedStep::Kind::StoreRows;
    to.store = from.store_rows().store();
    to.slot = from.store_rows().slot();
    to.divideUp = std::max<int64_t>(1, from.store_rows().divide_up());
    KVCACHE_RETURN_IF_ERROR(inRange(to.slot, program_->slots, "slot"));
    return inRange(to.store, static_cast<int64_t>(to_.stores_.size()), "store");
  case proto::Step::kFetch:
    to.kind = LoadedStep::Kind::Fetch;
    to.buffer = from.fetch().buffer();
    to.element = from.fetch().index();
    to.slot = from.fetch().slot();
    KVCACHE_RETURN_IF_ERROR(inRange(to.slot, program_->slots, "slot"));
    KVCACHE_RETURN_IF_ERROR(
        inRange(to.buffer, static_cast<int64_t>(program_->buffers.size()), "buffer"));
    return program_->buffers[to.buffer].elem == ElementType::I32
               ? Status::ok()
               : bad("expected a buffer of type i32 to fetch from");
  default:
    return readsOnly ? bad("a program that only reads changes a store") : storeStep(from, to);
  }
}

Status ExecutableLoader::storeStep(const proto::Step &from, LoadedStep &to) {
  int64_t stores = static_cast<int64_t>(to_.stores_.size()),
          buffers = static_cast<int64_t>(program_->buffers.size());
  switch (from.kind_case()) {
  case proto::Step::kReserve:
    to.kind = LoadedStep::Kind::Reserve;
    to.store = from.reserve().store();
    KVCACHE_RETURN_IF_ERROR(dim(from.reserve().rows(), to.rows));
    return inRange(to.store, stores, "store");
  case proto::Step::kTruncate:
    to.kind = LoadedStep::Kind::Truncate;
    to.store = from.truncate().store();
    to.ragged = from.truncate().ragged();
    to.buffer = from.truncate().lengths_buffer();
    KVCACHE_RETURN_IF_ERROR(inRange(to.store, stores, "store"));
    if (!to.ragged) {
      return dim(from.truncate().rows(), to.rows);
    }
    KVCACHE_RETURN_IF_ERROR(inRange(to.buffer, buffers, "buffer"));
    return program_->buffers[to.buffer].elem == ElementType::I32
               ? Status::ok()
               : bad("expected lengths of type i32");
  case proto::Step::kBeginCode:
    to.kind = LoadedStep::Kind::BeginCode;
    to.buffer = from.begin_code().due();
    to.slot = from.begin_code().due_rows_slot();
    KVCACHE_RETURN_IF_ERROR(inRange(to.slot, program_->slots, "slot"));
    KVCACHE_RETURN_IF_ERROR(inRange(to.buffer, buffers, "buffer"));
    if (program_->buffers[to.buffer].elem != ElementType::I64) {
      return bad("expected due rows of type i64");
    }
    return codeStep(from.begin_code().store(), from.begin_code().column(), to);
  case proto::Step::kEndCode:
    to.kind = LoadedStep::Kind::EndCode;
    return codeStep(from.end_code().store(), from.end_code().column(), to);
  default:
    return bad("the step is of no known kind");
  }
}

Status ExecutableLoader::codeStep(int32_t store, int32_t column, LoadedStep &to) {
  to.store = store;
  to.column = column;
  KVCACHE_RETURN_IF_ERROR(inRange(store, static_cast<int64_t>(to_.stores_.size()), "store"));
  KVCACHE_RETURN_IF_ERROR(
      inRange(column, static_cast<int64_t>(to_.stores_[store]->columns().size()), "column"));
  return to_.stores_[store]->columns()[column].layout.coded
             ? Status::ok()
             : bad("it codes a column that is not coded");
}

Status ExecutableLoader::kernel(const proto::Step::Kernel &from, LoadedKernel &to) {
  KVCACHE_RETURN_IF_ERROR(inRange(from.info(), from_.kernels_size(), "kernel description"));
  to.info = from.info();
  to.writesSlots = from.writes_slots();
  to.function = to_.code_ ? to_.code_->kernel(from.symbol()) : nullptr;
  if (to.function == nullptr) {
    return bad("its code has no kernel '" + from.symbol() + "'");
  }
  for (const proto::Dim &d : from.grid()) {
    to.grid.emplace_back();
    KVCACHE_RETURN_IF_ERROR(dim(d, to.grid.back()));
  }
  for (const proto::ColumnRef &read : from.reads()) {
    KVCACHE_RETURN_IF_ERROR(
        inRange(read.store(), static_cast<int64_t>(to_.stores_.size()), "store"));
    KVCACHE_RETURN_IF_ERROR(
        inRange(read.column(), static_cast<int64_t>(to_.stores_[read.store()]->columns().size()),
                "column"));
    to.reads.emplace_back(read.store(), read.column());
  }
  to.hasMovedRows = from.has_moved_rows();
  if (to.hasMovedRows) {
    KVCACHE_RETURN_IF_ERROR(dim(from.moved_rows(), to.movedRows));
  }
  return args(from, to);
}

Status ExecutableLoader::args(const proto::Step::Kernel &from, LoadedKernel &to) {
  int64_t words = 0, pointers = 0;
  for (const proto::Arg &arg : from.args()) {
    LoadedArg loaded;
    switch (arg.kind_case()) {
    case proto::Arg::kBuffer:
      loaded.index = arg.buffer();
      KVCACHE_RETURN_IF_ERROR(
          inRange(arg.buffer(), static_cast<int64_t>(program_->buffers.size()), "buffer"));
      break;
    case proto::Arg::kStore:
      loaded.kind = LoadedArg::Kind::Store;
      loaded.index = arg.store();
      KVCACHE_RETURN_IF_ERROR(
          inRange(arg.store(), static_cast<int64_t>(to_.stores_.size()), "store"));
      to.firstStore = to.firstStore < 0 ? arg.store() : to.firstStore;
      break;
    case proto::Arg::kScalars:
      loaded.kind = LoadedArg::Kind::Scalars;
      loaded.slots = {arg.scalars().slots().begin(), arg.scalars().slots().end()};
      for (int32_t slot : loaded.slots) {
        KVCACHE_RETURN_IF_ERROR(inRange(slot, program_->slots, "slot"));
      }
      words += std::max<int64_t>(1, static_cast<int64_t>(loaded.slots.size()));
      break;
    case proto::Arg::KIND_NOT_SET:
      return bad("an argument is of no known kind");
    }
    pointers += loaded.kind == LoadedArg::Kind::Store ? 2 : 1;
    to.args.push_back(std::move(loaded));
  }
  program_->mostWords = std::max(program_->mostWords, words);
  program_->mostPointers = std::max(program_->mostPointers, pointers);
  return Status::ok();
}

Status ExecutableLoader::ranked(const proto::Program &from) {
  if (!from.has_ranked()) {
    return Status::ok();
  }
  const proto::Program::Ranked &r = from.ranked();
  program_->hasRanked = true;
  program_->rankedBuffer = r.buffer();
  program_->rankedFirstSlot = r.first_slot();
  program_->rankedLastSlot = r.last_slot();
  program_->rankedCountsBuffer = r.counts_buffer() > 0 ? r.counts_buffer() : -1;
  int64_t buffers = static_cast<int64_t>(program_->buffers.size());
  KVCACHE_RETURN_IF_ERROR(inRange(r.buffer(), buffers, "buffer"));
  KVCACHE_RETURN_IF_ERROR(inRange(std::max(0, r.counts_buffer()), buffers, "buffer"));
  KVCACHE_RETURN_IF_ERROR(inRange(r.first_slot() + 1, program_->slots + 1, "slot"));
  KVCACHE_RETURN_IF_ERROR(inRange(r.last_slot() + 1, program_->slots + 1, "slot"));
  for (int32_t b : {program_->rankedBuffer, program_->rankedCountsBuffer}) {
    if (b >= 0 && (program_->buffers[b].elem != ElementType::F32 ||
                   program_->buffers[b].dims.empty() || program_->buffers[b].dims.size() > 3)) {
      return bad("expected ranked scores and counts as f32 [heads, rows] or [heads, group, rows], or "
                 "[rows] for all heads");
    }
  }
  return Status::ok();
}

Status ExecutableLoader::appliesTo(const proto::Program &from) {
  auto &layers = to_.byKind_[from.kind()];
  for (int64_t layer : from.layers()) {
    KVCACHE_RETURN_IF_ERROR(inRange(layer, to_.geometry_.layers, "layer"));
    layers[layer].push_back(program_);
  }
  if (from.layers().empty()) {
    for (auto &programs : layers) {
      programs.push_back(program_);
    }
  }
  return Status::ok();
}

} // namespace kvcache::rt
