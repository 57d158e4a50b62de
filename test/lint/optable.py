# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""docs/op-table.md and docs/methods-table.md agree with each other and with the dialect:
- the catalogue has 118 numbered methods, and every op, phase kind and feature that one names has a row in the op table,
  as has every name in the list of what methods ask for;
- every op of the dialect has a row, marked existing; an op without a definition is marked designed, and so are phase
  kinds, roles and triggers that dialect/PhaseOps.cpp, and storage terms that runtime/abi/StorageTerm.h does not know;
- what is only designed is needed by some method;
- the columns that follow from others (status, catalogue, primitives) are up to date; `optable.py --write ROOT` fills
  them.
"""
import os
import re
import sys
import tempfile

import tree

OPS = "docs/op-table.md"
METHODS = "docs/methods-table.md"
NUMBERED = 118
DEFINITION = re.compile(r'^def\s+\w+Op\s*:\s*\w+<\s*"([\w.]+)"', re.MULTILINE)
NAME = re.compile(r"`([^`]+)`")
CELL = re.compile(r"(?<!\\)\|")
# Kinds of features whose status follows from a source file: the file, and the text that shows the feature.
EVIDENCE = {
    "phase": ("dialect/PhaseOps.cpp", '"{}"'),
    "role": ("dialect/PhaseOps.cpp", '"{}"'),
    "trigger": ("dialect/PhaseOps.cpp", '"{}"'),
    "term": ("runtime/abi/StorageTerm.h", "| {}<"),
}
KINDS = ("phase", "role", "trigger", "scope", "clause", "yield", "source", "type", "term")


class Row:
    """One line of a table: its cells by column name, and where it stands."""

    def __init__(self, path, number, header, cells):
        self.path, self.number = path, number
        self.cells = dict(zip(header, cells))
        self.complete = len(header) == len(cells)

    def __getitem__(self, column):
        return self.cells.get(column, "")

    def at(self):
        return f"{self.path}:{self.number}"

    def text(self):
        return "| " + " | ".join(self.cells.values()) + " |"


def split(line):
    return [cell.strip() for cell in CELL.split(line.strip())[1:-1]]


def tables(root, path):
    """Every row of every table of a page; the first column's name tells what a table is about."""
    rows, header, lines = [], None, tree.lines(root, path)
    for number, line in enumerate(lines, 1):
        if not line.startswith("|"):
            header = None
        elif header is None:
            header = split(line)
        elif not set(line) <= set("|- "):
            rows.append((header[0], Row(path, number, header, split(line))))
    return rows


def rows_about(root, path, subject):
    return [row for about, row in tables(root, path) if about == subject]


def defined_ops(root):
    text = "\n".join("\n".join(tree.lines(root, p)) for p in tree.files(root, (".td",), "dialect/"))
    return set(DEFINITION.findall(text))


def names(row, column):
    return NAME.findall(row[column])


def phases(row):
    """Phase kinds that a composition fills: `kind, kind: ops; kind: ops`."""
    heads = [part.split(":", 1)[0] for part in row["composition"].split(";") if ":" in part]
    return [kind.strip() for head in heads for kind in head.split(",")]


class Catalogue:
    def __init__(self, root):
        self.root = root
        self.ops = rows_about(root, OPS, "op")
        self.features = rows_about(root, OPS, "feature")
        self.numbered = rows_about(root, METHODS, "id")
        self.others = rows_about(root, METHODS, "name")
        self.defined = defined_ops(root)
        self.users = self.find_users()

    def key(self, row):
        return row["id"] or names(row, "name")[0]

    def find_users(self):
        """(what, name) -> keys of the methods that name it."""
        users = {}
        for row in self.numbered + self.others:
            named = [("op", n) for n in names(row, "composition")] + [("feature", n) for n in names(row, "needs")]
            named += [("feature", n) for n in phases(row)]
            if "calibrate" in phases(row) or "from file" in names(row, "needs"):
                named.append(("op", "artefact"))
            for entry in named:
                users.setdefault(entry, [])
                if self.key(row) not in users[entry]:
                    users[entry].append(self.key(row))
        return users

    def status(self, row, what):
        """The status that the sources show; the written one where no source tells."""
        name = names(row, what)[0]
        if what == "op":
            if row["status"] == "upstream":
                return "upstream"
            return "existing" if name in self.defined else "designed"
        if row["kind"] not in EVIDENCE:
            return row["status"]
        path, shape = EVIDENCE[row["kind"]]
        return "existing" if shape.format(name) in "\n".join(tree.lines(self.root, path)) else "designed"

    def users_text(self, row, what):
        if row["catalogue"] == "all":
            return "all"
        return " ".join(self.users.get((what, names(row, what)[0]), [])) or "-"

    def primitives(self, row):
        """What the ops of a composition come down to, in the order of the op table."""
        below = {names(op, "op")[0]: names(op, "comes down to") for op in self.ops if names(op, "op")}
        reached, pending = set(), names(row, "composition")
        while pending:
            op = pending.pop()
            if op not in reached:
                reached.add(op)
                pending += [n for n in below.get(op, []) if n in below]
        leaves = [op for op in below if op in reached and not any(n in below for n in below[op])]
        return " ".join(f"`{op}`" for op in leaves) or "-"

    def derived(self):
        """(row, column, what it should say) of every cell that follows from others."""
        for what, rows in (("op", self.ops), ("feature", self.features)):
            for row in rows:
                if names(row, what):
                    yield row, "status", self.status(row, what)
                    yield row, "catalogue", self.users_text(row, what)
        for row in self.numbered + self.others:
            yield row, "primitives", self.primitives(row)


def table_violations(catalogue):
    for what, rows in (("op", catalogue.ops), ("feature", catalogue.features)):
        seen = set()
        for row in rows:
            if not row.complete or len(names(row, what)) != 1:
                yield f"{row.at()}: expected one cell for each column, the first with one `name`"
                continue
            name = names(row, what)[0]
            if name in seen:
                yield f"{row.at()}: {what} {name} has two rows"
            seen.add(name)
            if what == "feature" and row["kind"] not in KINDS:
                yield f"{row.at()}: {name}: expected a kind among {' '.join(KINDS)}, got '{row['kind']}'"
            if catalogue.status(row, what) not in ("existing", "designed", "upstream"):
                yield f"{row.at()}: {name}: expected existing or designed, got '{row['status']}'"
            if catalogue.status(row, what) == "designed" and catalogue.users_text(row, what) == "-":
                yield f"{row.at()}: {what} {name} is designed, but no method needs it"
    known = {names(row, "op")[0] for row in catalogue.ops if names(row, "op")}
    for op in sorted(catalogue.defined - known):
        yield f"{OPS}: op {op} of dialect/ has no row"


def method_violations(catalogue):
    ops = {n for row in catalogue.ops for n in names(row, "op")}
    features = {n: row["kind"] for row in catalogue.features for n in names(row, "feature")}
    for row in rows_about(catalogue.root, OPS, "wanted"):
        for name in names(row, "said as"):
            if name not in ops and name not in features:
                yield f"{row.at()}: {name} is neither an op nor a feature of {OPS}"
    ids = [row["id"] for row in catalogue.numbered]
    if len(set(ids)) != NUMBERED or len(ids) != NUMBERED or not all(re.fullmatch(r"\d{3}", i) for i in ids):
        yield f"{METHODS}: expected {NUMBERED} distinct numbers of three digits, got {len(set(ids))} in {len(ids)} rows"
    for row in catalogue.numbered + catalogue.others:
        if not row.complete:
            yield f"{row.at()}: expected one cell for each column"
            continue
        for name in names(row, "composition"):
            if name not in ops:
                yield f"{row.at()}: op {name} is not in {OPS}"
        for name in names(row, "needs"):
            if name not in features:
                yield f"{row.at()}: {name} is not among the features of {OPS}"
        for kind in phases(row):
            if features.get(kind) != "phase":
                yield f"{row.at()}: '{kind}' is no phase kind of {OPS}"


def violations(root):
    catalogue = Catalogue(root)
    yield from table_violations(catalogue)
    yield from method_violations(catalogue)
    for row, column, text in catalogue.derived():
        if row[column] != text:
            yield f"{row.at()}: {column}: expected '{text}', got '{row[column]}' (test/lint/optable.py --write .)"


def write(root):
    """Fills the derived columns of both pages."""
    changes = {}
    for row, column, text in Catalogue(root).derived():
        if column in row.cells:
            row.cells[column] = text
            changes.setdefault(row.path, {})[row.number] = row
    for path, rows in changes.items():
        lines = tree.lines(root, path)
        for number, row in rows.items():
            lines[number - 1] = row.text()
        tree.write(root, path, "\n".join(lines) + "\n")


def sample(root, ops, methods):
    tree.write(root, "dialect/A.td", 'def KVCache_MapOp : KVCache_ComputeOp<"map"> {\n}\n')
    tree.write(root, "dialect/PhaseOps.cpp", '"score", "decode"\n')
    tree.write(root, "runtime/abi/StorageTerm.h", "//       | affine<bits>\n")
    tree.write(root, OPS, "\n".join(ops) + "\n")
    tree.write(root, METHODS, "\n".join(methods) + "\n")


def self_test():
    head = ["| op | status | comes down to | catalogue |", "|---|---|---|---|"]
    more = ["", "| feature | kind | status | catalogue |", "|---|---|---|---|"]
    ops = head + ["| `map` | ? | nest | ? |", "| `sort` | ? | `map` | ? |"]
    ops += more + ["| `score` | phase | ? | ? |", "| `affine` | term | ? | ? |", "| `lut` | term | ? | ? |"]
    methods = ["| id | composition | needs | primitives |", "|---|---|---|---|"]
    methods += [f"| {i:03} | score: `sort` | `lut`, `affine` | ? |" for i in range(NUMBERED)]
    with tempfile.TemporaryDirectory() as root:
        sample(root, ops, methods)
        assert list(violations(root))
        write(root)
        assert list(violations(root)) == [], list(violations(root))[:3]
        page = "\n".join(tree.lines(root, OPS))
        assert "| `map` | existing | nest | - |" in page and "| `sort` | designed |" in page, page
        assert "| `affine` | term | existing |" in page and "| `lut` | term | designed |" in page, page
        assert "| 007 | score: `sort` | `lut`, `affine` | `map` |" in tree.lines(root, METHODS)
        # What must be seen: an unknown op, an unknown feature, an unknown phase, a number twice, an op without a row,
        # an answer that does not exist, a design that nobody needs.
        good = methods[:2] + [m.replace("?", "`map`") for m in methods[2:]]
        for line in ("| 007 | score: `rank` | `lut` | - |", "| 007 | score: `sort` | `nope` | `map` |",
                     "| 007 | rest: `sort` | `lut` | `map` |", "| 008 | score: `sort` | `lut` | `map` |"):
            sample(root, ops, good[:9] + [line] + good[10:])
            write(root)
            assert any(METHODS in v for v in violations(root)), line
        sample(root, [o for o in ops if "`map` | ?" not in o], good)
        assert any("op map of dialect/ has no row" in v for v in violations(root))
        sample(root, ops + ["", "| wanted | said as |", "|---|---|", "| a rank | `rank` |"], good)
        assert any("rank is neither an op nor a feature" in v for v in violations(root))
        sample(root, ops + ["| `vq` | term | ? | ? |"], good)
        write(root)
        assert any("feature vq is designed, but no method needs it" in v for v in violations(root))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(os.path.abspath(sys.argv[2]))
    else:
        tree.main(sys.argv, violations, self_test)
