// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where the buffers of a program lie.

#include "runtime/exec/Frame.h"

#include <gtest/gtest.h>

#include <cstring>

namespace kvcache::rt {

/// A program with a slot that holds `rows`, and transient buffers i32 [rows, width] in the memory
/// given by number, -1: their own.
static std::shared_ptr<proto::Executable>
makeExecutable(int64_t rows, const std::vector<std::pair<int64_t, int32_t>> &widthsAndMemories) {
  auto executable = std::make_shared<proto::Executable>();
  executable->set_method("frame");
  proto::Geometry *geometry = executable->mutable_geometry();
  geometry->set_layers(1);
  geometry->set_query_heads(1);
  geometry->set_kv_heads(1);
  geometry->set_head_dim(2);
  proto::Program *program = executable->add_programs();
  program->set_kind(proto::Program::STEP_END);
  program->set_slots(1);
  proto::SlotBinding *binding = program->add_bindings();
  binding->set_role(proto::SlotBinding::CONSTANT);
  binding->set_value(rows);
  for (auto [width, memory] : widthsAndMemories) {
    proto::Buffer *buffer = program->add_buffers();
    buffer->set_name("b" + std::to_string(program->buffers_size() - 1));
    buffer->set_elem(static_cast<uint32_t>(abi::ElementType::I32));
    buffer->add_dims()->set_slot(0);
    buffer->add_dims()->set_constant(width);
    buffer->set_memory(memory + 1);
  }
  return executable;
}

/// A frame at the start of the one program of an executable.
struct Started {
  explicit Started(const std::shared_ptr<proto::Executable> &message) {
    auto loaded = LoadedExecutable::load(message, nullptr);
    EXPECT_TRUE(loaded.isOk()) << loaded.status().message();
    executable = *loaded;
    frame.begin(*executable, *executable->programs(proto::Program::STEP_END, 0).front(), 0,
                RunItem());
  }
  void *buffer(int32_t index) {
    void *data = nullptr;
    Status status = frame.buffer(index, data);
    EXPECT_TRUE(status.isOk()) << status.message();
    return data;
  }

  std::shared_ptr<const LoadedExecutable> executable;
  Frame frame;
};

TEST(Frame, ABufferInTheMemoryOfAnotherLiesThere) {
  Started started(makeExecutable(3, {{4, -1}, {4, -1}, {2, 0}}));
  void *own = started.buffer(0), *other = started.buffer(1);
  EXPECT_NE(own, other);
  EXPECT_EQ(started.buffer(2), own);
  EXPECT_EQ(started.frame.bufferBytes(2), 3 * 2 * 4);
}

TEST(Frame, TheOwnersExtentsCountWhicheverIsUsedFirst) {
  Started started(makeExecutable(1000, {{40, -1}, {2, 0}, {1, -1}}));
  void *shared = started.buffer(1), *next = started.buffer(2);
  EXPECT_EQ(started.buffer(0), shared);
  std::memset(shared, 1, 1000 * 40 * 4);
  std::memset(next, 2, 1000 * 4);
  EXPECT_EQ(static_cast<char *>(shared)[1000 * 40 * 4 - 1], 1);
  EXPECT_EQ(static_cast<char *>(next)[0], 2);
}

TEST(Frame, ABufferThatDoesNotFitIsRefused) {
  Started started(makeExecutable(3, {{2, -1}, {4, 0}}));
  void *data = nullptr;
  Status status = started.frame.buffer(1, data);
  EXPECT_EQ(status.message(), "buffer 'b1' of 48 bytes is in the memory of 'b0', of 24");
}

TEST(Frame, MemoryIsATransientBuffersOwn) {
  auto refusal = [](const std::shared_ptr<proto::Executable> &message) {
    auto loaded = LoadedExecutable::load(message, nullptr);
    return loaded.isOk() ? std::string() : loaded.status().message();
  };
  EXPECT_NE(refusal(makeExecutable(1, {{1, 1}, {1, -1}})).find("expected a number of an earlier buffer below 0"),
            std::string::npos);
  EXPECT_NE(refusal(makeExecutable(1, {{1, -1}, {1, 0}, {1, 1}}))
                .find("buffer 'b2' is in memory that is not a transient buffer's own"),
            std::string::npos);
  auto message = makeExecutable(1, {{1, -1}, {1, 0}});
  message->mutable_programs(0)->mutable_buffers(0)->set_role(proto::Buffer::OUT);
  EXPECT_NE(refusal(message).find("buffer 'b1' is in memory"), std::string::npos);
}

} // namespace kvcache::rt
