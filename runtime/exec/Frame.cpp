// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Binding of slots, buffers and kernel arguments.

#include "runtime/exec/Frame.h"

#include <algorithm>
#include <cstring>

namespace kvcache::rt {

static constexpr int64_t mostBufferBytes = int64_t(1) << 42;

void Frame::begin(const LoadedExecutable &executable, const LoadedProgram &program, int64_t layer,
                  const RunItem &item) {
  executable_ = &executable;
  program_ = &program;
  layer_ = layer;
  item_ = item;
  skipUntil = 0;
  scratch_.reset();
  slots_.assign(program.slots, 0);
  buffers_.assign(program.buffers.size(), nullptr);
  blocks_.assign(program.buffers.size(), Block());
  words_.resize(std::max<size_t>(words_.size(), program.mostWords));
  pointers_.resize(std::max<size_t>(pointers_.size(), program.mostPointers));
  for (const proto::SlotBinding &binding : program.bindings) {
    slots_[binding.slot()] = bound(binding, layer);
  }
}

int64_t Frame::bound(const proto::SlotBinding &binding, int64_t layer) const {
  switch (binding.role()) {
  case proto::SlotBinding::LENGTH:
    return item_.state->length;
  case proto::SlotBinding::LAYER:
    return layer;
  case proto::SlotBinding::LAYERS:
    return executable_->geometry().layers;
  case proto::SlotBinding::BUDGET:
    return item_.budget;
  case proto::SlotBinding::ROWS:
    return item_.rows.rows;
  case proto::SlotBinding::STORE_ROWS:
    return item_.state->stores[binding.index()]->maxRows();
  case proto::SlotBinding::WINDOW_ROWS:
    return binding.value() > 0 ? std::min(binding.value(), item_.state->recent.rows())
                               : item_.state->recent.rows();
  case proto::SlotBinding::DRAFT_ROWS:
    return item_.state->draft.rows();
  case proto::SlotBinding::SEED:
    return static_cast<int64_t>(item_.seed);
  case proto::SlotBinding::CONSTANT:
    return binding.value();
  case proto::SlotBinding::TENSOR_EXTENT:
    return item_.carried ? (*item_.carried)[binding.index()].extent(binding.value()) : 0;
  case proto::SlotBinding::PROMPT_LENGTH:
    return promptLength();
  case proto::SlotBinding::STEP:
    return item_.state->promptLength < 0 ? 0 : item_.state->length - item_.state->promptLength;
  default:
    return 0;
  }
}

/// How many of the last queries a buffer shows: all of them where it has no extents.
int64_t Frame::windowRows(const LoadedBuffer &buffer) const {
  return buffer.dims.empty() ? item_.state->recent.rows() : value(buffer.dims.front());
}

/// What the event or the state provides for a buffer, null when nothing.
void *Frame::provided(const LoadedBuffer &buffer) const {
  auto writable = [](const auto *data) {
    return const_cast<void *>(static_cast<const void *>(data));
  };
  switch (buffer.role) {
  case proto::Buffer::QUERY:
    return writable(item_.rows.q);
  case proto::Buffer::KEY:
    return writable(item_.rows.k);
  case proto::Buffer::VALUE:
    return writable(item_.rows.v);
  case proto::Buffer::KEY_PRE:
    return writable(item_.rows.kPre);
  case proto::Buffer::POSITIONS:
    return writable(item_.rows.positions);
  case proto::Buffer::OUT:
    return item_.rows.out;
  case proto::Buffer::LSE:
    return item_.lse;
  case proto::Buffer::LAST_QUERIES:
    return writable(item_.state->recent.values(windowRows(buffer)));
  case proto::Buffer::LAST_POSITIONS:
    return writable(item_.state->recent.positions(windowRows(buffer)));
  case proto::Buffer::DRAFT_QUERIES:
    return writable(item_.state->draft.values());
  case proto::Buffer::DRAFT_POSITIONS:
    return writable(item_.state->draft.positions());
  case proto::Buffer::IDS:
    return writable(item_.rows.ids);
  case proto::Buffer::ROPE_INV_FREQ:
    return executable_->geometry().ropeInvFreq.empty()
               ? nullptr
               : writable(executable_->geometry().ropeInvFreq.data());
  case proto::Buffer::TENSOR:
    if (executable_->tensors()[buffer.index].carried) {
      return nullptr;
    }
    if (executable_->tensors()[buffer.index].artefact) {
      const std::vector<char> &values = item_.artefacts->values[buffer.index][layer_];
      const std::vector<int64_t> &dims = executable_->tensors()[buffer.index].dims;
      bool ownPart = buffer.dims.size() + 1 == dims.size(); // of an artefact about all layers
      size_t offset =
          ownPart ? values.size() / static_cast<size_t>(dims.front()) * static_cast<size_t>(layer_) : 0;
      return values.empty() ? nullptr : writable(values.data() + offset);
    }
    return item_.state->tensors[buffer.index].data();
  default:
    return nullptr;
  }
}

int64_t Frame::promptLength() const {
  bool ended = item_.requests != nullptr && item_.requests->promptLength >= 0;
  return ended ? item_.requests->promptLength : item_.state->length;
}

Status Frame::request(const LoadedBuffer &buffer, int64_t bytes, void *&data) const {
  const auto *tables = item_.requests == nullptr ? nullptr : &item_.requests->tables;
  auto table = tables == nullptr ? RequestTables::const_iterator() : tables->find(buffer.name);
  if (tables == nullptr || table == tables->end()) {
    return Status::badInput("request table '" + buffer.name + "' was not given");
  }
  if (buffer.role == proto::Buffer::REQUEST_SIZE) {
    data = const_cast<int32_t *>(&item_.requests->entries.at(buffer.name));
    return Status::ok();
  }
  bool ofRows = buffer.role == proto::Buffer::REQUEST_ROWS;
  int64_t first = ofRows ? item_.state->length - item_.rows.rows : 0,
          end = first + bytes / static_cast<int64_t>(sizeof(int32_t)),
          have = static_cast<int64_t>(table->second.size());
  if (bytes < 0 || first < 0 || end > have) {
    return Status::badInput("request table '" + buffer.name + "': expected at least " +
                            std::to_string(end) + " entries, got " + std::to_string(have));
  }
  data = const_cast<int32_t *>(table->second.data()) + first;
  return Status::ok();
}

Status Frame::carried(int32_t index, void *&data) const {
  const LoadedBuffer &buffer = program_->buffers[index];
  bool model = program_->kind == proto::Program::PROMPT_MODEL ||
               program_->kind == proto::Program::CALIBRATE_MODEL;
  int64_t layers = executable_->geometry().layers;
  std::vector<int64_t> found = extents(index);
  if (item_.carried == nullptr || bufferBytes(index) < 0 ||
      (model && (found.empty() || found.front() != layers))) {
    return Status::internal("buffer '" + buffer.name + "' of " + programKindName(program_->kind) +
                            " cannot be carried");
  }
  if (model) {
    found.erase(found.begin());
  }
  return (*item_.carried)[buffer.index].bind(buffer.name, found, abi::bytesOf(buffer.elem), layers,
                                             model ? -1 : layer_, data);
}

std::vector<int64_t> Frame::extents(int32_t index) const {
  std::vector<int64_t> result;
  for (const LoadedDim &dim : program_->buffers[index].dims) {
    result.push_back(value(dim));
  }
  return result;
}

int64_t Frame::bufferBytes(int32_t index) const {
  int64_t bytes = abi::bytesOf(program_->buffers[index].elem);
  for (const LoadedDim &dim : program_->buffers[index].dims) {
    int64_t extent = value(dim);
    if (extent < 0 || (extent > 0 && bytes > mostBufferBytes / extent)) {
      return -1;
    }
    bytes *= extent;
  }
  return bytes;
}

Status Frame::transient(int32_t index, int64_t bytes, void *&data) {
  const LoadedBuffer &buffer = program_->buffers[index];
  int32_t owner = buffer.memory < 0 ? index : buffer.memory;
  Block &block = blocks_[owner];
  if (block.data == nullptr) {
    block.bytes = std::max<int64_t>(0, bufferBytes(owner));
    block.data = scratch_.take(block.bytes);
  }
  if (block.data == nullptr) {
    return Status::unavailable("no memory for the " + std::to_string(block.bytes) +
                               " bytes of buffer '" + buffer.name + "'");
  }
  if (bytes > block.bytes) {
    return Status::internal("buffer '" + buffer.name + "' of " + std::to_string(bytes) +
                            " bytes is in the memory of '" + program_->buffers[owner].name +
                            "', of " + std::to_string(block.bytes));
  }
  data = block.data;
  return Status::ok();
}

Status Frame::buffer(int32_t index, void *&data) {
  data = buffers_[index];
  if (data != nullptr) {
    return Status::ok();
  }
  const LoadedBuffer &buffer = program_->buffers[index];
  data = provided(buffer);
  bool optional = buffer.role == proto::Buffer::LSE ||
                  (buffer.role == proto::Buffer::OUT && program_->kind == proto::Program::INGEST);
  bool ofDraft = buffer.role == proto::Buffer::DRAFT_QUERIES ||
                 buffer.role == proto::Buffer::DRAFT_POSITIONS;
  bool ofWindow =
      buffer.role == proto::Buffer::LAST_QUERIES || buffer.role == proto::Buffer::LAST_POSITIONS;
  bool nothingThere = (ofDraft && item_.state->draft.rows() == 0) ||
                      (ofWindow && item_.state->recent.rows() == 0);
  int64_t bytes = bufferBytes(index);
  if (buffer.role == proto::Buffer::TENSOR && executable_->tensors()[buffer.index].carried) {
    KVCACHE_RETURN_IF_ERROR(carried(index, data));
    buffers_[index] = data;
    return Status::ok();
  }
  if (isRequest(buffer.role)) {
    KVCACHE_RETURN_IF_ERROR(request(buffer, bytes, data));
    buffers_[index] = data;
    return Status::ok();
  }
  if (data == nullptr && !isMade(buffer.role) && !optional &&
      !nothingThere) {
    return Status::badInput("layer " + std::to_string(layer_) + ": " +
                            programKindName(program_->kind) + " needs '" + buffer.name +
                            "', which was not given");
  }
  if (data == nullptr) {
    if (bytes < 0) {
      return Status::badInput("layer " + std::to_string(layer_) + ": buffer '" + buffer.name +
                              "' of " + programKindName(program_->kind) +
                              " has an extent that is negative or too large");
    }
    KVCACHE_RETURN_IF_ERROR(transient(index, bytes, data));
  }
  if (buffer.zeroed && bytes > 0) {
    std::memset(data, 0, static_cast<size_t>(bytes));
  }
  buffers_[index] = data;
  return Status::ok();
}

Status Frame::gather(const LoadedKernel &kernel) {
  size_t pointer = 0, word = 0;
  for (const LoadedArg &arg : kernel.args) {
    switch (arg.kind) {
    case LoadedArg::Kind::Buffer:
      KVCACHE_RETURN_IF_ERROR(buffer(arg.index, pointers_[pointer]));
      ++pointer;
      break;
    case LoadedArg::Kind::Store: {
      Store &store = *item_.state->stores[arg.index];
      pointers_[pointer++] = store.arena().base();
      pointers_[pointer++] = store.view();
      break;
    }
    case LoadedArg::Kind::Scalars:
      pointers_[pointer++] = words_.data() + word;
      for (size_t i = 0; i < arg.slots.size(); ++i) {
        words_[word + i] = slots_[arg.slots[i]];
      }
      word += std::max<size_t>(1, arg.slots.size());
      break;
    }
  }
  return Status::ok();
}

void Frame::scatter(const LoadedKernel &kernel) {
  size_t word = 0;
  for (const LoadedArg &arg : kernel.args) {
    if (arg.kind == LoadedArg::Kind::Scalars) {
      for (size_t i = 0; i < arg.slots.size(); ++i) {
        slots_[arg.slots[i]] = words_[word + i];
      }
      word += std::max<size_t>(1, arg.slots.size());
    }
  }
}

} // namespace kvcache::rt
