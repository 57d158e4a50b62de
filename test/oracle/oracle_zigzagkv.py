# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""ZigZagKV (arXiv 2412.09036): layers get budgets by how many tokens they need to hold their attention mass.

Open in what is published, chosen here: the window of 64 and B_min = 0.1 B of the port; the inner scorer is SnapKV's
with its defaults, window included in a layer's budget, which keeps only the newest where it is at most the window. A
layer above T is cut to T and what it leaves is shared by the others in the same proportion, then layers below 1 are
raised to 1; integers by largest remainder, the lower layer first among equals. B <= w keeps the newest B.
"""
import numpy as np

import oracle_snapkv
from integer_budgets import by_largest_remainder
from oracle_support import (RowCache, decode_by_appending, layers_of, parameters, per_row_head, prompt_probabilities,
                            record_cut, write_layer)

# mass: P_th. bound: B_min / B.
DEFAULTS = {"granularity": "kv_head", "window": 64, "kernel": 5, "pooling": "avg", "mass": 0.9, "bound": 0.1}


def needed(attention, mass):
    """MBA of one head: the smallest n whose n largest of [T] hold `mass` of the sum."""
    held = np.cumsum(np.sort(attention)[::-1]) / attention.sum()
    record_cut(held, [mass])
    return int(np.argmax(held >= mass - 1e-12)) + 1


def layer_need(layer, window, mass):
    """LMBA: the mean of MBA over query heads of the window's mean rows [Hq, T]."""
    return np.mean([needed(row, mass) for row in prompt_probabilities(layer, window).mean(axis=1)])


def layer_budgets(needs, budget, tokens, bound=0.1):
    """Integers [L] with sum L B in [1, T], near B_min + (B - B_min) L u for u = needs / sum(needs)."""
    needs = np.asarray(needs, np.float64)
    low, free = bound * budget, np.ones(len(needs), bool)
    real = np.zeros(len(needs))
    while free.any():
        rest = budget * len(needs) - real[~free].sum()
        real[free] = low + (rest - low * free.sum()) * needs[free] / needs[free].sum()
        outside = free & (real > tokens)
        limit = tokens
        if not outside.any():
            outside, limit = free & (real < 1), 1
        if not outside.any():
            break
        real[outside] = limit
        free &= ~outside
    return by_largest_remainder(real, budget * len(needs))


def run(inputs, params, budget):
    """B = mean over layers; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    layers, result = [per_row_head(layer, p["granularity"]) for layer in layers_of(inputs)], {}
    tokens, budgets = layers[0].tokens, [budget] * len(layers)
    if p["window"] < budget < tokens:
        needs = [layer_need(layer, p["window"], p["mass"]) for layer in layers]
        budgets = layer_budgets(needs, budget, tokens, p["bound"])
    for layer in layers:
        kept, scores = oracle_snapkv.choose(layer, p, int(budgets[layer.index]))
        cache = RowCache(layer)
        for head in range(layer.heads):
            cache.keep(head, kept[head])
        step_out = decode_by_appending(cache)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result
