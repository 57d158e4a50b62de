#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes docs/dialect.md, the reference of the dialect, from the ODS files.

generate.py [--tblgen PROGRAM]           write the page
generate.py --check [--tblgen PROGRAM]   exit code 1, naming the first line that differs, when the page is stale
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "dialect.md"
# File of ops -> heading, in the order of the page.
FAMILIES = {
    "MethodOps.td": "Methods, phases, parameters, states",
    "PrimitiveOps.td": "Primitives over named axes",
    "RowOps.td": "Sorting, scans, blocks of rows",
    "CacheOps.td": "Caches",
    "ScoreOps.td": "Attention and its statistics",
    "SelectOps.td": "Selections",
    "QuantizeOps.td": "Codes",
    "MergeOps.td": "Merging",
    "ProjectOps.td": "Projections",
    "KernelOps.td": "Kernels, made by the compiler",
    "ScheduleOps.td": "Schedules, made by the compiler",
}
INTRODUCTION = """\
After this page you can look up what each op, type and attribute of the dialect means and how it is written. It is
made from `dialect/*.td` by `docs/generate.py`: change the description there, and run the script.
"""


def tblgen(program, file, *options):
    resolved = pathlib.Path(shutil.which(program) or program).resolve()
    include = resolved.parent.parent / "include"
    command = [str(resolved), *options, "-I", str(ROOT), "-I", str(include), str(ROOT / "dialect" / file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def tidy(text):
    """Without the lines that speak of C++ classes and without runs of blank lines."""
    text = re.sub(r"<!--.*?-->\n", "", text)
    text = re.sub(r"^(Traits|Interfaces|Effects): .*\n", "", text, flags=re.M)
    text = re.sub(r"^(###.*?`) \(kvcache::\w+\)$", r"\1", text, flags=re.M)
    text = re.sub(r"\[TOC\]\n", "", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def page(program):
    unknown = {path.name for path in (ROOT / "dialect").glob("*Ops.td")} - set(FAMILIES)
    if unknown:
        sys.exit(f"error: docs/generate.py: no heading for {', '.join(sorted(unknown))}")
    dialect = tidy(tblgen(program, "KVCacheTypes.td", "-gen-dialect-doc", "-dialect=kvcache"))
    title, rest = dialect.split("\n", 1)
    assert title == "# 'kvcache' Dialect", title
    parts = [f"# The kvcache dialect\n\n{INTRODUCTION}", rest.strip() + "\n"]
    for file, heading in FAMILIES.items():
        parts.append(f"## {heading}\n\nDefined in `dialect/{file}`.\n\n{tidy(tblgen(program, file, '-gen-op-doc'))}")
    return "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tblgen", default="/usr/lib/llvm-22/bin/mlir-tblgen")
    arguments = parser.parse_args()
    text = page(arguments.tblgen)
    if not arguments.check:
        PAGE.write_text(text)
        return 0
    old = PAGE.read_text().splitlines() if PAGE.exists() else []
    for number, (have, want) in enumerate(zip(old + [None], text.splitlines() + [None]), 1):
        if have != want:
            print(f"docs/dialect.md:{number}: stale, run docs/generate.py: found {have!r}, expected {want!r}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
