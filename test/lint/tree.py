# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the lints share: listing the project's own files, reading them, and the command line.

Each lint has `violations(root)`, which yields one line of text per violation, and `self_test()`, which builds a tree
that violates the rule and asserts that it is seen.
"""
import os
import re
import shutil
import subprocess


def files(root, suffixes, under=""):
    """Paths, relative to root, of the project's files whose names end in one of the suffixes. In a git checkout:
    tracked and untracked files that git does not ignore; elsewhere every file except those of build folders and the
    report of a demo, as .gitignore has it."""
    if os.path.exists(os.path.join(root, ".git")) and shutil.which("git"):
        command = ["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-co", "--exclude-standard"]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        paths = [p for p in listing if os.path.isfile(os.path.join(root, p))]
    else:
        paths, report = [], os.path.join(root, "report.html")
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = [d for d in subfolders if not d.startswith(("build", ".git")) and d != "__pycache__"]
            paths += [os.path.relpath(os.path.join(folder, name), root) for name in names
                      if os.path.join(folder, name) != report]
    return sorted(set(p for p in paths if p.endswith(suffixes) and p.startswith(under)))


def lines(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as handle:
        return handle.read().splitlines()


def methods(root):
    """Path -> name of each shipped method: the files of frontends/methods that define or compose one."""
    paths = files(root, (".mlir",), "frontends/methods/")
    defines = re.compile(r"^\s*kvcache\.(method|compose) @")
    return {p: os.path.basename(p)[: -len(".mlir")] for p in paths if any(map(defines.match, lines(root, p)))}


def write(root, path, text):
    """For self-tests: writes a file of a sample tree."""
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as handle:
        handle.write(text)


def main(argv, violations, self_test):
    """`lint.py ROOT` lists violations and exits with 1 when there are any; `lint.py --self-test` tests the lint."""
    if argv[1:] == ["--self-test"]:
        self_test()
        return
    found = list(violations(argv[1]))
    for line in found:
        print(line)
    raise SystemExit(1 if found else 0)
