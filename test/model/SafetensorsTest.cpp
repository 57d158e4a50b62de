// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Safetensors files: round trip, and files that lie.

#include "runtime/io/Safetensors.h"
#include "runtime/io/AtomicFile.h"
#include "test/model/ModelFixtures.h"

#include <csignal>
#include <cstring>
#include <sys/resource.h>

using namespace kvcache::rt;
using namespace kvcache::test;

/// A file with this header and `dataBytes` bytes of data; `claimed` overrides
/// the header length.
static std::string fileOf(const std::string &header, size_t dataBytes, int64_t claimed = -1) {
  uint64_t length = claimed < 0 ? header.size() : static_cast<uint64_t>(claimed);
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(dataBytes, '\1');
}

static Status openBytes(const std::string &bytes) {
  TemporaryFolder folder;
  folder.write("x.safetensors", bytes);
  return SafetensorsFile::open(folder.path("x.safetensors")).status();
}

static std::string entry(const std::string &name, const std::string &dtype,
                         const std::string &shape, const std::string &offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

TEST(Safetensors, every_dtype_and_metadata_survive_a_round_trip) {
  TemporaryFolder folder;
  SafetensorsWriter writer;
  std::vector<uint8_t> bytes(8 * 6);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(i * 37);
  }
  for (DType dtype : {DType::F32, DType::F16, DType::BF16, DType::F64, DType::I32, DType::I64,
                      DType::U8, DType::I8, DType::I16, DType::BOOL}) {
    writer.addCopy(dtypeName(dtype), dtype, {2, 3}, bytes.data());
  }
  writer.addCopy("empty", DType::F32, {0, 5}, bytes.data());
  writer.addCopy("scalar", DType::F32, {}, bytes.data());
  writer.setMetadata("bytes_measured", "12");
  expectOk(writer.write(folder.path("x.safetensors")));
  auto file = SafetensorsFile::open(folder.path("x.safetensors"));
  ASSERT_TRUE(file.isOk()) << file.status().message();
  EXPECT_EQ((*file)->metadata().at("bytes_measured"), "12");
  EXPECT_EQ((*file)->tensors().size(), 12u);
  for (const auto &tensor : (*file)->tensors()) {
    EXPECT_EQ(
        std::memcmp(tensor.second.data, bytes.data(), static_cast<size_t>(tensor.second.bytes)), 0)
        << tensor.first;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.second.data) % dtypeBytes(tensor.second.dtype), 0u)
        << tensor.first;
  }
  EXPECT_EQ((*file)->find("I16")->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ((*file)->find("empty")->bytes, 0);
}

TEST(Safetensors, bytes_do_not_depend_on_the_order_of_calls) {
  TemporaryFolder folder;
  float a[2] = {1, 2};
  int32_t b[2] = {3, 4};
  SafetensorsWriter first, second;
  first.addView("a", DType::F32, {2}, a);
  first.addView("b", DType::I32, {2}, b);
  first.setMetadata("x", "1");
  first.setMetadata("y", "2");
  second.setMetadata("y", "2");
  second.setMetadata("x", "1");
  second.addView("b", DType::I32, {2}, b);
  second.addView("a", DType::F32, {2}, a);
  expectOk(first.write(folder.path("1")));
  expectOk(second.write(folder.path("2")));
  EXPECT_EQ(folder.read("1"), folder.read("2"));
}

TEST(Safetensors, negative_length_of_the_header) {
  expectBadInput(openBytes("1234567"), {"x.safetensors", "at least 8 bytes", "found 7"});
  expectBadInput(openBytes(""), {"found 0"});
  expectBadInput(openBytes(fileOf("{}", 0, 3)), {"claims a header of 3 bytes", "found 2"});
  // Larger than any memory: must be refused before it is allocated.
  expectBadInput(openBytes(fileOf("{}", 0, INT64_MAX)), {"claims a header of 9223372036854775807"});
  expectBadInput(openBytes(std::string(8, '\xff') + "{}"),
                 {"claims a header of 18446744073709551615"});
}

TEST(Safetensors, negative_header_is_no_object) {
  expectBadInput(openBytes(fileOf("[1,2]", 0)), {"not a JSON object"});
  expectBadInput(openBytes(fileOf("{\"a\":", 0)), {"not a JSON object"});
  expectBadInput(openBytes(fileOf("", 0)), {"not a JSON object"});
  expectBadInput(openBytes(fileOf(std::string(100000, '['), 0)), {"not a JSON object"});
  expectBadInput(openBytes(fileOf("{\"a\":5}", 0)),
                 {"tensor 'a'", "dtype, shape and data_offsets"});
  expectBadInput(openBytes(fileOf("{\"__metadata__\":{\"k\":5}}", 0)), {"metadata value of 'k'"});
}

TEST(Safetensors, negative_entry_fields) {
  auto one = [](const std::string &dtype, const std::string &shape, const std::string &offsets,
                size_t dataBytes) {
    return openBytes(fileOf("{" + entry("a", dtype, shape, offsets) + "}", dataBytes));
  };
  expectOk(one("F32", "[2]", "[0,8]", 8));
  expectBadInput(one("F4", "[2]", "[0,8]", 8), {"tensor 'a'", "element type \"F4\""});
  expectBadInput(one("F32", "[3]", "[0,8]", 8),
                 {"tensor 'a'", "expected 12 bytes", "[3] of F32", "found 8"});
  expectBadInput(one("F32", "[-2]", "[0,8]", 8), {"tensor 'a'", "shape [-2]"});
  expectBadInput(one("F32", "[2.0]", "[0,8]", 8), {"tensor 'a'", "shape"});
  expectBadInput(one("F32", "\"2\"", "[0,8]", 8), {"tensor 'a'", "shape"});
  expectBadInput(one("F32", "[4611686018427387904,4]", "[0,0]", 0), {"tensor 'a'", "too large"});
  expectBadInput(one("F32", "[18446744073709551615]", "[0,8]", 8), {"tensor 'a'", "too large"});
  expectBadInput(one("F32", "[2]", "[0,16]", 8), {"tensor 'a'", "[0, 16]", "8 bytes"});
  expectBadInput(one("F32", "[2]", "[8,0]", 8), {"tensor 'a'", "[8, 0]"});
  expectBadInput(one("F32", "[2]", "[-8,0]", 8), {"tensor 'a'", "non-negative"});
  expectBadInput(one("F32", "[2]", "[0]", 8), {"tensor 'a'", "two"});
}

TEST(Safetensors, negative_tensors_that_do_not_tile_the_data) {
  auto two = [](const std::string &second, size_t dataBytes) {
    return openBytes(
        fileOf("{" + entry("a", "F32", "[2]", "[0,8]") + "," + second + "}", dataBytes));
  };
  expectOk(two(entry("b", "U8", "[4]", "[8,12]"), 12));
  expectBadInput(two(entry("b", "U8", "[4]", "[4,8]"), 8), {"overlap"});
  expectBadInput(two(entry("b", "U8", "[4]", "[12,16]"), 16), {"hole"});
  expectBadInput(two(entry("b", "U8", "[4]", "[8,12]"), 13), {"12 bytes of data, found 13"});
  expectBadInput(two(entry("a", "U8", "[4]", "[8,12]"), 12), {"tensor 'a' occurs twice"});
}

TEST(Safetensors, negative_reading_names_tensor_expected_and_found) {
  TemporaryFolder folder;
  float values[6] = {1, 2, 3, 4, 5, 6};
  SafetensorsWriter writer;
  writer.addView("k", DType::F32, {2, 3}, values);
  expectOk(writer.write(folder.path("x.safetensors")));
  auto file = SafetensorsFile::open(folder.path("x.safetensors"));
  ASSERT_TRUE(file.isOk());
  expectBadInput((*file)->get("v").status(), {"x.safetensors", "tensor 'v' is missing"});
  expectBadInput((*file)->get("k", {3, 2}).status(),
                 {"tensor 'k'", "expected shape [3, 2], found [2, 3]"});
  expectBadInput((*file)->readI64("k", {2, 3}).status(),
                 {"tensor 'k'", "expected I32 or I64, found F32"});
  auto read = (*file)->readF32("k", {-1, 3});
  ASSERT_TRUE(read.isOk());
  EXPECT_EQ(*read, std::vector<float>(values, values + 6));
  expectBadInput(SafetensorsFile::open(folder.path()).status(), {"regular file"});
  expectBadInput(SafetensorsFile::open(folder.path("none")).status(), {"none", "No such file"});
}

TEST(AtomicFile, negative_full_disk_leaves_the_old_file_and_nothing_else) {
  TemporaryFolder folder;
  folder.write("out", "old");
  std::vector<float> values(100000, 1.0f);
  SafetensorsWriter writer;
  writer.addView("k", DType::F32, {100000}, values.data());
  // The system refuses to let a file grow past the limit, as a full disk would.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit limited = before;
  limited.rlim_cur = 65536;
  setrlimit(RLIMIT_FSIZE, &limited);
  Status status = writer.write(folder.path("out"));
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(status.code(), StatusCode::Unavailable);
  EXPECT_NE(status.message().find(folder.path("out")), std::string::npos) << status.message();
  EXPECT_EQ(folder.read("out"), "old");
  auto entries = std::filesystem::directory_iterator(folder.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
  EXPECT_EQ(writer.write(folder.path("none/out")).code(), StatusCode::Unavailable);
}
