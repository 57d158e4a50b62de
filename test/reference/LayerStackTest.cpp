// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Values of all layers as one, and back: dense, ragged, and what does not fit together.

#include "targets/reference/LayerStack.h"

#include "gtest/gtest.h"

namespace mlir::kvcache::reference {
namespace {

Tensor tensor(std::vector<Axis> axes, std::vector<double> values) {
  Tensor result(std::move(axes));
  result.values = std::move(values);
  return result;
}

const Tensor &get(const RuntimeValue &value) {
  return std::get<std::shared_ptr<const TensorValue>>(value)->tensor;
}

/// A selection of `rows` per head, in a capacity of `capacity`.
Tensor selection(const std::vector<std::vector<double>> &rows, int64_t capacity) {
  Tensor result({{"head", static_cast<int64_t>(rows.size())}, {"token.keep", capacity}});
  result.ragged = "token.keep";
  for (size_t head = 0; head < rows.size(); ++head) {
    std::copy(rows[head].begin(), rows[head].end(),
              result.values.begin() + static_cast<int64_t>(head) * capacity);
    result.lengths.push_back(static_cast<int64_t>(rows[head].size()));
  }
  return result;
}

TEST(LayerStack, PutsLayersInFrontAndGivesThemBack) {
  auto stacked =
      stackLayers({valueOf(tensor({{"head", 2}}, {1, 2})), valueOf(tensor({{"head", 2}}, {3, 4}))});
  ASSERT_TRUE(stacked.isOk()) << stacked.status().message();
  EXPECT_EQ(get(*stacked).axes[0].name, "layer");
  EXPECT_EQ(get(*stacked).values, (std::vector<double>{1, 2, 3, 4}));
  auto second = layerOf(*stacked, 1);
  ASSERT_TRUE(second.isOk());
  EXPECT_EQ(get(*second).axes.size(), 1u);
  EXPECT_EQ(get(*second).values, (std::vector<double>{3, 4}));
}

TEST(LayerStack, StacksNumbersWithoutAxes) {
  auto stacked =
      stackLayers({valueOf(tensor({}, {5})), valueOf(tensor({}, {6})), valueOf(tensor({}, {7}))});
  ASSERT_TRUE(stacked.isOk());
  EXPECT_EQ(get(*stacked).values, (std::vector<double>{5, 6, 7}));
  EXPECT_EQ(get(*layerOf(*stacked, 2)).values, (std::vector<double>{7}));
}

TEST(LayerStack, KeepsTheLengthsOfEachLayer) {
  auto stacked =
      stackLayers({valueOf(selection({{0, 2}, {1}}, 2)), valueOf(selection({{3}, {0, 1, 4}}, 3))});
  ASSERT_TRUE(stacked.isOk()) << stacked.status().message();
  const Tensor &all = get(*stacked);
  EXPECT_EQ(all.axes[2].extent, 3);
  EXPECT_EQ(all.lengths, (std::vector<int64_t>{2, 1, 1, 3}));
  EXPECT_EQ(all.lengthAt(2, {1, 0, 0}), 1);
  EXPECT_EQ(all.lengthAt(2, {1, 1, 0}), 3);
  const Tensor second = get(*layerOf(*stacked, 1));
  EXPECT_EQ(second.lengths, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(second.at({1, 2}), 4);
}

TEST(LayerStack, RefusesLayersOfOtherExtents) {
  auto stacked =
      stackLayers({valueOf(tensor({{"token", 2}}, {1, 2})), valueOf(tensor({{"token", 1}}, {3}))});
  ASSERT_FALSE(stacked.isOk());
  EXPECT_EQ(stacked.status().message(), "axis 'token' is 2 long in one layer and 1 in another");
}

TEST(LayerStack, RefusesNumbersAndMissingLayers) {
  EXPECT_FALSE(stackLayers({RuntimeValue(Number::ofInteger(3))}).isOk());
  EXPECT_FALSE(layerOf(valueOf(tensor({{"head", 1}}, {1})), 0).isOk());
}

} // namespace
} // namespace mlir::kvcache::reference
