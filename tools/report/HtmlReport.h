// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One HTML file that needs nothing else: tables, plots, pictures of kept tokens, and how it was
// made.

#pragma once

#include "tools/report/ReportData.h"
#include "tools/report/Table.h"

#include <string>

namespace kvcache::tools {

/// The page. `table` is what the terminal shows, made from the same data, and so is `ranks`, which
/// stands in front of it; null: the methods are not ranked.
std::string htmlReport(const ReportData &data, const Table &table, const Table *ranks = nullptr);

/// Writes the page to a temporary file beside `path` and renames it.
rt::Status writeHtmlReport(const std::string &path, const ReportData &data, const Table &table,
                           const Table *ranks = nullptr);

} // namespace kvcache::tools
