# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Textual mutants of a method file: one changed constant, one exchanged word or one exchanged operator.

Comments, prose strings (`info`), legal ranges (`in [..]`), symbol names and plain types stay as they are.
A mutant that cannot change any result may be listed in EQUIVALENT with its reason.
"""
import re
from dataclasses import dataclass

# Words to exchange wherever they stand alone in the text: op functions, flags, triggers, ends, orders.
EXCHANGES = {
    "sum": "max", "mean": "max", "max": "min", "min": "max", "avg": "max", "argmax": "argmin", "first": "last",
    "last": "first", "newest": "oldest", "oldest": "newest", "true": "false", "false": "true", "causal": "",
    "cosine": "l2", "l2": "cosine", "add": "set", "set": "add", "original": "cache", "cache": "original",
    "prompt_end": "step_end", "step_end": "prompt_end", "inverse": "",
    "floor": "ceil", "ceil": "floor", "round": "floor", "rint": "floor", "sqrt": "abs", "abs": "neg",
    "min_f16": "min_f32", "scale_f16": "scale_f32", "zp_f16": "zp_f32",
    "eq": "ne", "ne": "eq", "ge": "lt", "gt": "le", "le": "gt", "lt": "ge", "oge": "olt", "ogt": "ole", "ole": "ogt",
    "olt": "oge", "sge": "slt", "sgt": "sle", "sle": "sgt", "slt": "sge",
    "arith.addf": "arith.subf", "arith.subf": "arith.addf", "arith.mulf": "arith.addf", "arith.divf": "arith.mulf",
    "arith.addi": "arith.subi", "arith.subi": "arith.addi", "arith.muli": "arith.addi", "arith.divsi": "arith.muli",
    "arith.floordivsi": "arith.ceildivsi", "arith.ceildivsi": "arith.floordivsi", "arith.divui": "arith.muli",
    "arith.maximumf": "arith.minimumf", "arith.minimumf": "arith.maximumf", "arith.maxsi": "arith.minsi",
    "arith.minsi": "arith.maxsi", "arith.negf": "math.absf", "math.absf": "arith.negf", "math.sqrt": "math.absf",
    "index.add": "index.sub", "index.sub": "index.add", "index.mul": "index.add", "index.divs": "index.mul",
    "index.divu": "index.mul", "index.floordivs": "index.ceildivs", "index.ceildivs": "index.floordivs",
    "index.maxs": "index.mins", "index.mins": "index.maxs", "index.maxu": "index.minu", "index.minu": "index.maxu",
}
OPERATORS = {"+": "-", "-": "+", "*": "+", "/": "*", "<": ">", ">": "<", "<=": ">", ">=": "<", "==": "!=",
             "!=": "==", "&&": "||", "||": "&&"}

# {method: {(the line without outer blanks, the change): reason}}
EQUIVALENT = {}

_NUMBER = re.compile(r"(?<![\w.%@#!$^])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"(?<![\w.%@#!$^])[a-z][a-z0-9_]*(?:\.[a-z]+)?(?![\w.])")
_OPERATOR = re.compile(r"<=|>=|==|!=|&&|\|\||(?<=[\w) ])[-+*/<>](?=[\w( ])")
_STRING = r"\"(?:[^\"\\]|\\.)*\""
_INFO = re.compile(r"(\b(?:paper|family|citation|title|doc|summary|description|url|license)\s*=\s*)(" + _STRING + ")")
_RANGE = re.compile(r"\bin\s*\[[^\]]*\]")
_COMMENT = re.compile(_STRING + r"|//[^\n]*")


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
    for string in re.finditer(_STRING, visible):
        edits += [(match.start(), match.end(), OPERATORS[match.group()])
                  for match in _OPERATOR.finditer(visible, string.start() + 1, string.end() - 1)]
    return [_mutant(source, *edit) for edit in sorted(edits)]


def is_equivalent(method, mutant):
    """Whether the mutant is listed as one that cannot change a result."""
    return (mutant.line_text.strip(), mutant.change) in EQUIVALENT.get(method, {})


def stale_equivalents(method, source):
    """Listed equivalents that the file no longer has."""
    present = {(mutant.line_text.strip(), mutant.change) for mutant in mutants(source)}
    return [entry for entry in EQUIVALENT.get(method, {}) if entry not in present]


def _without_prose(source):
    """The source with comments, info strings and legal ranges blanked, every offset unchanged."""
    def blank(match):
        return match.group() if match.group().startswith('"') else " " * len(match.group())
    source = _COMMENT.sub(blank, source)
    source = _INFO.sub(lambda match: match.group(1) + " " * len(match.group(2)), source)
    return _RANGE.sub(lambda match: " " * len(match.group()), source)


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
                  f"{source[start:end]} -> {new or 'nothing'}")
