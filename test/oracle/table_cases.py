# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Table of cases of methods that read calibrated tables. cases.py merges what is here.

Inputs beyond those of `apply`; an oracle takes them from the file unless its `run` is given them:
  table.voting_heads F32 [L, Hq], 1 for voters; table.importance F32 [L]   compresskv
  table.head_scores F32 [L, Hq]                                           headkv
  table.retrieval U8 [L, Hkv]                                             razorattention
  table.gates F32 [L, Hkv]                                                duoattention
  table.budgets F32 [L]                                                   evolkv
"""
from dataclasses import replace

import numpy as np

NAMES = ["compresskv", "headkv", "razorattention", "duoattention"]
UNBUDGETED = {"razorattention", "duoattention"}
WINDOWS = {"compresskv": 8, "headkv": 32}
# Parameters of every general case: published buffers are longer than these prompts.
NEEDS = {"razorattention": {"local": 40}, "duoattention": {"sinks": 8, "recent": 50}}
BIG = {"group": 4, "budget": "96"}
MORE = {
    "compresskv": [
        ("five-layers", {"layers": 5, "params": {"kernel": 7, "pooling": "max"}, **BIG}),
        ("no-floor", {"layers": 4, "params": {"floor": 0, "window": 16}, **BIG}),
        ("ceiling-1", {"layers": 3, "params": {"ceiling": 1}, **BIG}),
        ("no-tables", {"tables": "", **BIG}),
        # one layer at the ceiling; of what the others get in turns three are left, two layers are equal
        # one too many, and the least important layer is at the floor
        ("too-many", {"tables": "compresskv 0 33 33 34", "layers": 4, "group": 2, "budget": "34", "steps": 0}),
        ("sharp", {"tables": "compresskv 192 1 4 1 2", "layers": 5, "tokens": 320, "steps": 0, **BIG}),
    ],
    "headkv": [
        ("mostly-shared", {"params": {"beta": 1.01, "window": 16}, **BIG}),
        ("hardly-shared", {"params": {"beta": 6.0}, "layers": 3, **BIG}),
        ("sharpened", {"params": {"temperature": 2.0, "window": 16, "kernel": 5, "pooling": "avg"}, **BIG}),
        ("query-heads", {"params": {"granularity": "query_head"}, **BIG}),
        ("no-table", {"tables": "", **BIG}),
    ],
    "razorattention": [
        ("share-of-the-prompt", {"params": {"local": 10, "share": 4}, "group": 4}),
        ("follows-the-length", {"params": {"local": 10, "share": 4, "buffer": "length"}, "group": 4, "steps": 60}),
        ("as-published-code", {"params": {"local": 252, "share": 0, "weighted": False, "absorb": False},
                               "tokens": 300}),
        ("no-sinks", {"params": {"local": 20, "share": 0, "sinks": 0}, "group": 2}),
        ("fills-in-decode", {"params": {"local": 60, "share": 0}, "tokens": 50, "group": 4}),
        ("all-short", {"tables": ""}),
    ],
    "duoattention": [
        ("sparsity-0.25", {"params": {"sparsity": 0.25}, "heads": 4, "group": 2}),
        ("sparsity-1", {"params": {"sparsity": 1.0}, "group": 4}),
        ("fills-in-decode", {"params": {"recent": 60}, "tokens": 50, "group": 4}),
        ("all-streaming", {"tables": ""}),
        ("defaults", {"params": {"sinks": None, "recent": None}, "tokens": 350, "steps": 4}),
    ],
}


def adapt(method, cases):
    """The cases of one method, the general ones with its tables and the parameters that it needs."""
    if method not in NAMES:
        return cases
    make, common = type(cases[0]), NEEDS.get(method, {})
    cases = [replace(case, tables=method, params={**common, **case.params}) for case in cases]
    return cases + [make(name, **{"tables": method, **own, "params": _params(common, own.get("params", {}))})
                    for name, own in MORE[method]]


def _params(common, own):
    """Both, less those that `own` leaves to their defaults by None."""
    return {name: value for name, value in {**common, **own}.items() if value is not None}


def add_tables(inputs, case):
    """Draws the tables of the method that the case names, from a generator of their own."""
    rng, layers, queries = np.random.default_rng([case.seed, 43]), case.layers, case.heads * case.group
    if case.tables.startswith("compresskv"):
        voting = np.zeros((layers, queries), np.float32)
        for row in voting:
            row[rng.permutation(queries)[:max(1, queries // 2)]] = 1
        inputs["table.voting_heads"] = voting
        given = [float(number) for number in case.tables.split()[1:]]
        inputs["table.importance"] = np.float32(given or rng.dirichlet(np.full(layers, 1.5)))
    elif case.tables == "headkv":
        inputs["table.head_scores"] = rng.gamma(0.8, size=(layers, queries)).astype(np.float32)
    elif case.tables == "razorattention":
        inputs["table.retrieval"] = (rng.random((layers, case.heads)) < 0.4).astype(np.uint8)
    elif case.tables == "duoattention":
        inputs["table.gates"] = rng.random((layers, case.heads)).astype(np.float32)
    elif case.tables.startswith("evolkv"):
        inputs["table.budgets"] = np.array(case.tables.split()[1:], np.float32)
