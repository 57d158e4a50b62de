// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sums over layers; a difference in one layer is not hidden by another.

#include "tools/commands/Proof.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvcache::tools {

using rt::Status;

static Status checkLayer(int64_t layer, const rt::LayerReport &report) {
  double slack =
      static_cast<double>(report.bytesOnePage) * static_cast<double>(report.keptRows.size());
  if (std::fabs(static_cast<double>(report.bytesMeasured) - report.bytesClaimed) <= slack) {
    return Status::ok();
  }
  return Status::checkFailed(fmt::format("layer {}: the cache holds {} bytes and claims {:.0f}, "
                                         "expected them within {:.0f} (one page per head)",
                                         layer, report.bytesMeasured, report.bytesClaimed, slack));
}

Proof proveCompression(const rt::Sequence &sequence, const rt::Geometry &geometry) {
  Proof proof;
  proof.tokens = sequence.length();
  double bitsK = 0, bitsV = 0;
  for (int64_t layer = 0; layer < geometry.layers; ++layer) {
    rt::LayerReport report = sequence.report(layer);
    proof.keptTokens.push_back(report.keptRows);
    proof.bytesMeasured += report.bytesMeasured;
    proof.bytesClaimed += report.bytesClaimed;
    proof.readBytesPerToken += report.readBytesPerToken;
    bitsK += report.bitsK;
    bitsV += report.bitsV;
    proof.check = proof.check.isOk() ? checkLayer(layer, report) : proof.check;
  }
  int64_t values = geometry.layers * geometry.kvHeads * geometry.headDim * proof.tokens;
  proof.bytesDense = values * 2 * 2;
  if (values > 0) {
    proof.bitsPerValueK = bitsK / static_cast<double>(values);
    proof.bitsPerValueV = bitsV / static_cast<double>(values);
  }
  return proof;
}

void addTo(Json &row, const Proof &proof) {
  row["kept_tokens"] = proof.keptTokens;
  row["bytes_measured"] = proof.bytesMeasured;
  row["bytes_claimed"] = proof.bytesClaimed;
  row["bytes_dense"] = proof.bytesDense;
  row["bits_per_value_k"] = proof.bitsPerValueK;
  row["bits_per_value_v"] = proof.bitsPerValueV;
}

std::string keptText(const Proof &proof) {
  int64_t least = std::numeric_limits<int64_t>::max(), most = 0;
  for (const auto &layer : proof.keptTokens) {
    for (int64_t kept : layer) {
      least = std::min(least, kept);
      most = std::max(most, kept);
    }
  }
  return least >= most ? std::to_string(most) : fmt::format("{} to {}", least, most);
}

std::string toText(const Proof &proof) {
  std::string text =
      fmt::format("tokens kept     {} of {} per layer and head\n", keptText(proof), proof.tokens);
  text += fmt::format("cache bytes     {} measured, {:.0f} claimed, {} dense f16\n",
                      proof.bytesMeasured, proof.bytesClaimed, proof.bytesDense);
  text +=
      fmt::format("bits per value  {:.3f} K, {:.3f} V\n", proof.bitsPerValueK, proof.bitsPerValueV);
  return text;
}

} // namespace kvcache::tools
