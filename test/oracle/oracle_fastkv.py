# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""FastKV (arXiv 2502.01068): one layer picks the tokens of all deeper layers; cache sizes are chosen separately.

Layer `tsp_layer` is the last that sees the whole prompt. How an `apply` file stands for fewer tokens: token_drop.py.

Parity. `sizing` = constant: every layer holds B entries and deeper layers see `tsp_length` tokens. proportional: they
see floor(tsp_rate * T) tokens and every layer holds the same share of the prompt, floor(n * B / T) entries up to
`tsp_layer` and floor(n * B / (T * tsp_rate)) after it, about B everywhere.

Readings. A layer with at most as many tokens as it may hold keeps all of them and, as in the published code, passes all
of them on. Capacities of at most w keep the newest entries. Fewer layers than `tsp_layer`: no token is dropped.
"""
from fractions import Fraction

import numpy as np

from oracle_support import by_group, decode_by_appending, forced, layers_of, parameters, pool, top_k, write_layer
from prompt_cut import trivial_cut, window_rows, with_newest
from token_drop import SurvivorCache, surviving

DEFAULTS = {"tsp_layer": 15, "tsp_length": 2048, "tsp_rate": 0.2, "sizing": "constant", "window": 8, "kernel": 7,
            "pooling": "max"}


def head_scores(layer, p):
    """[Hkv, n - w]: row sums pooled per query head, sum over the group."""
    votes = pool(window_rows(layer, p["window"]).sum(axis=1), p["pooling"], p["kernel"])
    return by_group(votes, layer.heads).sum(axis=1)


def capacity(index, seen, tokens, budget, p):
    """Entries a layer holds. seen: tokens entering it, tokens: of the prompt."""
    if p["sizing"] == "constant":
        return budget
    if index <= p["tsp_layer"]:
        return seen * budget // tokens
    return int(seen * budget / (tokens * Fraction(str(p["tsp_rate"]))))


def passed_on(layer, scores, p):
    """Entry numbers of the tokens that deeper layers see; scores [Hkv, n - w]."""
    seen, window = layer.tokens, p["window"]
    count = p["tsp_length"] if p["sizing"] == "constant" else int(Fraction(str(p["tsp_rate"])) * seen)
    if seen <= count:
        return np.arange(seen)
    if count <= window:
        return np.arange(seen - count, seen)
    return with_newest([top_k(scores.sum(axis=0), count - window)], layer, window)[0]


def run(inputs, params, budget):
    """B = entries per KV head and layer; decode appends at the positions after the whole prompt."""
    p = parameters(DEFAULTS, inputs, params)
    layers, result = layers_of(inputs), {}
    total = layers[0].tokens
    tokens = np.arange(total)
    for whole in layers:
        layer, scores = surviving(whole, tokens), None
        room = capacity(whole.index, layer.tokens, total, budget, p)
        kept = trivial_cut(layer, p["window"], room)
        cache = SurvivorCache(layer, tokens, total)
        if layer.tokens > max(room, p["window"]):
            scores = head_scores(layer, p)
            if whole.index == p["tsp_layer"]:
                tokens = tokens[passed_on(layer, scores, p)]
            if kept is None:
                kept = with_newest([top_k(row, room - p["window"]) for row in scores], layer, p["window"])
        for head in range(layer.heads):
            cache.keep(head, kept[head])
        step_out = decode_by_appending(cache)
        shown = scores is not None and room > p["window"] and layer.tokens == total
        write_layer(result, layer, cache, scores=forced(scores, total) if shown else None, step_out=step_out)
    return result
