// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Puts the page together. Text and pictures are written here; plots are drawn by the page's script
// from the JSON that is written here.

#include "tools/report/HtmlReport.h"

#include "runtime/io/AtomicFile.h"
#include "tools/report/Format.h"
#include "tools/report/KeptPicture.h"
#include "tools/report/PageTexts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace kvcache::tools {

using rt::CellReport;

static std::string groupName(const CellReport &cell) {
  std::string name = fmt::format("{}, {} tokens", rt::taskName(cell.key.task), cell.key.length);
  return cell.key.question == rt::QuestionPlace::None
             ? name
             : name + ", question " + rt::questionPlaceName(cell.key.question);
}

static Json numberOrNull(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

static Json plotPoint(const CellReport &cell, const ReportData &data) {
  Json point = {{"group", groupName(cell)},
                {"method", cell.key.method},
                {"budget", cell.key.budget},
                {"bytes", numberOrNull(cell.bytesMeasured / cell.bytesDense)},
                {"kld", numberOrNull(cell.kld.mean)},
                {"accuracy", nullptr},
                {"bits_per_byte", nullptr},
                {"tokens_per_s", numberOrNull(cell.decodeTokensPerSecond)},
                {"attend", nullptr}};
  if (cell.accuracy) {
    point["accuracy"] = *cell.accuracy;
    point["accuracy_lo"] = cell.accuracyInterval.lo;
    point["accuracy_hi"] = cell.accuracyInterval.hi;
  }
  if (cell.bitsPerByte) {
    point["bits_per_byte"] = numberOrNull(*cell.bitsPerByte);
  }
  for (const ReportedMethod &method : data.methods) {
    if (method.name == cell.key.method && method.timing) {
      point["attend"] = numberOrNull(method.timing->ratio);
      point["attend_lo"] = numberOrNull(method.timing->ratioLo);
      point["attend_hi"] = numberOrNull(method.timing->ratioHi);
    }
  }
  return point;
}

/// What page.js reads, safe inside a script element.
static std::string plotData(const ReportData &data) {
  Json json = {{"groups", Json::array()}, {"methods", Json::array()}, {"points", Json::array()}};
  auto addOnce = [](Json &list, const std::string &name) {
    if (std::find(list.begin(), list.end(), name) == list.end()) {
      list.push_back(name);
    }
  };
  for (const CellReport &cell : data.cells) {
    addOnce(json["groups"], groupName(cell));
    addOnce(json["methods"], cell.key.method);
    json["points"].push_back(plotPoint(cell, data));
  }
  std::string text = json.dump(-1, ' ', /*ensure_ascii=*/true), safe;
  for (char c : text) {
    safe += c == '<' ? "\\u003c" : std::string(1, c);
  }
  return safe;
}

static std::string plotsHtml(const ReportData &data) {
  const std::pair<const char *, const char *> plots[] = {
      {"plot-kld", "Divergence from dense against bytes"},
      {"plot-accuracy", "Right answers against bytes"},
      {"plot-bits", "Compression of text against bytes"},
      {"plot-attend", "Decode attention against bytes"},
      {"plot-speed", "Decoding speed against bytes"}};
  std::string html = "<h2>Quality and speed against measured bytes</h2>\n"
                     "<p class=\"choice\"><label>Show <select id=\"group\"></select></label></p>\n"
                     "<div class=\"plots\">\n";
  for (const auto &[id, title] : plots) {
    html += fmt::format("<div class=\"plot\"><h3>{}</h3><div class=\"frame\"><canvas id=\"{}\">"
                        "</canvas></div></div>\n",
                        title, id);
  }
  html += "</div>\n<p class=\"note\">A click on a method in a legend hides it. Decoding speed is "
          "that of the model at hand";
  if (!data.timingGeometry.empty()) {
    html +=
        "; decode attention was timed over a synthetic cache, " + escapeHtml(data.timingGeometry);
  }
  return html + ".</p>\n";
}

/// One picture for each method and budget, of the cells of the first group.
static std::string picturesHtml(const ReportData &data) {
  if (data.cells.empty()) {
    return "";
  }
  std::string group = groupName(data.cells.front());
  std::string html = "<h2>Tokens kept by layer and KV head</h2>\n<p class=\"note\">" +
                     escapeHtml(group) +
                     "; mean over samples; full colour: every token of the prompt.</p>\n"
                     "<div class=\"pictures\">\n";
  for (const CellReport &cell : data.cells) {
    if (groupName(cell) == group) {
      std::string budget = cell.key.budget.empty() ? "" : " at " + cell.key.budget;
      html += "<div class=\"picture\"><h3>" + escapeHtml(cell.key.method + budget) + "</h3>" +
              keptPicture(cell) + "</div>\n";
    }
  }
  return html + "</div>\n";
}

static std::string factsHtml(const ReportData &data) {
  std::string command;
  for (const std::string &word : data.argv) {
    command += (command.empty() ? "" : " ") + word;
  }
  auto host = [&data](const char *key) {
    Json value = data.host.is_object() ? data.host.value(key, Json()) : Json();
    return value.is_null()     ? "unknown"
           : value.is_string() ? value.get<std::string>()
                               : value.dump();
  };
  std::vector<std::pair<std::string, std::string>> facts = {
      {"command", command},
      {"version", "kvasir " + data.version},
      {"model", data.model + " (hash " + data.modelHash + ")"},
      {"seed", std::to_string(data.seed)},
      {"processor", host("cpu") + ", " + host("cores") + " cores, last-level cache " +
                        host("llc_bytes") + " bytes"},
      {"settings", data.settingsName.empty() ? "published defaults" : data.settingsName}};
  std::string html = "<h2>How this was made</h2>\n<table class=\"facts\">\n";
  for (const auto &[name, value] : facts) {
    html += "<tr><td>" + name + "</td><td>" + escapeHtml(value) + "</td></tr>\n";
  }
  for (const ReportedMethod &method : data.methods) {
    html += "<tr><td>kernels of " + escapeHtml(method.name) + "</td><td>" +
            escapeHtml(method.kernels) + "</td></tr>\n";
  }
  html += "</table>\n";
  if (!data.settingsText.empty()) {
    html += "<h3>Settings</h3><pre>" + escapeHtml(data.settingsText) + "</pre>\n";
  }
  return html +
         "<p class=\"note\">Plots: Chart.js, MIT licence (in the source of this page).</p>\n";
}

std::string htmlReport(const ReportData &data, const Table &table, const Table *ranks) {
  std::string html = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                     "<title>" +
                     escapeHtml(data.title) + "</title>\n<style>\n";
  html += pageStyle;
  html += "</style></head>\n<body><main>\n<h1>" + escapeHtml(data.title) + "</h1>\n";
  html += "<p class=\"lead\">Bytes are counted by the allocator that holds them. Divergence and "
          "answers are measured on tokens fed after the compression.</p>\n";
  if (data.interrupted) {
    html += "<p class=\"lead\"><strong>The run was interrupted: unfinished cells are missing."
            "</strong></p>\n";
  }
  if (ranks) {
    html += "<h2>Methods in order</h2>\n" + tableHtml(*ranks);
  }
  html += "<h2>Results</h2>\n" + tableHtml(table) + plotsHtml(data) + picturesHtml(data) +
          factsHtml(data) + "</main>\n";
  html += "<script type=\"application/json\" id=\"plot-data\">" + plotData(data) + "</script>\n";
  html += "<!-- Chart.js\n";
  html += plotLicence;
  html += "-->\n<script>\n";
  html += plotLibrary;
  html += "\n</script>\n<script>\n";
  html += pageScript;
  return html + "</script>\n</body></html>\n";
}

rt::Status writeHtmlReport(const std::string &path, const ReportData &data, const Table &table,
                           const Table *ranks) {
  return rt::writeFileAtomically(path, htmlReport(data, table, ranks));
}

} // namespace kvcache::tools
