// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A table of text. One table becomes lines of a terminal or an HTML table; what a cell says is
// decided once, where the table is made.

#pragma once

#include <string>
#include <vector>

namespace kvcache::tools {

struct TableColumn {
  std::string title;
  std::string help;    ///< one sentence; a tooltip in HTML
  bool isText = false; ///< left-aligned; numbers are right-aligned
};

struct TableCell {
  std::string text;    ///< "-" for a value that is missing
  bool isGrey = false; ///< a difference whose interval covers 0, or a cell that does not count
};

struct Table {
  std::vector<TableColumn> columns;
  std::vector<std::vector<TableCell>> rows; ///< each as long as `columns`
  std::vector<std::string> notes;           ///< lines below the table
};

/// Aligned columns of ASCII, two spaces apart, a rule below the titles. Grey cells stand in
/// parentheses. A column that is "-" in every row is left out.
std::string tableText(const Table &table);
/// A <table> element, its notes below it as paragraphs.
std::string tableHtml(const Table &table);

/// `text` with & < > " escaped.
std::string escapeHtml(const std::string &text);

} // namespace kvcache::tools
