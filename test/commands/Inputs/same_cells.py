# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Two reports of `kvasir eval` have the same cells, times and resident memory left out."""
import json
import sys


def cells(path):
    with open(path, encoding="utf-8") as stream:
        rows = json.load(stream)["rows"]
    for row in rows:
        for key in [key for key in row if key.endswith("_s") or "resident" in key or "seconds" in key]:
            del row[key]
    return rows


first, second = cells(sys.argv[1]), cells(sys.argv[2])
assert first, "no cells"
for one, other in zip(first, second):
    assert one == other, {key: (one[key], other.get(key)) for key in one if one[key] != other.get(key)}
assert len(first) == len(second)
