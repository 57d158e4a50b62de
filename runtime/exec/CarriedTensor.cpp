// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Memory of carried tensors.

#include "runtime/exec/CarriedTensor.h"

namespace kvcache::rt {

static std::string listOf(const std::vector<int64_t> &extents) {
  std::string text;
  for (int64_t extent : extents) {
    text += (text.empty() ? "" : ", ") + std::to_string(extent);
  }
  return "[" + text + "]";
}

Status CarriedTensor::bind(const std::string &name, const std::vector<int64_t> &extents,
                           int64_t elementBytes, int64_t layers, int64_t layer, void *&data) {
  if (data_ == nullptr) {
    extents_ = extents;
    layerBytes_ = elementBytes;
    for (int64_t extent : extents) {
      layerBytes_ *= extent;
    }
    data_ = memory_.take(layerBytes_ * layers);
    if (data_ == nullptr) {
      return Status::unavailable("no memory for '" + name + "' of " + std::to_string(layers) +
                                 " layers");
    }
  } else if (extents != extents_) {
    return Status::badInput("'" + name + "' is planned for all layers at once: expected extents " +
                            listOf(extents_) + " in every layer, got " + listOf(extents));
  }
  data = data_ + (layer < 0 ? 0 : layer * layerBytes_);
  return Status::ok();
}

} // namespace kvcache::rt
