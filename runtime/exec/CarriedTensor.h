// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a program of the end of a prompt makes for a later one: the values of all layers of one
// sequence, layer after layer, so that PROMPT_MODEL sees them as one tensor. Lives while the end of
// the prompt runs. Calibration does the same for each of its sequences.

#pragma once

#include "runtime/Status.h"
#include "runtime/exec/Scratch.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kvcache::rt {

class CarriedTensor {
public:
  /// Points `data` at the values of `layer`, or of all `layers` when it is -1. `extents` are those
  /// of one layer; the first call decides them. Bad input when a later one differs, naming `name`.
  Status bind(const std::string &name, const std::vector<int64_t> &extents, int64_t elementBytes,
              int64_t layers, int64_t layer, void *&data);
  /// The values of all layers, null while nothing is there, and the extents of one layer.
  const char *data() const { return data_; }
  const std::vector<int64_t> &extents() const { return extents_; }
  /// Extent number `i` of one layer; 0 while nothing is there.
  int64_t extent(int64_t i) const {
    return i < static_cast<int64_t>(extents_.size()) ? extents_[static_cast<size_t>(i)] : 0;
  }

private:
  std::vector<int64_t> extents_;
  int64_t layerBytes_ = 0;
  char *data_ = nullptr;
  Scratch memory_;
};

/// By tensor number; those that are not carried stay empty.
using CarriedTensors = std::vector<CarriedTensor>;

} // namespace kvcache::rt
