# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Table of cases of methods that span layers, read selectively or need more than keys, values and queries.

cases.py merges what is here. Inputs beyond those of `apply` that an oracle of these methods reads:
  layers.i.task.q, layers.i.task.k   rows of a second pass over the prompt, at positions after it (kvcompose)
  layers.i.rollout.q                 queries of a draft answer (laq)
  classes                            U8 per prompt row and step: 0 ordinary, 1 special, 2 punctuation (fastgen)
What an oracle takes as a parameter or as classes and a method as a table of the request: see `as_called`.
"""
from dataclasses import replace

import numpy as np

from oracle_support import rope

NAMES = ["cake", "dynamickv", "kvcompose", "windowkv", "think", "quest", "fastgen", "finch", "fair", "shotkv", "laq",
         "fastkv", "pyramidinfer", "h2o-ring", "observed-attention"]
UNBUDGETED = {"think", "fastgen", "pyramidinfer"}
ALL_ROWS = {"h2o-ring", "observed-attention"}
WINDOWS = {"cake": 32, "dynamickv": 8, "windowkv": 32, "finch": 32, "fair": 64, "laq": 32, "fastkv": 8, "shotkv": 32}
# Fields that every general case of a method needs; a case's own parameters win.
NEEDS = {
    "windowkv": {"params": {"shared_layers": 1}},
    "quest": {"layers": 3},
    "kvcompose": {"task_rows": 40, "layers": 3},
    "laq": {"draft_rows": 8},
    "fastgen": {"classes": True, "params": {"history": 24}},
}
BIG = {"group": 4, "budget": "96"}
EACH = ("query-heads", {"params": {"granularity": "query_head"}, **BIG})
MORE = {
    "cake": [
        ("window-16", {"params": {"window": 16}, "query_rows": 16, **BIG}),
        ("five-layers", {"layers": 5, "params": {"window": 16}, **BIG}),
        ("one-cut", {"layers": 5, "params": {"window": 16, "cascade": False}, **BIG}),
        ("one-layer", {"layers": 1, **BIG}),
        ("taus", {"layers": 3, "params": {"tau1": 1.6, "tau2": 0.4}, **BIG}),
        ("gamma-0-max", {"params": {"gamma": 0.0, "pooling": "max", "kernel": 7}, **BIG}),
        ("capped", {"layers": 4, "tokens": 110, "params": {"window": 8, "tau2": 0.3}, "budget": "100"}),
        ("waits", {"tokens": 120, "params": {"wait_for_window": True}, "budget": "90"}),
        ("window-2", {"params": {"window": 2, "kernel": 1}, **BIG}),
    ],
    "dynamickv": [
        ("four-layers", {"layers": 4, **BIG}),
        ("six-layers", {"layers": 6, "params": {"radius": 1}, "budget": "40", "steps": 5}),
        ("eight-layers", {"layers": 8, "group": 2, "budget": "30", "steps": 5}),
        ("as-published", {"layers": 6, "params": {"final_update": False, "radius": 2}, "budget": "40"}),
        ("interval-2", {"layers": 5, "params": {"interval": 2}, **BIG}),
        ("avg-pooling", {"params": {"pooling": "avg", "kernel": 5, "window": 16}, **BIG}),
        ("one-layer", {"layers": 1, **BIG}),
        EACH,
        # shares that are truncated to one, and to nothing; layers that are full at once
        ("tight", {"layers": 8, "group": 2, "budget": "14", "steps": 2}),
        ("one-share", {"layers": 8, "heads": 1, "group": 2, "tokens": 120, "budget": "9", "steps": 2}),
        ("one-of-two", {"layers": 8, "group": 2, "tokens": 104, "params": {"radius": 1}, "budget": "10", "steps": 2}),
        ("all-or-nothing", {"layers": 8, "heads": 1, "group": 2, "tokens": 99, "params": {"radius": 1}, "budget": "9",
                            "steps": 2}),
    ],
    "kvcompose": [
        ("task-of-one", {"task_rows": 1, **BIG}),
        ("task-is-prompt", {"task_rows": 120, "tokens": 120, "budget": "60", "group": 2}),
        ("ragged", {"params": {"structured": False}, **BIG}),
        ("means", {"params": {"agg_task": "mean", "add_mean_across_heads": False}, **BIG}),
        ("maxima", {"params": {"agg_group": "max", "agg_head": "max"}, **BIG}),
        ("value-norms", {"params": {"add_v_norm": True}, **BIG}),
        ("lower-bound", {"params": {"keep_lower_bound": 39}, "group": 4, "budget": "40"}),
        ("one-layer", {"layers": 1, **BIG}),
    ],
    "windowkv": [
        ("average", {"params": {"strategy": "average"}, **BIG}),
        ("shared-2", {"layers": 4, "params": {"shared_layers": 2}, **BIG}),
        ("one-group", {"params": {"shared_layers": 2}, **BIG}),
        ("blocks-of-5", {"params": {"block": 5, "suffix": 11}, **BIG}),
        ("blocks-of-1", {"params": {"block": 1, "strategy": "average"}, **BIG}),
        ("beta-2", {"layers": 4, "params": {"beta": 2}, "budget": "141"}),
        ("rest-of-the-layers", {"layers": 5, "params": {"shared_layers": 2, "beta": 3, "suffix": 20}, **BIG}),
        ("steep", {"layers": 6, "params": {"shared_layers": 3, "beta": 1, "strategy": "average"}, "group": 2, "budget": "60"}),
        ("first-keeps-all", {"tokens": 110, "layers": 3, "params": {"block": 3, "suffix": 10}, "group": 2, "budget": "70"}),
        ("short-block", {"layers": 6, "params": {"strategy": "average", "block": 50, "suffix": 11, "beta": 2}, "tokens": 171,
                         "group": 2, "budget": "120", "steps": 2}),
        ("published-groups", {"layers": 17, "params": {"shared_layers": None, "suffix": 12}, "tokens": 70, "group": 2,
                              "budget": "44", "steps": 0}),
        ("one-block-each", {"layers": 4, "params": {"block": 64, "beta": 4}, "tokens": 300, "group": 2, "budget": "120"}),
    ],
    "think": [
        ("ratio-0", {"params": {"ratio": 0.0}, "tokens": 150}),
        ("ratio-0.75", {"params": {"ratio": 0.75}, "tokens": 150, "group": 4}),
        ("window-1", {"params": {"window": 1}, "tokens": 150}),
        ("recent-0", {"params": {"recent": 0}, "tokens": 150, "group": 4}),
        ("recent-100", {"params": {"recent": 100}, "tokens": 110, "dim": 64}),
        ("no-query-rows", {"query_rows": 0, "rejected": "layers.0.q"}),
        ("query-heads", {"params": {"granularity": "query_head"}, "tokens": 150, "group": 4}),
    ],
    "quest": [
        ("every-layer", {"params": {"dense_layers": []}, **BIG}),
        ("sum", {"params": {"group": "sum"}, **BIG}),
        ("per-query-head", {"params": {"group": "none"}, **BIG}),
        ("best", {"params": {"select": "best"}, **BIG}),
        ("best-of-few", {"params": {"select": "best", "page": 5}, "group": 2, "budget": "11"}),
        ("pages-of-1", {"params": {"page": 1}, "group": 2, "budget": "50"}),
        ("pages-of-7", {"params": {"page": 7}, "group": 4, "budget": "50", "dtype": "F16"}),
    ],
    "fastgen": [
        # Shares between those of adjacent policies, so that heads differ.
        *[(f"recovery-{share}", {"params": {"recovery": share}, "tokens": 120, "heads": 4, "group": 2, "layers": 3})
          for share in (0.0, 0.16, 0.2, 0.24, 0.5, 0.81, 0.945)],
        *[(f"few-heavy-{share}", {"params": {"recovery": share, "heavy": 0.1, "local": 0.05}, "tokens": 120, "heads": 4})
          for share in (0.56, 0.66)],
        ("short-history", {"params": {"recovery": 0.6, "history": 12}, "tokens": 120, "heads": 4}),
        ("whole-history", {"params": {"recovery": 0.6, "history": 400}, "tokens": 60, "heads": 4, "group": 2}),
        ("no-classes", {"params": {"recovery": 0.5}, "tokens": 120, "classes": False}),
        ("recovery-beyond", {"params": {"recovery": 1.1}, "tokens": 120, "group": 4}),
        ("more-globals-than-rows", {"params": {"recovery": 0.6, "global_tokens": 30}, "tokens": 20, "group": 4}),
        ("no-globals", {"params": {"recovery": 0.7, "global_tokens": 0, "heavy": 0.2}, "tokens": 60, "heads": 4}),
        ("own-keys", {"params": {"recovery": 0.89, "local": 0.0, "heavy": 0.4}, "tokens": 60, "heads": 4, "layers": 4}),
        ("fills-history", {"params": {"recovery": 0.6, "history": 30}, "tokens": 20, "heads": 4, "steps": 50}),
        ("f16-short", {"params": {"recovery": 0.6, "heavy": 0.15}, "tokens": 50, "heads": 4, "group": 2, "dtype": "F16",
                       "steps": 60}),
        ("too-few-query-rows", {"tokens": 60, "query_rows": 59, "rejected": "layers.0.q"}),
    ],
    "finch": [
        ("question-10", {"params": {"question": 10}, "query_rows": 10, **BIG}),
        ("shifted", {"params": {"counts": "shifted"}, **BIG}),
        ("plain-sum", {"params": {"counts": "none", "rerotate": False}, **BIG}),
        ("chunks", {"params": {"chunk": 70, "question": 12}, **BIG}),
        ("one-question-row", {"params": {"question": 1}, **BIG}),
        ("plain-sum-moved", {"params": {"counts": "none", "question": 20}, **BIG}),
        ("unmoved", {"params": {"rerotate": False, "question": 20}, **BIG}),
    ],
    "fair": [
        (f"{base}-{kind}", {"params": {"base": base, "window": 16, **extra}, **BIG})
        for base in ("snapkv", "streaming-llm", "tova", "h2o", "knorm")
        for kind, extra in (("spans", {"spans": [70]}), ("three", {"spans": [20, 130]}),
                            ("list", {"whitelist": [5, 6, 90]}), ("both", {"spans": [70], "whitelist": [5, 6, 90]}))
    ] + [("list-too-long", {"params": {"whitelist": list(range(97))}, "rejected": "whitelist", **BIG}),
         ("list-outside", {"params": {"whitelist": [200]}, "rejected": "whitelist", **BIG})],
    "shotkv": [
        (f"shots-{budget}", {"params": {"shots": [10, 60, 60, 75, 80, 150, 160, 190]}, "budget": budget, "group": 4})
        for budget in ("40", "70", "96", "150")
    ] + [(f"many-shots-{budget}", {"params": {"shots": [n for i in range(4, 150, 9) for n in (i, i + 9 - i % 4)], "window": 8},
                         "tokens": 170, "budget": budget, "group": 2, "layers": 3}) for budget in ("60", "110")
    ] + [(f"single-tokens-{budget}", {"params": {"shots": [0, 30, *(n for i in range(30, 60, 3)
                                                                    for n in (i, i + 1, i + 1, i + 3)), 60, 61, 61, 90,
                                                           90, 91, 91, 92, 92, 120], "window": 4}, "tokens": 130, "budget": budget, "group": 2, "heads": 4,
                                      "layers": 4, "steps": 4}) for budget in ("25", "30", "55", "75")
    ] + [("decode-1", {"params": {"shots": [10, 120], "decode_ratio": 1.0}, "budget": "100"}),
         ("decode-0.1", {"params": {"shots": [10, 60, 70, 140], "decode_ratio": 0.1, "window": 4}, "budget": "130"})],
    "laq": [
        ("no-draft", {"params": {"lookahead": 0}, **BIG}),
        ("draft-only", {"params": {"window": 0}, **BIG}),
        ("three-rows", {"params": {"lookahead": 3}, **BIG}),
        ("triangle", {"params": {"mask": "triangle"}, **BIG}),
        ("triangle-narrow", {"params": {"mask": "triangle", "window": 2}, **BIG}),
        ("many-drafts", {"draft_rows": 12, **BIG}),
        ("short-draft", {"draft_rows": 2, **BIG}),
        ("window-20-avg", {"params": {"window": 20, "pooling": "avg", "kernel": 5}, **BIG}),
        EACH,
    ],
    "fastkv": [
        ("drop-after-0", {"layers": 3, "params": {"tsp_layer": 0, "tsp_length": 120}, **BIG}),
        ("drop-below-budget", {"layers": 4, "params": {"tsp_layer": 1, "tsp_length": 60}, **BIG}),
        ("proportional", {"layers": 4, "params": {"tsp_layer": 1, "sizing": "proportional", "tsp_rate": 0.5}, **BIG}),
        ("window-16", {"layers": 3, "params": {"tsp_layer": 1, "tsp_length": 99, "window": 16, "pooling": "avg"}, **BIG}),
        ("published-rate", {"layers": 3, "params": {"tsp_layer": 1, "sizing": "proportional"}, "tokens": 333, "group": 4,
                            "budget": "40"}),
        ("published-layer", {"layers": 17, "params": {"tsp_length": 40}, "tokens": 60, "group": 2, "budget": "20", "steps": 2}),
        ("fits", {"layers": 3, "params": {"tsp_layer": 0, "tsp_length": 60}, "tokens": 100, "group": 4, "budget": "120"}),
    ],
    "pyramidinfer": [
        ("steep", {"layers": 4, "params": {"prefill_decay": 0.3, "min_context": 16}, "tokens": 150, "group": 4}),
        ("interval-2", {"layers": 5, "params": {"prefill_decay": 0.3, "interval": 2, "min_context": 8}, "tokens": 120}),
        ("rho-1", {"params": {"prefill_decay": 1.0}, "tokens": 120, "group": 4}),
        ("thinned-often", {"layers": 3, "params": {"exceed": 4, "prefill_decay": 0.5, "recent_ratio": 0.1}, "tokens": 90,
                           "group": 4}),
        ("steep-weights", {"layers": 4, "params": {"distance_weight": 40.0, "prefill_decay": 0.3, "min_context": 16,
                                                   "recent_ratio": 0.08, "exceed": 6, "gen_keep": 0.7}, "tokens": 150,
                           "group": 2, "steps": 60}),
        ("small-context", {"layers": 3, "params": {"prefill_decay": 0.5, "recent_ratio": 0.5, "exceed": 3}, "tokens": 30,
                           "group": 4, "steps": 30}),
        ("flat-weights", {"layers": 3, "params": {"distance_weight": 1.0, "sinks": 0, "prefill_decay": 0.5,
                                                  "min_context": 8}, "tokens": 120, "dtype": "F16"}),
    ],
    "h2o-ring": [("odd", {"group": 4, "budget": "41"}), ("many-steps", {"budget": "20", "steps": 80, "group": 2}), EACH],
    "observed-attention": [
        ("sums-and-window", {"params": {"normalize": False, "window": 32}, **BIG}),
        ("window-20", {"params": {"window": 20}, **BIG}),
        EACH,
    ],
}


def adapt(method, cases):
    """The cases of one method, the general ones with the fields that it needs."""
    if method not in NAMES:
        return cases
    make, needs = type(cases[0]), NEEDS.get(method, {})
    fields = {name: value for name, value in needs.items() if name != "params"}
    common = needs.get("params", {})
    cases = [replace(case, **fields, params={**common, **case.params}) for case in cases]
    if method == "think":
        cases = [replace(case, query_rows=32) if case.query_rows == 0 else case for case in cases]
    if method == "fair":
        cases = [case if case.rejected else replace(case, query_rows=None) for case in cases]
    if method in ("fastgen", "pyramidinfer"):
        cases = [replace(case, query_rows=None) for case in cases]
    if method == "shotkv":
        cases = [replace(case, params={"shots": _four_shots(case.tokens), **case.params}) for case in cases]
    return cases + [make(name, **{**fields, **own, "params": _params(common, own.get("params", {}))})
                    for name, own in MORE.get(method, [])]


def _params(common, own):
    """Both, less those that `own` leaves to their defaults by None."""
    return {name: value for name, value in {**common, **own}.items() if value is not None}


def _four_shots(tokens):
    """Start and end of four shots of different lengths, two of them adjacent, with rows outside of all."""
    return [tokens * part // 40 for part in (2, 9, 9, 14, 16, 29, 30, 37)]


def add_extras(inputs, case, act):
    """Draws the inputs named above where the case asks for them, from a generator of their own."""
    rng = np.random.default_rng([case.seed, 71])
    freq = inputs["rope_inv_freq"].astype(np.float64)
    if case.classes:
        inputs["classes"] = rng.choice([0, 1, 2], case.tokens + case.steps, p=[0.85, 0.05, 0.1]).astype(np.uint8)
    last = inputs["positions"][-1] if "positions" in inputs else case.tokens - 1

    def beyond(heads, rows):
        return rope(rng.standard_normal((heads, rows, case.dim)), last + 1 + np.arange(rows), freq)

    for index in range(case.layers):
        if case.task_rows:
            inputs[f"layers.{index}.task.q"] = act(1.3 * beyond(case.heads * case.group, case.task_rows))
            inputs[f"layers.{index}.task.k"] = act(beyond(case.heads, case.task_rows))
        if case.draft_rows:
            inputs[f"layers.{index}.rollout.q"] = act(1.3 * beyond(case.heads * case.group, case.draft_rows))


BASES = {"snapkv": {}, "tova": {"base": "span-votes", "kernel": 1, "per_layer": True},
         "h2o": {"base": "span-votes", "kernel": 1, "window": 0}, "knorm": {"base": "knorm"}, "streaming-llm": {"base": "recency"}}


def is_called(method, case):
    """Whether the method is called with a case: not where a table of each token cannot say what is wrong (fair), for
    chunks, for positions with holes, which the method closes while it reads, and in bf16, where keys that are rounded
    before their rotation are further from those rounded after it than any tolerance (finch)."""
    if method == "razorattention":  # a mean that grows by one entry a step is rounded to the 8 bits of bf16 at every step
        return case.dtype != "BF16"
    if method == "finch":
        return "chunk" not in case.params and not case.start and case.dtype != "BF16"
    return method != "fair" or case.rejected != "whitelist"


def shows_scores(method, case, params):
    """Whether scores can be compared: not where a selection ranks parts of the prompt (fair), nor where keys are held
    before RoPE in 16 bits, which the oracle rounds after it. What is kept is compared in either case."""
    return method != "fair" and not (holds_before_rope(method, params) and case.dtype != "F32")


def holds_before_rope(method, params):
    """Whether keys are held before RoPE, so that no row that is read is one of the input bit for bit."""
    return method == "finch" and params.get("rerotate", True)


def ids_of(classes):
    """Token ids of these classes: 3 and 250 are special, 33, 44 and 46 punctuation."""
    known = {0: 100 + np.arange(90), 1: np.array([3, 250]), 2: np.array([33, 44, 46])}
    return np.array([known[kind][row % len(known[kind])] for row, kind in enumerate(classes)], np.int32)


def as_called(method, params, inputs, tokens):
    """(parameters, tensors) of the call that the oracle's parameters stand for: tables of the request, and token ids."""
    params, tables, tensors = dict(params), {}, {}
    if method == "shotkv":
        shots = params.pop("shots", [])
        inside = np.zeros(tokens, bool)
        for start, end in zip(shots[::2], shots[1::2]):
            inside[start:end] = True
        tables = {"shots": sorted({edge for edge in shots if 0 < edge < tokens} | {tokens}), "keep": ~inside}
    if method == "fastgen":
        rows = tokens + (inputs["layers.0.step.k"].shape[1] if "layers.0.step.k" in inputs else 0)
        tensors["ids"] = ids_of(inputs.get("classes", np.zeros(rows, np.uint8)))
        tables = {"special": [3, 250], "punctuation": [33, 44, 46]}
    if method == "fair":
        spans, forced = params.pop("spans", []), params.pop("whitelist", [])
        tables = {"segments": [*spans, tokens], "keep": np.bincount(np.array(forced, int), minlength=tokens)}
        own = {"window": params.get("window", 64), "kernel": params.get("kernel", 5)}
        params = {**own, **BASES[params.get("base", "snapkv")]}
        if params.get("base", "span-votes") != "span-votes":
            params = {"base": params["base"]}
        elif params.get("per_layer"):
            params["window"] = len(spans) + 1
    if method == "pyramidinfer" and int(tokens * params.get("recent_ratio", 0.2)) < 16:
        params["history"] = 16  # so that rows of decode steps take the place of old ones
    if method == "finch":
        tables = {"question": [min(params.pop("question", 32), tokens)]}
        params["window"] = max(tables["question"][0], 32 if inputs["layers.0.q"].shape[1] > 32 else 0) if "layers.0.q" in inputs else 32
        counts = params.pop("counts", "visible")
        if counts == "none":
            params["weigh"] = False
        if counts != "visible":
            params["offset"] = 0
        if params["window"] == 32:
            del params["window"]
    tensors.update({f"request.{name}": np.array(table, np.int32) for name, table in tables.items()})
    return params, tensors
