# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Every source file states its licence in its first three lines."""
import sys
import tempfile

import tree

SUFFIXES = (".cpp", ".h", ".c", ".td", ".py", ".sh", ".proto")
LINE = "SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception"


def violations(root):
    for path in tree.files(root, SUFFIXES):
        if not any(LINE in line for line in tree.lines(root, path)[:3]):
            yield f"{path}:1: expected '{LINE}' in the first three lines"


def self_test():
    with tempfile.TemporaryDirectory() as root:
        tree.write(root, "good.cpp", f"// {LINE}\nint a;\n")
        tree.write(root, "script.py", f"#!/usr/bin/python3\n# {LINE}\n")
        assert not list(violations(root))
        tree.write(root, "bad.cpp", "int a;\n")
        assert [v.split(":")[0] for v in violations(root)] == ["bad.cpp"]


if __name__ == "__main__":
    tree.main(sys.argv, violations, self_test)
