# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The project stands alone: it mentions no file that is not in it, no folder of the machine it was written on, and no
host that its reader has no use for."""
import os
import re
import sys
import tempfile

import tree

SUFFIXES = (".cpp", ".h", ".c", ".td", ".py", ".sh", ".proto", ".cmake", ".txt", ".json", ".md", ".mlir", ".test", ".in",
            "Makefile", "NOTICE", "README", "LICENSE", "run", ".html", ".js", ".yaml", ".pbtxt")
DATA = ("models/", "test/lint/")  # the lints hold samples
SYSTEM = {"usr", "etc", "proc", "dev", "sys", "lib", "lib64", "bin", "sbin", "opt", "tmp", "var", "run", "boot", "mnt", "media"}
HOSTS = {"arxiv.org", "doi.org", "github.com", "llvm.org", "mlir.llvm.org", "www.apache.org", "apache.org", "json-schema.org",
         "www.w3.org", "aclanthology.org", "openreview.net", "proceedings.mlr.press", "docs.python.org", "www.gutenberg.org",
         "huggingface.co", "www.chartjs.org", "spdx.org", "docs.oasis-open.org", "en.wikipedia.org"}
ABSOLUTE = re.compile(r"(?:^|[\"'`\s(=:])/([A-Za-z][\w.-]*)/[\w.-]")
RELATIVE = re.compile(r"(?<![\w./])((?:\.\./)+[\w-][\w./-]*)")
COMMENT = re.compile(r"//|#")
PAGE = re.compile(r"(?<![\w%*{}-])([\w-][\w./-]*\.md)\b")
URL = re.compile(r"https?://([\w.-]+)\S*")


def own_folders():
    """First folders of paths that only this machine has."""
    return {"home", "root"} | set(os.listdir("/")) - SYSTEM


def check_line(root, path, line, pages):
    for host in URL.findall(line):
        if host.rstrip(".") not in HOSTS:
            yield f"host {host} is not in the list of test/lint/leaks.py"
    line = URL.sub("", line)
    for first in ABSOLUTE.findall(line):
        if first in own_folders():
            yield f"absolute path /{first}/..."
    text = line if path.endswith(".md") else line[COMMENT.search(line).start():] if COMMENT.search(line) else ""
    for target in RELATIVE.findall(text):
        target = target.rstrip(".")
        inside = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if inside.startswith("..") or not os.path.exists(os.path.join(root, inside)):
            yield f"no such file in the project: {target}"
    for page in PAGE.findall(line):
        if os.path.basename(page) not in pages:
            yield f"no such page in the project: {page}"


def violations(root):
    pages = {os.path.basename(p) for p in tree.files(root, (".md",))}
    for path in tree.files(root, SUFFIXES):
        if path.startswith(DATA) and not path.endswith(".md"):
            continue
        for number, line in enumerate(tree.lines(root, path), 1):
            for message in check_line(root, path, line, pages):
                yield f"{path}:{number}: {message}"


def self_test():
    with tempfile.TemporaryDirectory() as root:
        tree.write(root, "docs/a.md", "See [b](../dialect/b.td), docs/a.md, /usr/lib/x, and/or, https://arxiv.org/abs/1\n")
        tree.write(root, "dialect/b.td", "// A formula: x / y; a/b/c.\n")
        assert not list(violations(root)), list(violations(root))
        bad = ["See ../elsewhere/design.pdf", "as notes.md says", "in /home/somebody/x", "at /root/x/y", "http://mirror.example/x"]
        tree.write(root, "docs/bad.md", "\n".join(bad) + "\n")
        assert [v.split(": ")[0] for v in violations(root)] == [f"docs/bad.md:{i}" for i in range(1, 6)], list(violations(root))


if __name__ == "__main__":
    tree.main(sys.argv, violations, self_test)
