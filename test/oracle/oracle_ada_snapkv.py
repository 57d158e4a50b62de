# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Ada-KV over SnapKV scores (arXiv 2407.11550): a top-k over all heads of a layer sets each head's budget.

Parity. `guarantee` = force is kvpress's: the best int(floor B) entries of each head, of which the window's are the first,
are sure before the top-k over all heads, and what lies in a head is what it keeps; mix is the paper's sum.
"""
import math

import numpy as np

from oracle_support import (RowCache, by_group, decode_by_appending, forced, layers_of, parameters, per_row_head, pool,
                            prompt_probabilities, top_k, write_layer)

DEFAULTS = {"granularity": "kv_head", "window": 32, "kernel": 7, "pooling": "max", "floor": 0.2, "normalize": False,
            "guarantee": "mix"}


def window_scores(layer, p):
    """[Hkv, S]: mean over the window's rows, mean over the group, then pool."""
    prefix = layer.tokens - p["window"]
    votes = prompt_probabilities(layer, p["window"])[:, :, :prefix].mean(axis=1)
    return pool(by_group(votes, layer.heads).mean(axis=1), p["pooling"], p["kernel"])


def head_budgets(scores, mean, floor, normalize, sure=0):
    """Prefix rows per head: B_h = round((1 - f) c_h + floor(f B)), half to even; c_h from all heads' best H B. sure: so
    many rows of each head are among these."""
    heads, prefix = scores.shape
    ranked = -np.sort(-scores, axis=1)
    if normalize:
        ranked = ranked * (ranked[:, :mean].sum(axis=1) / ranked.sum(axis=1))[:, None]
    ranked[:, :max(0, sure)] = np.inf
    flat = ranked.reshape(-1)
    chosen = top_k(flat, heads * mean)
    counts = np.bincount(chosen // prefix, minlength=heads)
    guaranteed = math.floor(floor * mean)
    return [min(prefix, int(np.rint((1.0 - floor) * count + guaranteed))) for count in counts]


def run(inputs, params, budget):
    """Mean over heads = B, window included; the window always stays; decode appends to every head."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        layer = per_row_head(layer, p["granularity"])
        cache, scores, tokens, window = RowCache(layer), None, layer.tokens, p["window"]
        if tokens > budget and budget <= window:
            for head in range(layer.heads):
                cache.keep(head, np.arange(tokens - budget, tokens))
        elif tokens > budget:
            votes = window_scores(layer, p)
            if p["guarantee"] == "force":
                sure = math.floor(p["floor"] * budget + 1e-9) - window
                budgets = head_budgets(votes, budget - window, 0.0, p["normalize"], sure)
            else:
                budgets = head_budgets(votes, budget - window, p["floor"], p["normalize"])
            newest = np.arange(tokens - window, tokens)
            for head in range(layer.heads):
                cache.keep(head, np.concatenate([top_k(votes[head], budgets[head]), newest]))
            scores = forced(votes, tokens)
        step_out = decode_by_appending(cache)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result
