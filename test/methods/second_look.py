# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks JSON of `kvasir run` of methods for which the model runs again before a prompt ends.

  second_look.py lengths KVCOMPOSE RAGGED LAQ   rows kept add up to the budget, and none is of the second look
  second_look.py first DENSE OTHER..            the first token is dense's
  second_look.py same ONE OTHER..               all generate the same
"""
import json
import sys

BUDGET = 128


def row(path):
    """The one run that a file is about."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)["rows"][0]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def lengths(structured, ragged, laq):
    """Every row that a step appended stays, and the prompt's rows are as many as the budget says, in the mean."""
    layers, heads, plain = (row(path)["kept_tokens"] for path in (structured, ragged, laq))
    steps = {value - BUDGET for head in plain for value in head}
    if len(steps) != 1:
        return False
    expected = BUDGET + steps.pop()
    equal = all(len(set(head)) == 1 for head in layers)
    longest_first = layers[0][0] == max(head[0] for head in layers)
    differ = any(len(set(head)) > 1 for head in heads)
    sums = mean(head[0] for head in layers) == mean(v for head in heads for v in head) == expected
    return equal and longest_first and differ and sums and 0 <= expected - BUDGET <= 4


def main(what, *paths):
    if what == "lengths":
        return lengths(*paths)
    tokens = [row(path)["new_tokens"] for path in paths]
    if what == "first":
        return len({t[0] for t in tokens}) == 1
    return all(t == tokens[0] for t in tokens) and len(tokens[0]) > 1


if __name__ == "__main__":
    if not main(*sys.argv[1:]):
        sys.exit("unexpected rows or tokens")
