// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The last rows of queries that were fed to a layer, with their positions, for phases that look
// back.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace kvcache::rt {

class RecentRows {
public:
  /// Keeps the last `limit` rows, all of them when -1, of `rowValues` values each.
  RecentRows(int64_t limit, int64_t rowValues) : limit_(limit), rowValues_(rowValues) {}

  int64_t rows() const { return static_cast<int64_t>(positions_.size()) - first_; }
  /// [rows, rowValues], oldest first; valid until the next change.
  const float *values() const { return values_.data() + first_ * rowValues_; }
  /// [rows]
  const int32_t *positions() const { return positions_.data() + first_; }
  /// The last `count` of them, all of them where there are fewer.
  const float *values(int64_t count) const { return values() + skipped(count) * rowValues_; }
  const int32_t *positions(int64_t count) const { return positions() + skipped(count); }

  /// Adds `rows` rows: `values` [rows, rowValues], `positions` [rows].
  void append(int64_t rows, const float *values, const int32_t *positions) {
    if (limit_ >= 0 && rows > limit_) {
      values += (rows - limit_) * rowValues_;
      positions += rows - limit_;
      rows = limit_;
    }
    values_.insert(values_.end(), values, values + rows * rowValues_);
    positions_.insert(positions_.end(), positions, positions + rows);
    if (limit_ < 0) {
      return;
    }
    first_ = std::max<int64_t>(first_, static_cast<int64_t>(positions_.size()) - limit_);
    // Moving the rows to the front only when as many are out of use makes the cost of a row
    // constant.
    if (first_ >= std::max<int64_t>(limit_, 1)) {
      values_.erase(values_.begin(), values_.begin() + first_ * rowValues_);
      positions_.erase(positions_.begin(), positions_.begin() + first_);
      first_ = 0;
    }
  }
  /// Forgets the rows and gives their memory back.
  void clear() {
    std::vector<float>().swap(values_);
    std::vector<int32_t>().swap(positions_);
    first_ = 0;
  }

private:
  int64_t skipped(int64_t count) const { return std::max<int64_t>(0, rows() - count); }

  int64_t limit_, rowValues_;
  int64_t first_ = 0; ///< rows before it are out of use
  std::vector<float> values_;
  std::vector<int32_t> positions_;
};

} // namespace kvcache::rt
