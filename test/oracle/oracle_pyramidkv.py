# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""PyramidKV (arXiv 2406.02069), integer form: SnapKV with budgets that fall linearly with depth.

Parity. `slope` = whole is kvpress's: the window lies inside the slope, which is not divided in integers but rounded, and
does not begin above the S entries before the window; where its end is below w, or its begin below its end, all get B.
"""
from oracle_snapkv import choose
from oracle_support import (RowCache, decode_by_appending, layers_of, parameters, per_row_head, record_gap,
                            write_layer)

DEFAULTS = {"granularity": "kv_head", "slope": "prefix", "beta": 20, "window": 64, "kernel": 5, "pooling": "avg"}


def prefix_budgets(layers, tokens, budget, window, beta):
    """Rows of the prefix that each layer keeps; their mean is B - w (up to the integer step)."""
    mean, prefix = budget - window, tokens - window
    if tokens < 2 * mean or layers == 1:
        return [mean] * layers
    low = mean // beta
    high = 2 * mean - low
    if high >= prefix:
        high, low = prefix, 2 * mean - prefix
    step = (high - low) // (layers - 1)
    return [high - index * step for index in range(layers)]


def whole_budgets(layers, tokens, budget, window, beta):
    """Rows, window included, that each layer keeps; what is nearly half way between two integers is noted as a gap."""
    most = min(2 * budget - budget / beta, tokens - window)
    least = 2 * budget - most
    if layers == 1 or most < least or least < window:
        return [budget] * layers
    exact = [most - index * (most - least) / (layers - 1) for index in range(layers)]
    record_gap(min((abs(rows % 1 - 0.5) / rows for rows in exact if rows % 1 != 0.5), default=1.0))
    return [round(rows) for rows in exact]


def run(inputs, params, budget):
    """B = mean over layers, window included; T <= B keeps all, B <= window the newest B."""
    p = parameters(DEFAULTS, inputs, params)
    layers, result = layers_of(inputs), {}
    for layer in layers:
        layer = per_row_head(layer, p["granularity"])
        prefix_budget = None
        if layer.tokens > budget > p["window"]:
            shape = len(layers), layer.tokens, budget, p["window"], p["beta"]
            if p["slope"] == "whole":
                prefix_budget = whole_budgets(*shape)[layer.index] - p["window"]
            else:
                prefix_budget = prefix_budgets(*shape)[layer.index]
        cache = RowCache(layer)
        kept, scores = choose(layer, p, budget, prefix_budget)
        for head in range(layer.heads):
            cache.keep(head, kept[head])
        step_out = decode_by_appending(cache)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result
