// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Brings the cells of the demo together.

#include "tools/report/DemoLines.h"

#include <algorithm>

namespace kvcache::tools {

using rt::CellReport;

std::vector<DemoLine> demoLines(const ReportData &data) {
  std::vector<std::pair<std::pair<std::string, std::string>, DemoLine>> lines;
  for (const CellReport &cell : data.cells) {
    std::pair<std::string, std::string> key = {cell.key.method, cell.key.budget};
    auto line = std::find_if(lines.begin(), lines.end(),
                             [&](const auto &known) { return known.first == key; });
    if (line == lines.end()) {
      line = lines.insert(lines.end(), {key, {}});
    }
    bool inside = cell.key.question == rt::QuestionPlace::Inside;
    DemoLine &cells = line->second;
    if (cell.key.task == rt::Task::Text) {
      cells.text = &cell;
    } else if (cell.key.task == rt::Task::Passkey) {
      (inside ? cells.passkeyInside : cells.passkeyOutside) = &cell;
    } else if (cell.key.task == rt::Task::KeyValue) {
      (inside ? cells.keyValueInside : cells.keyValueOutside) = &cell;
    }
  }
  std::vector<DemoLine> complete;
  for (auto &[key, line] : lines) {
    for (const ReportedMethod &method : data.methods) {
      line.method = method.name == key.first ? &method : line.method;
    }
    if (line.text && line.method) {
      complete.push_back(line);
    }
  }
  return complete;
}

} // namespace kvcache::tools
