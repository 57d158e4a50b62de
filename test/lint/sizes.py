# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""No file and no function grows beyond the point where its reader needs a map. Files in whose first three
lines a sentence starts with "Table" or "Generated" are exempt."""
import re
import sys
import tempfile

import tree

# (name ends with, path starts with, most lines); the first match counts.
LIMITS = [
    ("CMakeLists.txt", "", 150),
    (".mlir", "frontends/methods/", 200),
    (".mlir", "test/", 600),
    (".test", "test/", 600),
    (".cpp", "", 800),
    (".td", "", 500),
    (".h", "", 300),
    (".py", "", 800),
]
FUNCTION_LIMIT = 100
SIGNATURE_END = re.compile(r"^(\s*)(?!\s)(.*\))\s*(const|override|noexcept|final|\s)*(->\s*[\w:<>*&, ]+)?\s*\{$")
STATEMENT = re.compile(r"^\s*(\}?\s*(if|else|for|while|switch|catch|do|return|case)\b|.*\[[^\]]*\]\s*\()")
EXEMPT = re.compile(r"^\W*(Table|Generated)\b")


def long_functions(lines):
    """(line, length) of each function longer than the limit, found by indentation: clang-format closes a function
    with a brace in the column where its first line starts."""
    for start, line in enumerate(lines):
        match = SIGNATURE_END.match(line)
        if not match or STATEMENT.match(line):
            continue
        first = start
        while first > 0 and lines[first - 1].strip() and not lines[first - 1].rstrip().endswith((";", "}", "{", ":")):
            if lines[first - 1].lstrip().startswith(("//", "#")):
                break
            first -= 1
        indent = re.match(r"\s*", lines[first]).group()
        for end in range(start + 1, len(lines)):
            if lines[end].startswith(indent + "}"):
                if end - first + 1 > FUNCTION_LIMIT:
                    yield first + 1, end - first + 1
                break


def violations(root):
    for path in tree.files(root, tuple(limit[0] for limit in LIMITS)):
        rule = next((r for r in LIMITS if path.endswith(r[0]) and path.startswith(r[1])), None)
        lines = tree.lines(root, path)
        if rule is None or any(EXEMPT.search(line) for line in lines[:3]):
            continue
        if len(lines) > rule[2]:
            yield f"{path}:1: {len(lines)} lines, expected at most {rule[2]}: look for a seam"
        if path.endswith((".cpp", ".h")):
            for number, length in long_functions(lines):
                yield f"{path}:{number}: function of {length} lines, expected at most {FUNCTION_LIMIT}"


def self_test():
    long_body = "".join("  a();\n" for _ in range(110))
    with tempfile.TemporaryDirectory() as root:
        tree.write(root, "good.cpp", "void f() {\n" + long_body[:500] + "}\n")
        tree.write(root, "table.cpp", "// Table of names.\n" + "int a;\n" * 900)
        tree.write(root, "namespace.cpp", "namespace a {\n" + "int a;\n" * 300 + "}\n")
        assert not list(violations(root)), list(violations(root))
        tree.write(root, "long.h", "int a;\n" * 301)
        tree.write(root, "function.cpp", "static void\nf(int a,\n  int b) const {\n" + long_body + "}\n")
        tree.write(root, "method.cpp", "struct A {\n  void f() override {\n" + "    a();\n" * 110 + "  }\n};\n")
        found = [v.split(": ")[0] for v in violations(root)]
    assert found == ["function.cpp:1", "long.h:1", "method.cpp:2"], found


if __name__ == "__main__":
    tree.main(sys.argv, violations, self_test)
