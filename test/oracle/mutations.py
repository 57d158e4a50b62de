# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Textual mutants of a method file: one changed constant or one exchanged word each.

Comments, strings that are prose, types (f16, i32) and symbol names stay as they are. A mutant that
cannot change any result may be listed in EQUIVALENT with its reason.
"""
import re
from dataclasses import dataclass

# Words to exchange wherever they stand alone in the text: op functions, pooling kinds, ends, orders.
EXCHANGES = {
    "sum": "max", "mean": "max", "max": "min", "min": "max", "avg": "max", "first": "last", "last": "first",
    "newest": "oldest", "oldest": "newest", "lowest": "highest", "highest": "lowest", "ascending": "descending",
    "descending": "ascending", "true": "false", "false": "true", "add": "sub", "sub": "add", "mul": "add",
    "div": "mul", "floordiv": "ceildiv", "ceildiv": "floordiv", "keep": "drop", "ge": "lt", "gt": "le", "le": "gt",
    "lt": "ge", "original": "cache",
    "arith.addf": "arith.subf", "arith.subf": "arith.addf", "arith.mulf": "arith.addf", "arith.divf": "arith.mulf",
    "arith.addi": "arith.subi", "arith.subi": "arith.addi", "arith.muli": "arith.addi",
    "arith.maximumf": "arith.minimumf", "arith.minimumf": "arith.maximumf", "arith.maxsi": "arith.minsi",
    "arith.minsi": "arith.maxsi", "index.add": "index.sub", "index.sub": "index.add", "index.maxs": "index.mins",
    "index.mins": "index.maxs", "index.maxu": "index.minu", "index.minu": "index.maxu",
}

# {method: {(the line without outer blanks, the change): reason}}
EQUIVALENT = {}

_NUMBER = re.compile(r"(?<![\w.%@#!$^-])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"(?<![\w.%@#!$])[a-z]+(?:\.[a-z]+)?(?![\w.])")
_HIDDEN = re.compile(r"//[^\n]*|\"(?:[^\"\\]|\\.)*\"")
_PROSE = re.compile(r"\b(paper|citation|cite|title|doc|summary|description|authors?|url|family|reference|name)\b\s*=?\s*$")


@dataclass
class Mutant:
    """One changed copy of a method file."""
    text: str
    line: int         # 1-based
    line_text: str    # the original line
    change: str       # "old -> new"


def mutants(source):
    """Every mutant of a method file, in the order of the text."""
    visible = _without_prose(source)
    edits = [(match.start(), match.end(), _changed_number(match.group())) for match in _NUMBER.finditer(visible)]
    edits += [(match.start(), match.end(), EXCHANGES[match.group()]) for match in _WORD.finditer(visible)
              if match.group() in EXCHANGES]
    return [_mutant(source, *edit) for edit in sorted(edits)]


def is_equivalent(method, mutant):
    """Whether the mutant is listed as one that cannot change a result."""
    return (mutant.line_text.strip(), mutant.change) in EQUIVALENT.get(method, {})


def stale_equivalents(method, source):
    """Listed equivalents that the file no longer has."""
    present = {(mutant.line_text.strip(), mutant.change) for mutant in mutants(source)}
    return [entry for entry in EQUIVALENT.get(method, {}) if entry not in present]


def _without_prose(source):
    """The source with comments and prose strings blanked; strings of code (expressions) stay."""
    def blank(match):
        text = match.group()
        before = source[max(0, match.start() - 40):match.start()]
        is_code = text.startswith('"') and not _PROSE.search(before.split("\n")[-1]) and not text.count(" ") > 12
        return '"' + text[1:-1] + '"' if is_code else " " * len(text)
    return _HIDDEN.sub(blank, source)


def _changed_number(text):
    if re.search(r"[.eE]", text):
        value = float(text)
        return repr(value * 1.5 if value else 0.5)
    return str(int(text) + 1)


def _mutant(source, start, end, new):
    begin = source.rfind("\n", 0, start) + 1
    stop = source.find("\n", end)
    line_text = source[begin:stop if stop >= 0 else len(source)]
    return Mutant(source[:start] + new + source[end:], source.count("\n", 0, start) + 1, line_text,
                  f"{source[start:end]} -> {new}")
