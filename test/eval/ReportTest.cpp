// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reports made from cells that are written out here.

#include "tools/report/EvalTable.h"
#include "tools/report/Format.h"
#include "tools/report/HtmlReport.h"
#include "tools/report/KeptPicture.h"
#include "tools/report/PageTexts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

using namespace kvcache;
using namespace kvcache::tools;

namespace {

rt::CellReport passkeyCell(const std::string &method, double accuracy) {
  rt::CellReport cell;
  cell.key.method = method;
  cell.key.length = 512;
  cell.key.budget = method == "dense" ? "" : "0.25";
  cell.samples = 10;
  cell.accuracy = accuracy;
  cell.accuracyInterval = rt::wilson(std::lround(10 * accuracy), 10);
  cell.accuracyDifference = rt::Difference{accuracy - 1, {accuracy - 1.1, accuracy - 0.85}};
  cell.keptTokens = {{128, 128}, {100, 156}};
  cell.tokens = 512;
  cell.bytesMeasured = 49152;
  cell.bytesDense = 196608;
  return cell;
}

ReportData sampleData() {
  ReportData data;
  data.title = "A <title> & more";
  data.argv = {"kvasir", "eval", "</script>"};
  data.seed = 7;
  data.cells = {passkeyCell("dense", 1), passkeyCell("one", 0.9), passkeyCell("two", 0.2)};
  for (const char *name : {"dense", "one", "two"}) {
    data.methods.push_back({name, "-", "2 fused", {}, ""});
  }
  return data;
}

TEST(Table, AlignsColumnsAndLeavesOutEmptyOnes) {
  Table table;
  table.columns = {{"name", "", true}, {"n", ""}, {"none", ""}};
  table.rows = {{{"a"}, {"10"}, {"-"}}, {{"longer"}, {"7", true}, {"-"}}};
  table.notes = {"A note."};
  EXPECT_EQ(tableText(table), "name      n\n"
                              "------  ---\n"
                              "a        10\n"
                              "longer  (7)\n"
                              "A note.\n");
}

TEST(Table, EscapesHtml) {
  Table table;
  table.columns = {{"<b>", "say \"x\"", true}};
  table.rows = {{{"a & b", true}}};
  std::string html = tableHtml(table);
  EXPECT_NE(html.find("title=\"say &quot;x&quot;\">&lt;b&gt;<"), std::string::npos);
  EXPECT_NE(html.find("<td class=\"text grey\">a &amp; b</td>"), std::string::npos);
}

TEST(Format, ShowsThreeDigits) {
  EXPECT_EQ(numberText(0), "0");
  EXPECT_EQ(numberText(0.012345), "0.0123");
  EXPECT_EQ(numberText(1.5), "1.50");
  EXPECT_EQ(numberText(1234.5), "1234");
  EXPECT_EQ(numberText(3.2e-6), "3.2e-06");
  EXPECT_EQ(numberText(std::nan("")), "nan");
  EXPECT_EQ(bytesText(812), "812 B");
  EXPECT_EQ(bytesText(3 * 1048576.0 / 2), "1.5 MiB");
  EXPECT_EQ(secondsText(0.00085), "850 us");
  EXPECT_EQ(secondsText(1.2), "1.20 s");
  EXPECT_EQ(keptText(passkeyCell("one", 1)), "100..156");
}

TEST(EvalReport, DifferencesThatCoverZeroAreGrey) {
  std::string text = tableText(evalTable(sampleData()));
  EXPECT_NE(text.find("(-0.100)"), std::string::npos) << text;
  EXPECT_NE(text.find("  -0.800"), std::string::npos) << text;
}

TEST(EvalReport, ACellWhereDenseFailsIsMarked) {
  ReportData data = sampleData();
  data.cells[1].denseOk = false;
  std::string text = tableText(evalTable(data));
  EXPECT_NE(text.find("(0.90 [0.60, 0.98])"), std::string::npos) << text;
  EXPECT_NE(text.find("dense answers less than 90 %"), std::string::npos);
  EXPECT_EQ(evalRows(data)[1]["dense_ok"], false);
}

TEST(EvalReport, MissingValuesAreNull) {
  ReportData data = sampleData();
  data.cells[2].kld.mean = std::numeric_limits<double>::quiet_NaN();
  Json rows = evalRows(data);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_TRUE(rows[0]["budget"].is_null());
  EXPECT_EQ(rows[1]["budget"], 0.25);
  EXPECT_TRUE(rows[1]["bits_per_byte"].is_null());
  EXPECT_TRUE(rows[1]["attn_error"].is_null());
  EXPECT_TRUE(rows[2]["kld_mean_nats"].is_null());
  EXPECT_EQ(rows[1]["accuracy"], 0.9);
  EXPECT_EQ(rows[0]["seed"], 7);
}

TEST(EvalReport, AMismatchFailsTheCheck) {
  ReportData data = sampleData();
  EXPECT_TRUE(checkProof(data).isOk());
  data.cells[2].mismatch = "layer 1: more";
  EXPECT_EQ(checkProof(data).code(), rt::StatusCode::CheckFailed);
  EXPECT_EQ(checkProof(data).message(),
            "method 'two', task passkey, length 512: bytes are not as claimed: layer 1: more");
}

TEST(DemoReport, BringsTheCellsOfAMethodTogether) {
  ReportData data = sampleData();
  for (int i = 0; i < 3; ++i) {
    rt::CellReport text = data.cells[i];
    text.key.task = rt::Task::Text;
    text.accuracy.reset();
    text.kld.mean = 0.5 * i;
    data.cells.push_back(text);
  }
  data.methods[1].timing = AttendTiming{0.001, 0.5, 0.4, 0.6, true};
  data.methods[2].timing = AttendTiming{0.002, 1.0, 0.9, 1.1, false};
  Json rows = demoRows(data);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[1]["kld_mean_nats"], 0.5);
  EXPECT_EQ(rows[1]["passkey_outside"], 0.9);
  EXPECT_TRUE(rows[1]["kv_inside"].is_null());
  EXPECT_EQ(rows[1]["attend_ratio_vs_dense"], 0.5);
  EXPECT_TRUE(rows[0]["attend_ratio_vs_dense"].is_null());
  std::string text = tableText(demoTable(data));
  EXPECT_NE(text.find("  0.50x [0.40, 0.60]"), std::string::npos) << text;
  EXPECT_NE(text.find("(1.00x [0.90, 1.10])"), std::string::npos) << text;
}

TEST(HtmlReport, IsSelfContainedAndSafe) {
  ReportData data = sampleData();
  data.cells[1].key.method = "</script><b>";
  std::string html = htmlReport(data, evalTable(data));
  EXPECT_NE(html.find("<h1>A &lt;title&gt; &amp; more</h1>"), std::string::npos);
  EXPECT_EQ(html.find("</script><b>"), std::string::npos);
  EXPECT_NE(html.find(std::string(plotLibrary)), std::string::npos);
  EXPECT_NE(html.find("Permission is hereby granted, free of charge"), std::string::npos);
  for (const char *outside : {"src=\"http", "href=", "@import", "url("}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
}

TEST(KeptPicture, HasARectangleForEachLayerAndHead) {
  std::string svg = keptPicture(passkeyCell("one", 1));
  size_t count = 0;
  for (size_t at = 0; (at = svg.find("<rect", at)) != std::string::npos; ++at) {
    ++count;
  }
  EXPECT_EQ(count, 4u);
  EXPECT_NE(svg.find("layer 1, head 0: 100.0 of 512.0 tokens"), std::string::npos);
}

} // namespace
