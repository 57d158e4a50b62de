# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A shipped method is at most 60 lines of IR: comments, type aliases and empty lines are not counted. A longer one usually
says in many ops what an expression, several results of one map or a condition with several values says in one.

LONGER lists methods that need more, with the most they may have and why.
"""
import sys
import tempfile

import tree

LIMIT = 60
CALIBRATES = "finds its own tables: the phases that calibrate are as long as the method"
LONGER = {
    "ada-snapkv": (65, "two published forms of the allocation, each a phase"),
    "compresskv": (73, CALIBRATES),
    "dynamickv": (82, "budgets of layers are brought up to date several times, each of which depends on the one before"),
    "fastgen": (78, "every head tries five policies in turn, and keeps the statistics of all"),
    "headkv": (67, CALIBRATES),
    "kvcompose": (76, "two statistics of the second pass and two layouts of the budget: in one phase, both would be computed"),
    "pyramidinfer": (61, "ten parameters, and two caches of different lengths that are cut together"),
    "pyramidkv": (72, "two published slopes, in whole numbers that f32 does not hold"),
    "razorattention": (67, CALIBRATES),
}


def ir_lines(lines):
    return sum(1 for line in lines if line.strip() and not line.lstrip().startswith(("//", "!")))


def violations(root, longer=None):
    longer = LONGER if longer is None else longer
    names = tree.methods(root)
    for path, name in names.items():
        # The continuation of an alias over several lines belongs to the alias.
        count = ir_lines(outside_aliases(tree.lines(root, path)))
        allowed = longer.get(name, (LIMIT, ""))[0]
        if count > allowed:
            yield f"{path}:1: {count} lines of IR, expected at most {allowed}"
        elif name in longer and count <= LIMIT:
            yield f"{path}:1: {count} lines of IR: needs no line in test/lint/methodlines.py"
    for name in sorted(set(longer) - set(names.values())):
        yield f"test/lint/methodlines.py:1: no method {name}"


def outside_aliases(lines):
    """The lines without type aliases, which end where their brackets close."""
    depth, inside = 0, False
    for line in lines:
        if line.startswith("!"):
            depth, inside = 0, True
        if inside:
            depth += sum(line.count(c) for c in "<{[(") - sum(line.count(c) for c in ">}])")
            inside = depth > 0
        else:
            yield line


def self_test():
    alias = "!a = !kvcache.cache<append, token:?, {\n  k [channel.post:D] = act,\n  v = act}>\n"
    body = "kvcache.method @m {\n" + "  %a = kvcache.map\n" * 58 + "}\n"
    with tempfile.TemporaryDirectory() as root:
        tree.write(root, "frontends/methods/m.mlir", "// text\n" + alias + "\n" + body)
        assert not list(violations(root, {})), list(violations(root, {}))
        assert len(list(violations(root, {"m": (60, "")}))) == 1
        tree.write(root, "frontends/methods/m.mlir", alias + body.replace("}", "  %b = kvcache.map\n  // text\n}"))
        assert list(violations(root, {})) == ["frontends/methods/m.mlir:1: 61 lines of IR, expected at most 60"]
        assert not list(violations(root, {"m": (61, "")}))
        assert not list(violations(root, {"m": (62, "")}))
        assert len(list(violations(root, {"m": (61, ""), "gone": (61, "")}))) == 1


if __name__ == "__main__":
    tree.main(sys.argv, violations, self_test)
