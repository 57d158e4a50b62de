// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Memory of what crosses between the programs that end a prompt.

#include "runtime/exec/CarriedTensor.h"

#include "gtest/gtest.h"

namespace kvcache::rt {
namespace {

TEST(CarriedTensor, HoldsLayersOneAfterTheOther) {
  CarriedTensor tensor;
  void *first = nullptr, *second = nullptr, *all = nullptr;
  ASSERT_TRUE(tensor.bind("score", {2, 3}, 4, 2, 0, first).isOk());
  ASSERT_TRUE(tensor.bind("score", {2, 3}, 4, 2, 1, second).isOk());
  ASSERT_TRUE(tensor.bind("score", {2, 3}, 4, 2, -1, all).isOk());
  EXPECT_EQ(static_cast<char *>(second) - static_cast<char *>(first), 24);
  EXPECT_EQ(all, first);
}

TEST(CarriedTensor, KnowsTheExtentsOfALayer) {
  CarriedTensor tensor;
  EXPECT_EQ(tensor.extent(0), 0);
  void *data = nullptr;
  ASSERT_TRUE(tensor.bind("score", {2, 3}, 4, 2, 0, data).isOk());
  EXPECT_EQ(tensor.extent(1), 3);
  EXPECT_EQ(tensor.extent(2), 0);
}

TEST(CarriedTensor, RefusesALayerOfOtherExtents) {
  CarriedTensor tensor;
  void *data = nullptr;
  ASSERT_TRUE(tensor.bind("score", {2, 3}, 4, 2, 0, data).isOk());
  Status status = tensor.bind("score", {2, 4}, 4, 2, 1, data);
  ASSERT_FALSE(status.isOk());
  EXPECT_EQ(
      status.message(),
      "'score' is planned for all layers at once: expected extents [2, 3] in every layer, got "
      "[2, 4]");
}

TEST(CarriedTensor, HasMemoryForNoRows) {
  CarriedTensor tensor;
  void *data = nullptr;
  ASSERT_TRUE(tensor.bind("score", {2, 0}, 4, 2, 1, data).isOk());
  EXPECT_NE(data, nullptr);
}

} // namespace
} // namespace kvcache::rt
