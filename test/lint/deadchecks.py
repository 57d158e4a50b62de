# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks that check nothing: lit files without a RUN line, CHECK lines no RUN line asks for, misspelt directives,
expected diagnostics that nobody verifies."""
import difflib
import re
import sys
import tempfile

import tree

RUN = re.compile(r"^\W*RUN:(.*)")
PREFIXES = re.compile(r"--?check-prefix(?:es)?[= ]([\w,-]+)")
WORD = re.compile(r"^\W*([A-Z][A-Z0-9_-]*)\s?:")
SUFFIX = re.compile(r"-(NEXT|SAME|NOT|LABEL|DAG|EMPTY|COUNT-\d+)(\{LITERAL\})?$")


def prefixes_of(run_text):
    names = set()
    for command in re.split(r"[|;]|&&", run_text):
        if "FileCheck" in command:
            given = PREFIXES.findall(command)
            names.update(",".join(given).split(",") if given else ["CHECK"])
    return names


def looks_like(word, prefix):
    return difflib.SequenceMatcher(None, word, prefix).ratio() >= 0.75


def check_file(path, lines):
    run_text = " ".join(m.group(1).rstrip(" \\") for m in map(RUN.match, lines) if m)
    if not run_text:
        yield f"{path}:1: no RUN line"
    known = prefixes_of(run_text)
    if re.search(r"\|\|\s*true", run_text):
        yield f"{path}:1: '|| true' hides a failure"
    for number, line in enumerate(lines, 1):
        if re.match(r"^\s*(//|#|;)\s*RUN\s*[^:\w-]", line) or re.match(r"^\s*(//|#|;)\s*RUN :", line):
            yield f"{path}:{number}: a RUN line needs 'RUN:'"
        match = WORD.match(line)
        if not match or RUN.match(line):
            continue
        word = match.group(1)
        base = SUFFIX.sub("", word)
        if base in known and f"{word}:" in line:
            continue
        if any(looks_like(re.split("[-_]", word)[0], name) for name in known | {"CHECK"}):
            yield f"{path}:{number}: '{word}' is checked by no RUN line (prefixes: {', '.join(sorted(known)) or 'none'})"
    text = "\n".join(lines)
    if re.search(r"expected-(error|note|warning|remark)", text) and "verify-diagnostics" not in run_text:
        yield f"{path}:1: expected diagnostics without -verify-diagnostics"
    if known and not any(re.search(rf"\b{re.escape(name)}(-[A-Z]+)*:", text) for name in known):
        yield f"{path}:1: FileCheck without a check line"


def violations(root):
    for path in tree.files(root, (".mlir", ".test"), "test/"):
        lines = tree.lines(root, path)
        if "/Inputs/" not in path:
            yield from check_file(path, lines)


def self_test():
    good = "// RUN: kvasir-opt %s | FileCheck %s --check-prefixes=CHECK,B\n// CHECK-LABEL: x\n// B-COUNT-2: y\n// NOTE: z\n"
    bad = {
        "no RUN line": "// CHECK: x\n",
        "'CHECK' is checked": "// RUN: kvasir-opt %s\n// CHECK: x\n",
        "'CHECH' is checked": "// RUN: a | FileCheck %s\n// CHECK: a\n// CHECH: x\n",
        "'CHECK_NEXT' is checked": "// RUN: a | FileCheck %s\n// CHECK: a\n// CHECK_NEXT: x\n",
        "'CHECK-NXT' is checked": "// RUN: a | FileCheck %s\n// CHECK: a\n// CHECK-NXT: x\n",
        "'CHECK' is checked by": "// RUN: a | FileCheck %s\n// CHECK-NOT: a\n// CHECK : x\n",
        "expected diagnostics": "// RUN: kvasir-opt %s\n// expected-error {{x}}\n",
        "without a check line": "// RUN: a | FileCheck %s\n",
        "hides a failure": "// RUN: a || true\n",
    }
    with tempfile.TemporaryDirectory() as root:
        tree.write(root, "test/good.mlir", good)
        assert not list(violations(root)), list(violations(root))
        for message, text in bad.items():
            tree.write(root, "test/bad.mlir", text)
            found = list(violations(root))
            assert len(found) >= 1 and any(message in v for v in found), (message, found)


if __name__ == "__main__":
    tree.main(sys.argv, violations, self_test)
