// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows of a prompt fed a few at a time, for methods that change the cache between them.

#pragma once

#include "runtime/Execution.h"

#include <algorithm>
#include <vector>

namespace kvcache::rt {

/// Rows [first, first + count) of `rows`.
inline LayerRows partOf(const LayerRows &rows, const Geometry &geometry, int64_t first,
                        int64_t count) {
  LayerRows part = rows;
  part.rows = count;
  int64_t query = first * geometry.queryHeads * geometry.headDim,
          key = first * geometry.kvHeads * geometry.headDim;
  auto advance = [](auto &pointer, int64_t by) {
    pointer = pointer == nullptr ? nullptr : pointer + by;
  };
  advance(part.q, query);
  advance(part.out, query);
  advance(part.k, key);
  advance(part.v, key);
  advance(part.kPre, key);
  advance(part.positions, first);
  advance(part.ids, first);
  return part;
}

/// Calls feed(rows) with `chunk` rows of each item at a time. The first part of an item is shorter
/// where its rows are no multiple; items that have no rows left get parts of 0.
template <typename Feed>
Status feedInChunks(const std::vector<LayerRows> &rows, const Geometry &geometry, int64_t chunk,
                    Feed feed) {
  std::vector<int64_t> done(rows.size(), 0);
  std::vector<LayerRows> parts(rows.size());
  bool left = true;
  while (left) {
    left = false;
    for (size_t i = 0; i < rows.size(); ++i) {
      int64_t rest = rows[i].rows - done[i], odd = rest % chunk;
      int64_t count = std::min(rest, odd == 0 ? chunk : odd);
      parts[i] = partOf(rows[i], geometry, done[i], count);
      done[i] += count;
      left |= done[i] < rows[i].rows;
    }
    KVCACHE_RETURN_IF_ERROR(feed(parts));
  }
  return Status::ok();
}

} // namespace kvcache::rt
