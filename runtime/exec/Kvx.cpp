// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads and writes the container. Nothing is allocated from a length that the file states before
// that length was compared with a bound.

#include "runtime/exec/Kvx.h"

#include "runtime/io/AtomicFile.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <xxhash.h>
#include <zstd.h>

namespace kvcache::rt {

static constexpr std::string_view magic = "KVASIRX1";
static constexpr size_t headerBytes = 8 + 4 + 8;
static constexpr int64_t mostFileBytes = int64_t(1) << 30;
static constexpr uint64_t mostObjectBytes = uint64_t(256) << 20;
static constexpr int compressionLevel = 6;

static void putLittleEndian(std::string &out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) {
    out.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
  }
}

static uint64_t littleEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return value;
}

StatusOr<std::string> serializeKvx(const proto::Executable &executable) {
  std::string payload;
  {
    google::protobuf::io::StringOutputStream stream(&payload);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    if (!executable.SerializeToCodedStream(&coded)) {
      return Status::internal("the executable of method '" + executable.method() +
                              "' cannot be written as a message");
    }
  }
  std::string file(magic);
  putLittleEndian(file, kvxFormatVersion, 4);
  putLittleEndian(file, XXH3_64bits(payload.data(), payload.size()), 8);
  return file + payload;
}

StatusOr<std::shared_ptr<proto::Executable>> parseKvx(std::string_view bytes,
                                                      const std::string &name) {
  if (bytes.substr(0, magic.size()) != magic) {
    return Status::badInput(name + ": expected an executable (.kvx), found another kind of file");
  }
  if (bytes.size() < headerBytes) {
    return Status::badInput(
        name + ": the executable is truncated: " + std::to_string(bytes.size()) + " bytes");
  }
  uint64_t version = littleEndian(bytes.substr(8, 4));
  if (version == 0 || version > kvxFormatVersion) {
    return Status::badInput(name + ": format version " + std::to_string(version) + " is " +
                            (version == 0 ? "not valid" : "newer") + ", this build reads up to " +
                            std::to_string(kvxFormatVersion));
  }
  std::string_view payload = bytes.substr(headerBytes);
  if (XXH3_64bits(payload.data(), payload.size()) != littleEndian(bytes.substr(12, 8))) {
    return Status::badInput(
        name + ": the checksum does not match: the executable is truncated or was edited");
  }
  auto executable = std::make_shared<proto::Executable>();
  if (payload.size() > static_cast<size_t>(mostFileBytes) ||
      !executable->ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return Status::badInput(name + ": the content of the executable is not a valid message");
  }
  return executable;
}

Status writeKvx(const std::string &path, const proto::Executable &executable) {
  StatusOr<std::string> bytes = serializeKvx(executable);
  KVCACHE_RETURN_IF_ERROR(bytes.status());
  return writeFileAtomically(path, *bytes);
}

StatusOr<std::shared_ptr<proto::Executable>> readKvx(const std::string &path) {
  StatusOr<std::string> bytes = readWholeFile(path, mostFileBytes);
  KVCACHE_RETURN_IF_ERROR(bytes.status());
  return parseKvx(*bytes, path);
}

Status packObject(std::string_view object, proto::NativeCode &code) {
  std::string &packed = *code.mutable_object();
  packed.resize(ZSTD_compressBound(object.size()));
  size_t bytes =
      ZSTD_compress(packed.data(), packed.size(), object.data(), object.size(), compressionLevel);
  if (ZSTD_isError(bytes)) {
    return Status::internal(std::string("cannot compress the code: ") + ZSTD_getErrorName(bytes));
  }
  packed.resize(bytes);
  code.set_object_bytes(object.size());
  return Status::ok();
}

StatusOr<std::string> unpackObject(const proto::NativeCode &code) {
  if (code.object_bytes() > mostObjectBytes) {
    return Status::badInput("the code for " + code.isa() + " states " +
                            std::to_string(code.object_bytes()) + " bytes, at most " +
                            std::to_string(mostObjectBytes) + " are read");
  }
  std::string object(code.object_bytes(), '\0');
  size_t bytes =
      ZSTD_decompress(object.data(), object.size(), code.object().data(), code.object().size());
  if (ZSTD_isError(bytes) || bytes != object.size()) {
    return Status::badInput("the code for " + code.isa() + " does not decompress to the " +
                            std::to_string(object.size()) + " bytes it states");
  }
  return object;
}

} // namespace kvcache::rt
