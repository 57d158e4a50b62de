// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The memory-mapped reader. Invariant: nothing is allocated from a length that
// the file claims before that length was checked against the file's real size.

#include "runtime/io/Safetensors.h"

#include "runtime/io/Half.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <set>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kvcache::rt {

using Json = nlohmann::json;

/// The format's own limit.
static constexpr int64_t maxHeaderBytes = 100'000'000;

static constexpr std::array<std::pair<DType, const char *>, 10> dtypeNames = {
    {{DType::F32, "F32"},
     {DType::F16, "F16"},
     {DType::BF16, "BF16"},
     {DType::F64, "F64"},
     {DType::I32, "I32"},
     {DType::I64, "I64"},
     {DType::U8, "U8"},
     {DType::I8, "I8"},
     {DType::I16, "I16"},
     {DType::BOOL, "BOOL"}}};

int64_t dtypeBytes(DType dtype) {
  switch (dtype) {
  case DType::F64:
  case DType::I64:
    return 8;
  case DType::F32:
  case DType::I32:
    return 4;
  case DType::F16:
  case DType::BF16:
  case DType::I16:
    return 2;
  case DType::U8:
  case DType::I8:
  case DType::BOOL:
    return 1;
  }
  return 1;
}

const char *dtypeName(DType dtype) {
  for (const auto &entry : dtypeNames) {
    if (entry.first == dtype) {
      return entry.second;
    }
  }
  return "?";
}

std::string shapeText(const std::vector<int64_t> &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i ? ", " : "") +
            (shape[i] < 0 ? std::string("any") : std::to_string(shape[i]));
  }
  return text + "]";
}

static std::optional<DType> parseDType(const std::string &name) {
  for (const auto &entry : dtypeNames) {
    if (name == entry.second) {
      return entry.first;
    }
  }
  return std::nullopt;
}

/// Parses without exceptions; `duplicate` receives a tensor name that occurs
/// twice.
static Json parseJson(const char *begin, const char *end,
                      std::string &duplicate) {
  std::set<std::string> seen;
  auto watch = [&](int depth, Json::parse_event_t event, Json &value) {
    if (depth == 1 && event == Json::parse_event_t::key) {
      const auto &key = value.get_ref<const std::string &>();
      if (!seen.insert(key).second) {
        duplicate = key;
      }
    }
    return true;
  };
  return Json::parse(begin, end, watch, false);
}

/// Reads dtype, shape and byte range of one header entry; `dataBytes` is the
/// size of the data part.
static Status parseEntry(const std::string &where, const Json &entry,
                         int64_t dataBytes, TensorView &view, int64_t &begin) {
  if (!entry.is_object() || !entry.contains("dtype") ||
      !entry.contains("shape") || !entry.contains("data_offsets")) {
    return Status::badInput(
        where + ": expected an object with dtype, shape and data_offsets");
  }
  const Json &dtype = entry["dtype"], &shape = entry["shape"],
             &offsets = entry["data_offsets"];
  std::optional<DType> type =
      dtype.is_string() ? parseDType(dtype.get_ref<const std::string &>())
                        : std::nullopt;
  if (!type) {
    return Status::badInput(
        where + ": element type " +
        dtype.dump(-1, ' ', true, Json::error_handler_t::replace) +
        " is not supported; expected F32, F16, BF16, F64, I32, I64, U8, I8, "
        "I16 or BOOL");
  }
  view.dtype = *type;
  if (!shape.is_array() || shape.size() > 16) {
    return Status::badInput(where + ": expected a shape of at most 16 extents");
  }
  int64_t bytes = dtypeBytes(*type);
  for (const Json &extent : shape) {
    if (!extent.is_number_unsigned() ||
        extent.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX) ||
        __builtin_mul_overflow(
            bytes, static_cast<int64_t>(extent.get<uint64_t>()), &bytes)) {
      return Status::badInput(where + ": the shape " + shape.dump() +
                              " is negative, no integer or too large");
    }
    view.shape.push_back(extent.get<int64_t>());
  }
  if (!offsets.is_array() || offsets.size() != 2 ||
      !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
    return Status::badInput(
        where + ": expected data_offsets of two non-negative integers");
  }
  uint64_t first = offsets[0].get<uint64_t>(),
           last = offsets[1].get<uint64_t>();
  if (first > last || last > static_cast<uint64_t>(dataBytes)) {
    return Status::badInput(where + ": data_offsets [" + std::to_string(first) +
                            ", " + std::to_string(last) +
                            "] are outside the data of " +
                            std::to_string(dataBytes) + " bytes");
  }
  if (last - first != static_cast<uint64_t>(bytes)) {
    return Status::badInput(where + ": expected " + std::to_string(bytes) +
                            " bytes for shape " + shapeText(view.shape) +
                            " of " + dtypeName(*type) + ", found " +
                            std::to_string(last - first));
  }
  begin = static_cast<int64_t>(first);
  view.bytes = bytes;
  return Status::ok();
}

static Status parseMetadata(const std::string &path, const Json &object,
                            std::map<std::string, std::string> &metadata) {
  if (!object.is_object()) {
    return Status::badInput("'" + path +
                            "': expected __metadata__ to be an object");
  }
  for (const auto &item : object.items()) {
    if (!item.value().is_string()) {
      return Status::badInput("'" + path +
                              "': expected the metadata value of '" +
                              item.key() + "' to be a string");
    }
    metadata[item.key()] = item.value().get<std::string>();
  }
  return Status::ok();
}

/// Tensors must tile the data part: no overlap, no hole, nothing behind the
/// last.
static Status checkTiling(const std::string &path,
                          std::vector<std::pair<int64_t, int64_t>> ranges,
                          int64_t dataBytes) {
  std::sort(ranges.begin(), ranges.end());
  int64_t expected = 0;
  for (const auto &range : ranges) {
    if (range.first != expected) {
      return Status::badInput(
          "'" + path + "': tensors " +
          (range.first < expected ? "overlap" : "leave a hole") +
          " in the data: expected one to begin at byte " +
          std::to_string(expected) + ", found " + std::to_string(range.first));
    }
    expected = range.second;
  }
  if (expected != dataBytes) {
    return Status::badInput(
        "'" + path + "': the header describes " + std::to_string(expected) +
        " bytes of data, found " + std::to_string(dataBytes));
  }
  return Status::ok();
}

StatusOr<std::shared_ptr<SafetensorsFile>>
SafetensorsFile::open(const std::string &path) {
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile());
  file->path_ = path;
  KVCACHE_RETURN_IF_ERROR(file->map());
  KVCACHE_RETURN_IF_ERROR(file->parseHeader());
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (base_) {
    ::munmap(const_cast<uint8_t *>(base_), static_cast<size_t>(size_));
  }
}

Status SafetensorsFile::map() {
  int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    return Status::badInput("cannot read '" + path_ +
                            "': " + std::strerror(errno));
  }
  struct stat information;
  if (::fstat(descriptor, &information) != 0 || !S_ISREG(information.st_mode)) {
    ::close(descriptor);
    return Status::badInput("cannot read '" + path_ +
                            "': expected a regular file");
  }
  size_ = information.st_size;
  if (size_ < 8) {
    ::close(descriptor);
    return Status::badInput(
        "'" + path_ +
        "' is no safetensors file: expected at least 8 bytes, found " +
        std::to_string(size_));
  }
  void *mapped = ::mmap(nullptr, static_cast<size_t>(size_), PROT_READ,
                        MAP_PRIVATE, descriptor, 0);
  std::string reason = std::strerror(errno);
  ::close(descriptor);
  if (mapped == MAP_FAILED) {
    return Status::unavailable("cannot map '" + path_ + "': " + reason);
  }
  base_ = static_cast<const uint8_t *>(mapped);
  return Status::ok();
}

Status SafetensorsFile::parseHeader() {
  uint64_t claimed = 0;
  for (int i = 7; i >= 0; --i) {
    claimed = claimed << 8 | base_[i];
  }
  if (claimed > static_cast<uint64_t>(size_ - 8) ||
      claimed > static_cast<uint64_t>(maxHeaderBytes)) {
    return Status::badInput(
        "'" + path_ +
        "' is truncated or no safetensors file: it claims a header of " +
        std::to_string(claimed) + " bytes, found " + std::to_string(size_ - 8) +
        " bytes behind the length");
  }
  int64_t headerBytes = static_cast<int64_t>(claimed);
  const char *begin = reinterpret_cast<const char *>(base_) + 8;
  std::string duplicate;
  Json header = parseJson(begin, begin + headerBytes, duplicate);
  if (header.is_discarded() || !header.is_object()) {
    return Status::badInput("'" + path_ + "': the header is not a JSON object");
  }
  if (!duplicate.empty()) {
    return Status::badInput("'" + path_ + "': tensor '" + duplicate +
                            "' occurs twice in the header");
  }
  int64_t dataBytes = size_ - 8 - headerBytes;
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const auto &item : header.items()) {
    if (item.key() == "__metadata__") {
      KVCACHE_RETURN_IF_ERROR(parseMetadata(path_, item.value(), metadata_));
      continue;
    }
    TensorView view;
    int64_t first = 0;
    KVCACHE_RETURN_IF_ERROR(
        parseEntry("'" + path_ + "': tensor '" + item.key() + "'", item.value(),
                   dataBytes, view, first));
    view.data = base_ + 8 + headerBytes + first;
    ranges.emplace_back(first, first + view.bytes);
    tensors_[item.key()] = std::move(view);
  }
  return checkTiling(path_, std::move(ranges), dataBytes);
}

const TensorView *SafetensorsFile::find(const std::string &name) const {
  auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

StatusOr<TensorView> SafetensorsFile::get(const std::string &name) const {
  const TensorView *view = find(name);
  if (!view) {
    return Status::badInput("'" + path_ + "': tensor '" + name +
                            "' is missing");
  }
  return *view;
}

StatusOr<TensorView>
SafetensorsFile::get(const std::string &name,
                     const std::vector<int64_t> &shape) const {
  StatusOr<TensorView> view = get(name);
  if (!view.isOk()) {
    return view;
  }
  bool matches = view->shape.size() == shape.size();
  for (size_t i = 0; matches && i < shape.size(); ++i) {
    matches = shape[i] == -1 || shape[i] == view->shape[i];
  }
  if (!matches) {
    return Status::badInput("'" + path_ + "': tensor '" + name +
                            "': expected shape " + shapeText(shape) +
                            ", found " + shapeText(view->shape));
  }
  return view;
}

StatusOr<std::vector<float>>
SafetensorsFile::readF32(const std::string &name,
                         const std::vector<int64_t> &shape) const {
  StatusOr<TensorView> view = get(name, shape);
  if (!view.isOk()) {
    return view.status();
  }
  if (view->dtype != DType::F32 && view->dtype != DType::F16 &&
      view->dtype != DType::BF16) {
    return Status::badInput("'" + path_ + "': tensor '" + name +
                            "': expected F32, F16 or BF16, found " +
                            dtypeName(view->dtype));
  }
  std::vector<float> values(static_cast<size_t>(view->elements()));
  if (view->dtype == DType::F16) {
    f32FromF16(view->data, values.data(), view->elements());
  } else if (view->dtype == DType::BF16) {
    f32FromBf16(view->data, values.data(), view->elements());
  } else if (view->bytes != 0) {
    std::memcpy(values.data(), view->data, static_cast<size_t>(view->bytes));
  }
  return values;
}

StatusOr<std::vector<int64_t>>
SafetensorsFile::readI64(const std::string &name,
                         const std::vector<int64_t> &shape) const {
  StatusOr<TensorView> view = get(name, shape);
  if (!view.isOk()) {
    return view.status();
  }
  if (view->dtype != DType::I32 && view->dtype != DType::I64) {
    return Status::badInput("'" + path_ + "': tensor '" + name +
                            "': expected I32 or I64, found " +
                            dtypeName(view->dtype));
  }
  std::vector<int64_t> values(static_cast<size_t>(view->elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    if (view->dtype == DType::I64) {
      std::memcpy(&values[i], view->data + 8 * i, 8);
    } else {
      int32_t narrow;
      std::memcpy(&narrow, view->data + 4 * i, 4);
      values[i] = narrow;
    }
  }
  return values;
}

} // namespace kvcache::rt
