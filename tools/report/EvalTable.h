// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The cells of an evaluation as a table and as JSON rows.

#pragma once

#include "tools/report/ReportData.h"
#include "tools/report/Table.h"

namespace kvcache::tools {

/// One line for each cell, grouped by what was asked.
Table evalTable(const ReportData &data);
/// One line for each method and budget: cache, divergence on text, recall with the question outside
/// and inside, kernels, speed.
Table demoTable(const ReportData &data);

/// The rows of "kvasir.eval/1".
Json evalRows(const ReportData &data);
/// The rows of "kvasir.demo/1": one for each line of demoTable.
Json demoRows(const ReportData &data);

/// Check failed, naming method and cell, when measured and claimed bytes of a cell differ by more
/// than one page per layer and head.
rt::Status checkProof(const ReportData &data);

} // namespace kvcache::tools
