// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Creating, copying and counting the state of a layer.

#include "runtime/exec/LayerState.h"

namespace kvcache::rt {

LayerState::LayerState(const LoadedExecutable &executable, Arena &arena)
    : recent(executable.message().needed_query_rows(),
             executable.geometry().queryHeads * executable.geometry().headDim),
      draft(-1, executable.geometry().queryHeads * executable.geometry().headDim) {
  for (const auto &schema : executable.stores()) {
    stores.push_back(std::make_unique<Store>(arena, schema));
  }
  for (const LoadedTensor &tensor : executable.tensors()) {
    tensors.emplace_back(tensor.artefact ? 0 : tensor.bytes, 0);
  }
}

void LayerState::beginProbe() {
  if (!promptRows.empty()) {
    return;
  }
  for (const auto &store : stores) {
    std::vector<int64_t> &rows = promptRows.emplace_back();
    for (int64_t head = 0; head < store->schema().rowHeads(); ++head) {
      rows.push_back(store->rows(head));
    }
  }
}

Status LayerState::endProbe() {
  for (size_t s = 0; s < promptRows.size(); ++s) {
    for (size_t head = 0; head < promptRows[s].size(); ++head) {
      KVCACHE_RETURN_IF_ERROR(
          stores[s]->truncate(static_cast<int64_t>(head), promptRows[s][head]));
    }
  }
  promptRows.clear();
  return Status::ok();
}

StatusOr<std::unique_ptr<LayerState>> LayerState::fork() const {
  std::unique_ptr<LayerState> copy(new LayerState(recent, draft));
  for (const auto &store : stores) {
    StatusOr<std::unique_ptr<Store>> forked = store->fork();
    KVCACHE_RETURN_IF_ERROR(forked.status());
    copy->stores.push_back(std::move(*forked));
  }
  copy->tensors = tensors;
  copy->promptRows = promptRows;
  copy->length = length;
  copy->promptLength = promptLength;
  copy->passed = passed;
  copy->decodeReadBytes = decodeReadBytes;
  copy->scores = scores;
  copy->counts = counts;
  copy->scoreColumns = scoreColumns;
  copy->countColumns = countColumns;
  return copy;
}

int64_t LayerState::bytesMeasured() const {
  int64_t bytes = 0;
  for (const auto &store : stores) {
    bytes += store->bytesMeasured();
  }
  for (const std::vector<char> &tensor : tensors) {
    bytes += static_cast<int64_t>(tensor.size());
  }
  return bytes;
}

double LayerState::bytesClaimed() const {
  double bytes = 0;
  for (const auto &store : stores) {
    bytes += store->bytesClaimed();
  }
  for (const std::vector<char> &tensor : tensors) {
    bytes += static_cast<double>(tensor.size());
  }
  return bytes;
}

int64_t LayerState::bytesOnePage() const {
  int64_t bytes = 0;
  for (const auto &store : stores) {
    bytes += store->bytesOnePage();
  }
  return bytes;
}

} // namespace kvcache::rt
