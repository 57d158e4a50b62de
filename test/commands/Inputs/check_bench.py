# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks of the JSON and the CSV that `bench` writes: check_bench.py JSON CSV THREADS ROWS...

ROWS are those that each method's cache holds, in order, for each of THREADS (1,2). Times of a tiny cache say nothing,
so none is checked; that they agree with each other and that attention is right is.
"""
import csv
import json
import sys

with open(sys.argv[1]) as file:
    rows = json.load(file)["rows"]
threads = [int(text) for text in sys.argv[3].split(",")]
expected = [(count, int(text)) for count in threads for text in sys.argv[4:]]
assert [(row["threads"], row["kept_tokens"]) for row in rows] == expected, rows
for row in rows:
    assert 0 < row["lo_s"] <= row["median_s"] <= row["hi_s"], row
    assert 0 < row["ratio_lo"] <= row["ratio_vs_against"] <= row["ratio_hi"], row
    assert 0 < row["control_lo"] <= row["control_ratio"] <= row["control_hi"], row
    assert row["control_off"] == (row["control_lo"] > 1 or row["control_hi"] < 1), row
    spread = max(1, row["control_hi"], 1 / row["control_lo"])
    verdict = "faster" if row["ratio_hi"] < 1 / spread else "slower" if row["ratio_lo"] > spread else "no difference"
    assert row["verdict"] == verdict, row
    if row["against"] == "dense":
        assert row["ratio_vs_dense"] == row["ratio_vs_against"], row
    assert 0 < row["ratio_vs_dense_lo"] <= row["ratio_vs_dense"] <= row["ratio_vs_dense_hi"], row
    bounds = {name: row[name + "_s"] or 0 for name in ("bytes", "unpack", "products")}
    assert bounds[row["bound"]] == max(bounds.values()), row
    assert abs(row["share_of_bound"] * row["median_s"] / max(bounds.values()) - 1) < 1e-6, row
    assert abs(row["bytes_s"] * row["probe_gbps"] * 1e9 / row["need_bytes"] - 1) < 1e-6, row
    assert row["max_error"] < 1e-4, row
    values = row["kept_tokens"] * row["kv_heads"] * row["head_dim"] * row["batch"]
    assert abs(row["need_bytes"] * 8 / values - row["format_k"] - row["format_v"]) < 1e-3, row
    assert row["need_bytes"] <= 4 * values, row
    # A call reads at least the keys and values, once for each sequence.
    assert row["moved_bytes"] >= row["need_bytes"], row
with open(sys.argv[2], newline="") as file:
    lines = list(csv.DictReader(file))
assert len(lines) == len(rows), lines
for line, row in zip(lines, rows):
    assert list(line) == list(row), line
    assert line["kernel"] == row["kernel"] and float(line["median_s"]) == row["median_s"], line
