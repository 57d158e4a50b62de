# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""SnapKV (arXiv 2404.14469): the last w prompt queries vote, pooled, for the prefix rows to keep."""
import numpy as np

from oracle_support import (RowCache, by_group, decode_by_appending, forced, layers_of, parameters, per_row_head, pool,
                            prompt_probabilities, top_k, write_layer)

DEFAULTS = {"granularity": "kv_head", "window": 64, "kernel": 5, "pooling": "avg"}


def prefix_scores(layer, window, kernel, pooling):
    """[Hkv, S]: sum over the window's rows, pool per query head, mean over the group. S = T - w."""
    prefix = layer.tokens - window
    votes = prompt_probabilities(layer, window)[:, :, :prefix].sum(axis=1)
    return by_group(pool(votes, pooling, kernel), layer.heads).mean(axis=1)


def choose(layer, p, budget, prefix_budget=None):
    """(kept entries per head, scores or None). prefix_budget: rows of the prefix, B - w by default."""
    tokens, window = layer.tokens, p["window"]
    if tokens <= budget:
        return [np.arange(tokens)] * layer.heads, None
    if budget <= window:
        return [np.arange(tokens - budget, tokens)] * layer.heads, None
    scores = prefix_scores(layer, window, p["kernel"], p["pooling"])
    count = budget - window if prefix_budget is None else prefix_budget
    newest = np.arange(tokens - window, tokens)
    kept = [np.concatenate([top_k(scores[head], count), newest]) for head in range(layer.heads)]
    return kept, forced(scores, tokens)


def run(inputs, params, budget):
    """B = window + the B - window best of the prefix, per KV head; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        layer = per_row_head(layer, p["granularity"])
        cache = RowCache(layer)
        kept, scores = choose(layer, p, budget)
        for head in range(layer.heads):
            cache.keep(head, kept[head])
        step_out = decode_by_appending(cache)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result
