// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What one layer of one sequence holds between events, and the artefacts all sequences share.

#pragma once

#include "runtime/cache/Store.h"
#include "runtime/exec/LoadedExecutable.h"
#include "runtime/exec/RecentRows.h"

#include <memory>
#include <utility>
#include <vector>

namespace kvcache::rt {

/// Values of the artefacts: [tensor][layer] bytes; empty where a tensor is none or not calibrated
/// yet.
struct Artefacts {
  std::vector<std::vector<std::vector<char>>> values;
};

struct LayerState {
  /// Empty stores and zero tensors.
  LayerState(const LoadedExecutable &executable, Arena &arena);

  /// Notes what a second pass begins with, at its first rows.
  void beginProbe();
  /// Takes the rows of a second pass out.
  Status endProbe();
  /// A copy that evolves independently. Unavailable when memory is out.
  StatusOr<std::unique_ptr<LayerState>> fork() const;
  /// Sums over the stores and tensor states.
  int64_t bytesMeasured() const;
  double bytesClaimed() const;
  int64_t bytesOnePage() const;

  std::vector<std::unique_ptr<Store>> stores;
  std::vector<std::vector<char>> tensors; ///< by tensor number; empty for artefacts
  RecentRows recent; ///< the last queries fed
  RecentRows draft;  ///< queries of drafted tokens, until the prompt ends
  /// Rows of each store's heads before a second pass; empty unless one is under way.
  std::vector<std::vector<int64_t>> promptRows;
  int64_t length = 0;                ///< rows fed so far
  int64_t promptLength = -1;         ///< those of the prompt; -1 until it has ended
  std::vector<int64_t> passed;       ///< rows of the prompt that the next layer sees, where layers pass on fewer
  int64_t decodeReadBytes = 0;       ///< read by kernels in the last decode step
  std::vector<float> scores, counts; ///< of the last selection, when captured: [heads, columns]
  int64_t scoreColumns = 0, countColumns = 0;

private:
  LayerState(RecentRows recent, RecentRows draft)
      : recent(std::move(recent)), draft(std::move(draft)) {}
};

} // namespace kvcache::rt
