// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The container: what is written comes back, and what is damaged or does not run here is refused
// with the reason.

#include "ToyMethod.h"

#include "runtime/exec/Executor.h"
#include "runtime/exec/Kvx.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace kvcache::rt {

namespace {

/// A folder that goes when the test ends.
class KvxFile : public testing::Test {
protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "kvasir-kvx-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = folder_ / "toy.kvx";
    ASSERT_TRUE(writeKvx(path_, *toy::makeExecutable()).isOk());
    std::ifstream file(path_, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  /// Why a file of these bytes is refused.
  std::string refusal(const std::string &bytes, const HostCpu &host = HostCpu::detect()) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
    auto execution = CompiledExecution::open(path_, {}, host);
    EXPECT_TRUE(execution.isOk() || execution.status().code() == StatusCode::BadInput);
    EXPECT_TRUE(execution.isOk() || execution.status().message().rfind(path_.string(), 0) == 0)
        << execution.status().message();
    return execution.isOk() ? "accepted" : execution.status().message();
  }

  std::filesystem::path folder_, path_;
  std::string bytes_;
};

} // namespace

TEST_F(KvxFile, OpensAndIsWrittenTheSameEachTime) {
  EXPECT_EQ(refusal(bytes_), "accepted");
  auto again = serializeKvx(*toy::makeExecutable());
  ASSERT_TRUE(again.isOk());
  EXPECT_EQ(*again, bytes_);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1)
      << "a temporary file was left";
}

TEST_F(KvxFile, EveryTruncationIsRefused) {
  for (size_t size = 0; size < bytes_.size(); size += size < 40 ? 1 : 97) {
    std::string message = refusal(bytes_.substr(0, size));
    EXPECT_TRUE(message.find("truncated") != std::string::npos ||
                message.find("another kind of file") != std::string::npos)
        << size << ": " << message;
  }
}

TEST_F(KvxFile, EveryEditIsRefused) {
  for (size_t at = 0; at < bytes_.size(); at += 61) {
    std::string edited = bytes_;
    edited[at] ^= 0x20;
    EXPECT_NE(refusal(edited), "accepted") << at;
  }
  std::string edited = bytes_;
  edited[bytes_.size() / 2] ^= 1;
  EXPECT_NE(refusal(edited).find("the checksum does not match"), std::string::npos);
}

TEST_F(KvxFile, ANewerFormatIsRefused) {
  bytes_[8] = 2;
  EXPECT_NE(refusal(bytes_).find("format version 2 is newer, this build reads up to 1"),
            std::string::npos)
      << refusal(bytes_);
}

TEST_F(KvxFile, AnotherInstructionSetIsRefused) {
  auto message = toy::makeExecutable();
  message->mutable_code(0)->set_isa("riscv64");
  EXPECT_NE(refusal(*serializeKvx(*message)).find("unknown instruction set 'riscv64'"),
            std::string::npos);
  message->mutable_code(0)->set_isa("x86-64-v3");
  HostCpu old;
  old.isX86_64 = true;
  old.features = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3", "avx"};
  EXPECT_NE(refusal(*serializeKvx(*message), old)
                .find("its code for x86-64-v3 needs CPU features this machine lacks: avx2 bmi1"),
            std::string::npos);
  message->mutable_code(0)->set_isa("x86-64-v2");
  message->mutable_code(0)->add_features("amx_bf16");
  EXPECT_NE(refusal(*serializeKvx(*message), old).find("lacks: amx_bf16"), std::string::npos);
  old.isX86_64 = false;
  EXPECT_NE(refusal(*serializeKvx(*message), old).find("this machine is not x86-64"),
            std::string::npos);
}

TEST_F(KvxFile, TheWidestCodeThatRunsIsTaken) {
  auto message = toy::makeExecutable();
  *message->add_code() = message->code(0);
  message->mutable_code(1)->set_isa("x86-64-v3");
  HostCpu host;
  host.isX86_64 = true;
  host.features = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3", "avx",  "avx2",
                   "bmi1", "bmi2",    "f16c",   "fma",    "abm",    "movbe", "xsave"};
  auto code = CodeObject::loadBest(*message, host);
  ASSERT_TRUE(code.isOk()) << code.status().message();
  EXPECT_EQ((*code)->isa(), "x86-64-v3");
  host.features.erase("fma");
  code = CodeObject::loadBest(*message, host);
  ASSERT_TRUE(code.isOk());
  EXPECT_EQ((*code)->isa(), "x86-64-v2");
}

TEST_F(KvxFile, CodeThatLiesAboutItsSizeIsRefused) {
  auto message = toy::makeExecutable();
  message->mutable_code(0)->set_object_bytes(message->code(0).object_bytes() + 1);
  EXPECT_NE(refusal(*serializeKvx(*message)).find("does not decompress to"), std::string::npos);
  message->mutable_code(0)->set_object_bytes(uint64_t(1) << 60);
  EXPECT_NE(refusal(*serializeKvx(*message)).find("at most 268435456 are read"), std::string::npos);
  ASSERT_TRUE(packObject("not an object", *message->mutable_code(0)).isOk());
  EXPECT_NE(refusal(*serializeKvx(*message)).find("not an ELF object"), std::string::npos);
}

TEST(CodeObject, MissingSymbolsAreNamed) {
  std::string object = toy::compileKernels(
      "int nowhere_to_be_found(void);\nint kernel(void) { return nowhere_to_be_found(); }\n");
  auto code = CodeObject::load(object);
  ASSERT_FALSE(code.isOk());
  EXPECT_NE(code.status().message().find("nowhere_to_be_found"), std::string::npos)
      << code.status().message();
}

TEST(CodeObject, TwoObjectsWithTheSameSymbolStayApart) {
  const char *const text =
      "#include <stdint.h>\nint32_t kernel(int64_t task, void *const *args) { return ";
  auto first = CodeObject::load(toy::compileKernels(std::string(text) + "11; }\n"));
  auto second = CodeObject::load(toy::compileKernels(std::string(text) + "22; }\n"));
  ASSERT_TRUE(first.isOk() && second.isOk());
  EXPECT_EQ((*first)->kernel("kernel")(0, nullptr), 11);
  EXPECT_EQ((*second)->kernel("kernel")(0, nullptr), 22);
  EXPECT_EQ((*first)->kernel("other"), nullptr);
}

} // namespace kvcache::rt
