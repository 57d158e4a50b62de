// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The last rows of queries, fed in chunks of every size.

#include "runtime/exec/RecentRows.h"

#include <gtest/gtest.h>

namespace kvcache::rt {

TEST(RecentRows, KeepsTheLastRowsOfAnyChunking) {
  for (int64_t limit : {-1, 1, 5, 64}) {
    RecentRows recent(limit, 3);
    int64_t fed = 0;
    for (int64_t chunk = 0; chunk < 90; ++chunk) {
      std::vector<float> values;
      std::vector<int32_t> positions;
      int64_t rows = chunk < 50 ? 1 : chunk % 7 * 3;
      for (int64_t r = fed; r < fed + rows; ++r) {
        positions.push_back(static_cast<int32_t>(r));
        values.insert(values.end(), {float(r), float(r) + 0.25f, float(r) + 0.5f});
      }
      recent.append(rows, values.data(), positions.data());
      fed += rows;
      int64_t kept = limit < 0 ? fed : std::min(limit, fed);
      ASSERT_EQ(recent.rows(), kept);
      for (int64_t r = 0; r < kept; ++r) {
        ASSERT_EQ(recent.positions()[r], fed - kept + r);
        ASSERT_EQ(recent.values()[3 * r + 2], static_cast<float>(fed - kept + r) + 0.5f);
      }
    }
    recent.clear();
    EXPECT_EQ(recent.rows(), 0);
  }
}

} // namespace kvcache::rt
