// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reading and writing of safetensors files (8-byte little-endian header length,
// JSON header, data). A file is not trusted: every length is checked against
// the file before anything is allocated or read, and a view never reaches
// outside the mapping.

#pragma once

#include "runtime/Status.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kvcache::rt {

/// Element types of a safetensors file that Kvasir reads and writes.
enum class DType { F32, F16, BF16, F64, I32, I64, U8, I8, I16, BOOL };

/// Bytes of one element.
int64_t dtypeBytes(DType dtype);
/// The name used in the file, such as "BF16".
const char *dtypeName(DType dtype);
/// "[2, 300, 64]"
std::string shapeText(const std::vector<int64_t> &shape);

/// One tensor of an open file: row-major, little-endian, data owned by the file
/// and possibly unaligned.
struct TensorView {
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  const uint8_t *data = nullptr;
  int64_t bytes = 0;

  int64_t elements() const { return bytes / dtypeBytes(dtype); }
};

/// A memory-mapped file. Views stay valid as long as this object lives.
class SafetensorsFile {
public:
  /// Maps `path` and checks the whole header. Bad input when the file is
  /// truncated, lies about a length, has overlapping tensors or holes, or an
  /// element type that is not in DType.
  static StatusOr<std::shared_ptr<SafetensorsFile>>
  open(const std::string &path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile &) = delete;
  SafetensorsFile &operator=(const SafetensorsFile &) = delete;

  const std::string &path() const { return path_; }
  /// All tensors by name.
  const std::map<std::string, TensorView> &tensors() const { return tensors_; }
  /// The `__metadata__` object; empty when absent.
  const std::map<std::string, std::string> &metadata() const {
    return metadata_;
  }
  /// The tensor, or null.
  const TensorView *find(const std::string &name) const;
  /// The tensor, or bad input naming file and tensor.
  StatusOr<TensorView> get(const std::string &name) const;
  /// As `get`, and the shape must be `shape` (-1 matches any extent).
  StatusOr<TensorView> get(const std::string &name,
                           const std::vector<int64_t> &shape) const;
  /// The values of an F32, F16 or BF16 tensor as f32; other types are bad
  /// input.
  StatusOr<std::vector<float>> readF32(const std::string &name,
                                       const std::vector<int64_t> &shape) const;
  /// The values of an I32 or I64 tensor as int64; other types are bad input.
  StatusOr<std::vector<int64_t>>
  readI64(const std::string &name, const std::vector<int64_t> &shape) const;

private:
  SafetensorsFile() = default;
  Status map();
  Status parseHeader();

  std::string path_;
  const uint8_t *base_ = nullptr;
  int64_t size_ = 0;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Collects tensors and writes them in one go. The file is deterministic:
/// widest element type first, then by name, so every tensor is aligned to its
/// element.
class SafetensorsWriter {
public:
  /// Adds a tensor whose data the caller keeps alive until `write`. The product
  /// of `shape` times the element size is the number of bytes read. A name that
  /// is already there is replaced.
  void addView(const std::string &name, DType dtype, std::vector<int64_t> shape,
               const void *data);
  /// As `addView` with a copy of the data.
  void addCopy(const std::string &name, DType dtype, std::vector<int64_t> shape,
               const void *data);
  void setMetadata(const std::string &key, const std::string &value) {
    metadata_[key] = value;
  }

  /// Writes to a temporary file beside `path` and renames it, so `path` is
  /// either as before or complete. Unavailable, naming the file and the
  /// system's reason, when something fails.
  Status write(const std::string &path) const;

private:
  struct Entry {
    DType dtype;
    std::vector<int64_t> shape;
    const void *data;
    int64_t bytes;
    std::shared_ptr<std::vector<uint8_t>> owned;
  };
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

} // namespace kvcache::rt
