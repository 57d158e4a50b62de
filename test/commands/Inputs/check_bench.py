# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks of the JSON that `bench` writes: check_bench.py FILE ROWS...   rows that each method's cache holds, in order.

Times of a tiny cache say nothing, so none is checked; that they agree with each other and that attention is right is.
"""
import json
import sys

with open(sys.argv[1]) as file:
    rows = json.load(file)["rows"]
expected = [int(text) for text in sys.argv[2:]]
assert [row["kept_tokens"] for row in rows] == expected, rows
for row in rows:
    assert 0 < row["lo_s"] <= row["median_s"] <= row["hi_s"], row
    assert 0 < row["ratio_lo"] <= row["ratio_vs_dense"] <= row["ratio_hi"], row
    verdict = "faster" if row["ratio_hi"] < 1 else "slower" if row["ratio_lo"] > 1 else "no difference"
    assert row["verdict"] == verdict, row
    assert row["max_error"] < 1e-4, row
    values = row["kept_tokens"] * row["kv_heads"] * row["head_dim"]
    bits = row["need_bytes"] * 8 / values - row["format_v"]
    assert abs(bits - row["format_k"]) < 2 or row["format_k"] != 16, row
    assert row["need_bytes"] <= 4 * values, row
