// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Binding of slots, buffers and kernel arguments.

#include "runtime/exec/Frame.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace kvcache::rt {

static constexpr int64_t scratchAlignment = 64;
static constexpr int64_t leastChunk = 64 << 10;
static constexpr int64_t mostBufferBytes = int64_t(1) << 42;

char *Scratch::take(int64_t bytes) {
  bytes = std::max<int64_t>(scratchAlignment,
                            (bytes + scratchAlignment - 1) / scratchAlignment * scratchAlignment);
  if (used_ + bytes > size_) {
    int64_t size = std::max({bytes, leastChunk, total_});
    char *chunk =
        static_cast<char *>(std::aligned_alloc(scratchAlignment, static_cast<size_t>(size)));
    if (chunk == nullptr) {
      return nullptr;
    }
    if (chunk_) {
      full_.push_back(std::move(chunk_));
    }
    chunk_.reset(chunk);
    size_ = size;
    total_ += size;
    used_ = 0;
  }
  used_ += bytes;
  return chunk_.get() + used_ - bytes;
}

void Scratch::reset() {
  used_ = 0;
  if (full_.empty()) {
    return;
  }
  full_.clear();
  chunk_.reset(
      static_cast<char *>(std::aligned_alloc(scratchAlignment, static_cast<size_t>(total_))));
  size_ = total_ = chunk_ ? total_ : 0;
}

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
    return item_.state->recent.rows();
  case proto::SlotBinding::SEED:
    return static_cast<int64_t>(item_.seed);
  case proto::SlotBinding::CONSTANT:
    return binding.value();
  default:
    return 0;
  }
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
    return writable(item_.state->recent.values());
  case proto::Buffer::LAST_POSITIONS:
    return writable(item_.state->recent.positions());
  case proto::Buffer::ROPE_INV_FREQ:
    return writable(executable_->geometry().ropeInvFreq.data());
  case proto::Buffer::TENSOR:
    if (executable_->tensors()[buffer.index].artefact) {
      const std::vector<char> &values = item_.artefacts->values[buffer.index][layer_];
      return values.empty() ? nullptr : writable(values.data());
    }
    return item_.state->tensors[buffer.index].data();
  default:
    return nullptr;
  }
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
  bool nothingThere =
      buffer.role == proto::Buffer::LAST_QUERIES || buffer.role == proto::Buffer::LAST_POSITIONS;
  int64_t bytes = bufferBytes(index);
  if (data == nullptr && buffer.role != proto::Buffer::TRANSIENT && !optional &&
      !(nothingThere && item_.state->recent.rows() == 0)) {
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
