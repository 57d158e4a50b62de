// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An evaluation in short: the methods in order, best first, for each budget.

#pragma once

#include "tools/report/ReportData.h"
#include "tools/report/Table.h"

namespace kvcache::tools {

/// One line for each method but dense and each budget. Methods of one budget are ordered by their
/// mean place: in each task, length and question, the method whose mean divergence from dense is
/// least has place 1, and equal ones share the mean of their places. Methods without a token budget
/// are ordered among themselves, as their bytes differ.
Table rankTable(const ReportData &data);

} // namespace kvcache::tools
