# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""PyramidKV (arXiv 2406.02069), integer form: SnapKV with budgets that fall linearly with depth."""
from oracle_snapkv import choose
from oracle_support import RowCache, decode_by_appending, layers_of, parameters, per_row_head, write_layer

DEFAULTS = {"granularity": "kv_head", "beta": 20, "window": 64, "kernel": 5, "pooling": "avg"}


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


def run(inputs, params, budget):
    """B = mean over layers, window included; T <= B keeps all, B <= window the newest B."""
    p = parameters(DEFAULTS, inputs, params)
    layers, result = layers_of(inputs), {}
    for layer in layers:
        layer = per_row_head(layer, p["granularity"])
        prefix_budget = None
        if layer.tokens > budget > p["window"]:
            prefix_budget = prefix_budgets(len(layers), layer.tokens, budget, p["window"], p["beta"])[layer.index]
        cache = RowCache(layer)
        kept, scores = choose(layer, p, budget, prefix_budget)
        for head in range(layer.heads):
            cache.keep(head, kept[head])
        step_out = decode_by_appending(cache)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result
