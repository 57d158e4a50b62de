// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tables as text and as HTML.

#include "tools/report/Table.h"

#include <algorithm>

namespace kvcache::tools {

std::string escapeHtml(const std::string &text) {
  std::string escaped;
  for (char c : text) {
    switch (c) {
    case '&':
      escaped += "&amp;";
      break;
    case '<':
      escaped += "&lt;";
      break;
    case '>':
      escaped += "&gt;";
      break;
    case '"':
      escaped += "&quot;";
      break;
    default:
      escaped += c;
    }
  }
  return escaped;
}

/// Numbers of the columns that say something in at least one row.
static std::vector<size_t> shownColumns(const Table &table) {
  std::vector<size_t> shown;
  for (size_t column = 0; column < table.columns.size(); ++column) {
    bool empty = std::all_of(table.rows.begin(), table.rows.end(),
                             [&](const auto &row) { return row[column].text == "-"; });
    if (!empty || table.rows.empty()) {
      shown.push_back(column);
    }
  }
  return shown;
}

static std::string plainText(const TableCell &cell) {
  return cell.isGrey && cell.text != "-" ? "(" + cell.text + ")" : cell.text;
}

static void appendAligned(std::string &line, const std::string &text, size_t width, bool left,
                          bool last) {
  std::string padding(width - text.size(), ' ');
  line += left ? text + (last ? "" : padding) : padding + text;
  line += last ? "" : "  ";
}

std::string tableText(const Table &table) {
  std::vector<size_t> shown = shownColumns(table);
  std::vector<size_t> widths;
  for (size_t column : shown) {
    size_t width = table.columns[column].title.size();
    for (const auto &row : table.rows) {
      width = std::max(width, plainText(row[column]).size());
    }
    widths.push_back(width);
  }
  auto line = [&](auto &&textOf) {
    std::string text;
    for (size_t i = 0; i < shown.size(); ++i) {
      appendAligned(text, textOf(shown[i], widths[i]), widths[i], table.columns[shown[i]].isText,
                    i + 1 == shown.size());
    }
    return text + "\n";
  };
  std::string text = line([&](size_t column, size_t) { return table.columns[column].title; });
  text += line([&](size_t, size_t width) { return std::string(width, '-'); });
  for (const auto &row : table.rows) {
    text += line([&](size_t column, size_t) { return plainText(row[column]); });
  }
  for (const std::string &note : table.notes) {
    text += note + "\n";
  }
  return text;
}

std::string tableHtml(const Table &table) {
  std::vector<size_t> shown = shownColumns(table);
  std::string html = "<div class=\"scroll\"><table>\n<thead><tr>";
  for (size_t column : shown) {
    const TableColumn &head = table.columns[column];
    html += std::string("<th") + (head.isText ? " class=\"text\"" : "") + " title=\"" +
            escapeHtml(head.help) + "\">" + escapeHtml(head.title) + "</th>";
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const auto &row : table.rows) {
    html += "<tr>";
    for (size_t column : shown) {
      std::string classes = table.columns[column].isText ? "text" : "";
      classes += row[column].text.size() > 30 ? " long" : ""; // may wrap
      classes += row[column].isGrey ? " grey" : "";
      html += "<td" + (classes.empty() ? "" : " class=\"" + classes + "\"") + ">" +
              escapeHtml(row[column].text) + "</td>";
    }
    html += "</tr>\n";
  }
  html += "</tbody></table></div>\n";
  for (const std::string &note : table.notes) {
    html += "<p class=\"note\">" + escapeHtml(note) + "</p>\n";
  }
  return html;
}

} // namespace kvcache::tools
