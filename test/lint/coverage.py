# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What is defined is also explained and tested:
- an op: written in a test, executed by the reference target, mentioned in the docs;
- a numbered constraint (Cn) of an op: a test function @<op>_cn under test/dialect, dots of the op name as underscores;
- a pass: a summary, a description, and a test that runs its flag;
- a shipped method: named by a test.
"""
import re
import sys
import tempfile

import tree

# `def KVCache_ScoreNormOp : KVCache_Op<"score.norm"`; the C++ class is what follows the last underscore.
OP = re.compile(r'^def\s+(\w+Op)\s*:\s*\w+<\s*"([\w.]+)"', re.MULTILINE)
PASS = re.compile(r'^def\s+(\w+)\s*:\s*(?:Interface)?Pass<\s*"([\w-]+)"', re.MULTILINE)
CONSTRAINT = re.compile(r"\(C(\d+)\)")
# Not executed by the reference target: the structure of a method, resolved before anything runs, what fusion forms of ops
# that the reference has executed one by one, and executables.
NOT_EXECUTED = ("dialect/MethodOps.td", "dialect/KernelOps.td", "dialect/ScheduleOps.td")


def definitions(root, regex, under):
    """(path, line, name, key, text up to the next definition) of each match."""
    for path in tree.files(root, (".td",), under):
        text = "\n".join(tree.lines(root, path))
        matches = list(regex.finditer(text))
        ends = [m.start() for m in matches[1:]] + [len(text)]
        for match, end in zip(matches, ends):
            yield path, text.count("\n", 0, match.start()) + 1, match.group(1), match.group(2), text[match.start() : end]


def corpus(root, suffixes, under):
    return "\n".join("\n".join(tree.lines(root, path)) for path in tree.files(root, suffixes, under))


def mentions(text, word):
    return re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-]|\.\w)", text) is not None


def op_violations(root):
    tests = corpus(root, (".mlir", ".test"), "test/")
    dialect_tests = corpus(root, (".mlir",), "test/dialect/")
    reference = corpus(root, (".cpp", ".h"), "targets/reference/")
    docs = corpus(root, (".md",), "docs/")
    for path, line, name, mnemonic, text in definitions(root, OP, "dialect/"):
        at = f"{path}:{line}: op kvcache.{mnemonic}"
        if not mentions(tests, f"kvcache.{mnemonic}"):
            yield f"{at} is in no test"
        if not (mentions(docs, f"kvcache.{mnemonic}") or mentions(docs, mnemonic)):
            yield f"{at} is not mentioned in docs"
        if not path.startswith(NOT_EXECUTED) and not mentions(reference, name.split("_")[-1]):
            yield f"{at} is not executed by targets/reference"
        for number in sorted(set(CONSTRAINT.findall(text)), key=int):
            label = mnemonic.replace(".", "_")
            if not re.search(rf"@(\w+_)?{label}(_\w+)?_c{number}(?!\d)", dialect_tests):
                yield f"{at}: constraint (C{number}) has no test @{label}_c{number} under test/dialect"


def pass_violations(root):
    tests = corpus(root, (".mlir", ".test"), "test/")
    for path, line, name, flag, text in definitions(root, PASS, "passes/"):
        if not mentions(tests.replace("--", " "), flag):
            yield f"{path}:{line}: pass {flag} is run by no test"
        for part in ("summary", "description"):
            if f"let {part} =" not in text:
                yield f"{path}:{line}: pass {flag} has no {part}"


def method_violations(root):
    tests = corpus(root, (".mlir", ".test", ".py", ".cpp"), "test/")
    for path, name in tree.methods(root).items():
        if not mentions(tests, name):
            yield f"{path}:1: method {name} is named by no test"


def violations(root):
    yield from op_violations(root)
    yield from pass_violations(root)
    yield from method_violations(root)


def self_test():
    with tempfile.TemporaryDirectory() as root:
        tree.write(root, "dialect/A.td", 'def KVCache_ScoreNormOp : KVCache_Op<"score.norm", []> {\n  (C1) (C2)\n}\n')
        tree.write(root, "passes/a/Passes.td", 'def XPass : Pass<"kvcache-x"> { let summary = ""; let description = ""; }\n')
        tree.write(root, "frontends/methods/m.mlir", "kvcache.method @m {}\n")
        assert len(list(violations(root))) == 7, list(violations(root))
        tree.write(root, "test/dialect/a.mlir", "kvcache.score.norm\n@score_norm_c1\n@score_norm_c2\n")
        tree.write(root, "test/passes/x.mlir", "// RUN: kvasir-opt --kvcache-x m\n")
        tree.write(root, "targets/reference/a.cpp", "ScoreNormOp op;\n")
        tree.write(root, "docs/a.md", "`score.norm`\n")
        assert not list(violations(root)), list(violations(root))
        tree.write(root, "dialect/B.td", 'def TopkOp : KVCache_Op<"select.topk"> {}\n')
        assert len(list(violations(root))) == 3


if __name__ == "__main__":
    tree.main(sys.argv, violations, self_test)
