# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How many source files an op is spread over: at most 4, its definition, its verifier, its reference, its lowering.

Counted are the hand-written files below dialect, passes, frontends, runtime, targets and tools that name the op's class, or its
mnemonic in a string; the .td that defines it is one of them. Who only creates an op is a user of it. Tests, docs and generated files are not counted, nor is the
kernel in runtime/reference, which knows no op: its function is called by the interpreter, which is counted. Ops of the files in
STRUCTURE are not counted either: they are what every stage walks over.

An op that needs more stands in MORE, with how many and why; the number is exact, so that an op which has become simpler
cannot grow back unseen.
"""
import re
import sys
import tempfile

import tree

LIMIT = 4
FOLDERS = ("dialect/", "passes/", "frontends/", "runtime/", "targets/", "tools/")
STRUCTURE = ("dialect/MethodOps.td", "dialect/KernelOps.td", "dialect/ScheduleOps.td")
OP = re.compile(r'^def\s+(?:\w+_)?(\w+Op)\s*:\s*\w+<\s*"([\w.]+)"', re.MULTILINE)

# Why more than the limit: families that decompose stay within it, primitives do not. What a primitive means is in four files, but
# fusion, the nest emitter (extents, addresses, loops) and the scheduler each ask every op a question of their own.
POINTWISE = "evaluated inside other loops: fusion asks what it reads, the emitter what its extents and addresses follow"
LOOP = "a loop of its own: fusion makes a kernel of it, the emitter opens it, the scheduler says how long its result is"
CACHE = "changes or reads rows in memory: linear use, programs and stores depend on it"
ATTENTION = "statistics are planned with those of attend, and labels ask for them"
SCALAR = "a number in a slot: programs and the scheduler read it before anything runs"
COMMIT = "part of an encoder: the scheduler runs it when rows are coded"
REPORT = "reports count what it did"
MORE = {
    "column": (8, POINTWISE), "map": (10, POINTWISE), "reduce": (10, POINTWISE), "contract": (7, POINTWISE),
    "pool": (7, POINTWISE), "iota": (7, POINTWISE), "gather": (12, POINTWISE), "slice": (7, POINTWISE),
    "relabel": (8, POINTWISE),
    "sort": (9, LOOP), "scan": (8, LOOP), "concat": (9, LOOP), "blocks": (10, LOOP), "eigh": (8, LOOP), "topk": (8, LOOP),
    "scatter": (8, LOOP), "select.where": (10, LOOP), "select.complement": (8, LOOP), "select.union": (8, LOOP),
    "select.expand": (8, LOOP), "select.fit": (8, LOOP), "select.alloc": (10, LOOP),
    "append": (9, CACHE), "set_column": (8, CACHE), "rope": (8, CACHE),
    "attend": (16, ATTENTION), "score.attention": (7, ATTENTION), "score.reduce": (12, ATTENTION),
    "extent": (7, SCALAR),
    "project.hadamard": (5, COMMIT), "project.lowrank": (5, COMMIT), "quantize.encode": (5, COMMIT),
    "merge.into": (5, REPORT),
}


def sources(root):
    return {path: "\n".join(tree.lines(root, path)) for path in tree.files(root, (".td", ".cpp", ".h")) if path.startswith(FOLDERS)}


def ops(texts):
    """(file, line, class, mnemonic) of each op that is counted."""
    for path, text in texts.items():
        if path.startswith("dialect/") and path.endswith(".td") and path not in STRUCTURE:
            for match in OP.finditer(text):
                yield path, text.count("\n", 0, match.start()) + 1, match.group(1), match.group(2)


def files_of(texts, defined, name, mnemonic):
    named = re.compile(rf'(?<!\w){name}(?!\w|::create\()|"kvcache\.{re.escape(mnemonic)}"')
    return sorted(path for path, text in texts.items() if path == defined or named.search(text))


def violations(root, more=None):
    more = MORE if more is None else more
    texts = sources(root)
    left = set(more)
    for path, line, name, mnemonic in ops(texts):
        found = files_of(texts, path, name, mnemonic)
        allowed = more.get(mnemonic, (LIMIT, ""))[0]
        left.discard(mnemonic)
        if len(found) > allowed:
            yield f"{path}:{line}: op kvcache.{mnemonic} is in {len(found)} source files, expected at most {allowed}: {', '.join(found)}"
        elif mnemonic in more and len(found) < allowed:
            yield f"{path}:{line}: op kvcache.{mnemonic} is in {len(found)} source files only: lower its number in test/lint/opfiles.py"
        elif mnemonic in more and allowed <= LIMIT:
            yield f"{path}:{line}: op kvcache.{mnemonic} needs no line in test/lint/opfiles.py"
    for mnemonic in sorted(left):
        yield f"test/lint/opfiles.py:1: no op kvcache.{mnemonic}"


def self_test():
    with tempfile.TemporaryDirectory() as root:
        tree.write(root, "dialect/AOps.td", 'def KVCache_SumOp : KVCache_ComputeOp<"sum"> {}\n')
        tree.write(root, "dialect/MethodOps.td", 'def KVCache_PhaseOp : KVCache_Op<"phase"> {}\n')
        for number in range(5):
            tree.write(root, f"passes/b{number}.cpp", "PhaseOp\n")
        tree.write(root, "dialect/AOps.cpp", "SumOp::verify\n")
        tree.write(root, "targets/a.cpp", 'name == "kvcache.sum"; MySumOp\n')
        tree.write(root, "targets/b.cpp", "SumOperand CumSumOp // sum\n")
        tree.write(root, "passes/user.cpp", "SumOp::create(b, loc)\n")
        tree.write(root, "test/a.cpp", "SumOp\n")
        assert not list(violations(root, {})), list(violations(root, {}))
        tree.write(root, "passes/a.cpp", "isa<SumOp>(op)\n")
        assert not list(violations(root, {}))
        assert len(list(violations(root, {"sum": (4, "")}))) == 1
        tree.write(root, "tools/a.cpp", "isa<SumOp>(op)\n")
        found = list(violations(root, {}))
        assert len(found) == 1 and found[0].startswith("dialect/AOps.td:1: op kvcache.sum is in 5"), found
        assert not list(violations(root, {"sum": (5, "")}))
        assert len(list(violations(root, {"sum": (6, "")}))) == 1
        assert len(list(violations(root, {"sum": (5, ""), "product": (5, "")}))) == 1


if __name__ == "__main__":
    tree.main(sys.argv, violations, self_test)
