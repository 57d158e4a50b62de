// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The cells of the demo, brought together by method and budget: one line of its table each.

#pragma once

#include "tools/report/ReportData.h"

#include <vector>

namespace kvcache::tools {

/// Pointers into the data they were made from.
struct DemoLine {
  const rt::CellReport *text = nullptr; ///< what bytes and divergence come from; never null
  const rt::CellReport *passkeyOutside = nullptr, *passkeyInside = nullptr; ///< null: not run
  const rt::CellReport *keyValueOutside = nullptr, *keyValueInside = nullptr;
  const ReportedMethod *method = nullptr; ///< never null
};

/// Lines in the order of the cells; methods without a text cell are left out.
std::vector<DemoLine> demoLines(const ReportData &data);

} // namespace kvcache::tools
