// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The writer. Invariant: equal tensors and metadata give equal bytes, whatever
// the order of the calls.

#include "runtime/io/AtomicFile.h"
#include "runtime/io/Safetensors.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace kvcache::rt {

static int64_t byteLength(DType dtype, const std::vector<int64_t> &shape) {
  int64_t bytes = dtypeBytes(dtype);
  for (int64_t extent : shape) {
    bytes *= extent;
  }
  return bytes;
}

void SafetensorsWriter::addView(const std::string &name, DType dtype,
                                std::vector<int64_t> shape, const void *data) {
  int64_t bytes = byteLength(dtype, shape);
  entries_[name] = Entry{dtype, std::move(shape), data, bytes, nullptr};
}

void SafetensorsWriter::addCopy(const std::string &name, DType dtype,
                                std::vector<int64_t> shape, const void *data) {
  int64_t bytes = byteLength(dtype, shape);
  const auto *begin = static_cast<const uint8_t *>(data);
  auto owned = std::make_shared<std::vector<uint8_t>>(begin, begin + bytes);
  entries_[name] = Entry{dtype, std::move(shape), owned->data(), bytes, owned};
}

Status SafetensorsWriter::write(const std::string &path) const {
  using Ordered = nlohmann::ordered_json;
  std::vector<const std::pair<const std::string, Entry> *> order;
  for (const auto &entry : entries_) {
    order.push_back(&entry);
  }
  std::stable_sort(
      order.begin(), order.end(), [](const auto *a, const auto *b) {
        return dtypeBytes(a->second.dtype) > dtypeBytes(b->second.dtype);
      });
  Ordered header = Ordered::object();
  if (!metadata_.empty()) {
    header["__metadata__"] = metadata_;
  }
  int64_t offset = 0;
  for (const auto *entry : order) {
    const Entry &tensor = entry->second;
    header[entry->first] = {{"dtype", dtypeName(tensor.dtype)},
                            {"shape", tensor.shape},
                            {"data_offsets", {offset, offset + tensor.bytes}}};
    offset += tensor.bytes;
  }
  std::string text =
      header.dump(-1, ' ', false, Ordered::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  uint8_t length[8];
  for (int i = 0; i < 8; ++i) {
    length[i] =
        static_cast<uint8_t>(static_cast<uint64_t>(text.size()) >> (8 * i));
  }
  AtomicFile file(path);
  KVCACHE_RETURN_IF_ERROR(file.append(length, sizeof(length)));
  KVCACHE_RETURN_IF_ERROR(file.append(text.data(), text.size()));
  for (const auto *entry : order) {
    KVCACHE_RETURN_IF_ERROR(file.append(
        entry->second.data, static_cast<size_t>(entry->second.bytes)));
  }
  return file.commit();
}

} // namespace kvcache::rt
