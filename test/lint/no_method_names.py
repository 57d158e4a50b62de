# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The compiler and the runtime know no method: no source outside method files, tests and docs names one. The names
are those of the files in frontends/methods."""
import re
import sys
import tempfile

import tree

SUFFIXES = (".cpp", ".h", ".c", ".td", ".py", ".sh", ".proto", ".cmake", "CMakeLists.txt", ".json", ".html", ".js")
FREE = ("frontends/methods/", "test/", "docs/", "models/", "README", "CONTRIBUTING", "NOTICE")
# Words with a meaning of their own: dense is a storage and the baseline of every report.
ORDINARY = {"dense"}
# English words that comments need: only a symbol or a file of that name counts.
WORDS = {"fair", "quest", "scope", "think"}


def pattern(name):
    """Matches snapkv, SnapKV, snap_kv; streaming-llm, StreamingLLM, streaming_llm."""
    if name in WORDS:
        return re.compile(rf"@{name}\b|\b{name}\\.mlir")
    parts = [re.escape(part) for part in re.split(r"[-_]", name)]
    return re.compile(r"(?<![a-z0-9])" + "[-_ ]?".join(parts) + r"(?![a-z0-9])", re.IGNORECASE)


def violations(root):
    names = [name for name in tree.methods(root).values() if "+" not in name and name not in ORDINARY]
    patterns = {name: pattern(name) for name in names}
    for path in tree.files(root, SUFFIXES):
        if path.startswith(FREE):
            continue
        for number, line in enumerate(tree.lines(root, path), 1):
            for name, regex in patterns.items():
                if regex.search(line):
                    yield f"{path}:{number}: names the method '{name}'"


def self_test():
    with tempfile.TemporaryDirectory() as root:
        tree.write(root, "frontends/methods/streaming-llm.mlir", "kvcache.method @streaming_llm {}\n")
        tree.write(root, "frontends/methods/dense.mlir", "kvcache.method @dense {}\n")
        tree.write(root, "frontends/methods/types.mlir", "!k = f32\n")
        tree.write(root, "docs/a.md", "streaming-llm\n")
        tree.write(root, "test/a.py", "streaming_llm\n")
        tree.write(root, "passes/good.cpp", "dense nonstreaming llm types\n")
        assert not list(violations(root)), list(violations(root))
        tree.write(root, "passes/bad.cpp", "\nif (name == StreamingLLM)\n")
        tree.write(root, "tools/bad.cpp", '"streaming-llm"\n')
        tree.write(root, "frontends/methods/scope.mlir", "kvcache.method @scope {}\n")
        tree.write(root, "passes/word.cpp", "// the scope of a phase\n")
        tree.write(root, "tools/symbol.cpp", "lookup(@scope)\n")
        assert [v.split(": ")[0] for v in violations(root)] == [
            "passes/bad.cpp:2", "tools/bad.cpp:1", "tools/symbol.cpp:1"]


if __name__ == "__main__":
    tree.main(sys.argv, violations, self_test)
