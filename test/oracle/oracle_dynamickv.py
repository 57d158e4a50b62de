# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""DynamicKV (arXiv 2412.14838): layer budgets from a top-k over all layers and heads, revised every few layers.

Parity. `granularity` = query_head keeps K and V per query head, as the published code does.

Readings. Scores are per KV head: row sums, mean over the group, then pooled. T <= B keeps all, B <= w the newest B.
The published code revises after layers 3, 7, 11, ... only; `final_update` also revises after the last layer, so that
B holds on average whatever L is. Shares are truncated in integer arithmetic. Where truncation leaves nothing to share
out (tiny budgets), the counts themselves are the shares.
"""
import numpy as np

from oracle_support import by_group, forced, layers_of, parameters, per_row_head, pool, top_k
from prompt_cut import trivial_cut, window_rows, with_newest, write_prompt_cut

DEFAULTS = {"granularity": "kv_head", "window": 8, "kernel": 7, "pooling": "max", "radius": 10, "interval": 4,
            "final_update": True}


def prefix_scores(layer, window, kernel, pooling):
    """A [Hkv, S]: sum over the window's rows, mean over the group, pooled."""
    votes = by_group(window_rows(layer, window).sum(axis=1), layer.heads).mean(axis=1)
    return pool(votes, pooling, kernel)


def by_score(scores, count):
    """Entries of one head by descending f32 score, ties to the lowest index: the first `count`."""
    chosen = top_k(scores, count)
    return chosen[np.argsort(-scores[chosen].astype(np.float32), kind="stable")]


def layer_budgets(scores, mean, temporary, layers):
    """Prefix entries granted to each of the layers seen so far, before the cap by what a layer still holds.

    scores: A [m, Hkv, S] of the m layers seen; mean: B - w; temporary: prefix entries of a fresh layer; layers: L.
    """
    seen, heads, prefix = scores.shape
    chosen = top_k(scores.reshape(-1), mean * heads * seen)
    counts = np.bincount(chosen // (heads * prefix), minlength=seen)
    shares = counts // seen
    if seen == layers:
        shares[-1] += len(chosen) // layers - shares.sum()
    if not shares.sum():
        shares = counts
    raw = temporary * shares // shares.sum()
    if not raw.sum():
        raw = shares
    budgets = raw * mean * layers // raw.sum()
    budgets[-1] += mean * layers - budgets.sum()
    return budgets.tolist()


def held_after_prompt(scores, mean, radius, interval, final_update):
    """Prefix entries [L] that each layer ends with. scores: A [L, Hkv, S]."""
    layers, _, prefix = scores.shape
    temporary = min(radius * mean, prefix)
    held = []
    for seen in range(1, layers + 1):
        held.append(temporary)
        if seen % interval == 0 or (final_update and seen == layers):
            granted = layer_budgets(scores[:seen], mean, temporary, layers)
            held = [min(old, new) for old, new in zip(held, granted)]
    return held


def run(inputs, params, budget):
    """B = mean over layers, window included; the same for every head of a layer; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    layers, window, result = [per_row_head(layer, p["granularity"]) for layer in layers_of(inputs)], p["window"], {}
    kept, scores = [trivial_cut(layer, window, budget) for layer in layers], [None] * len(layers)
    if kept[0] is None:
        scores = np.array([prefix_scores(layer, window, p["kernel"], p["pooling"]) for layer in layers])
        held = held_after_prompt(scores, budget - window, p["radius"], p["interval"], p["final_update"])
        kept = [with_newest([top_k(row, count) for row in s], layer, window)
                for layer, s, count in zip(layers, scores, held)]
        scores = [forced(s, layer.tokens) for layer, s in zip(layers, scores)]
    for layer in layers:
        write_prompt_cut(result, layer, kept[layer.index], scores[layer.index])
    return result
