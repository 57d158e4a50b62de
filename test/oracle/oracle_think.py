# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""ThinK (arXiv 2407.21018): drop the key channels that contribute least to the logits of the last queries.

Pruned channels read as 0, which gives the logits of keys stored without them. Values and the last `recent` keys of
the prompt are untouched, and so is every later key.

Parity. `granularity` = query_head keeps K and V, and drops channels, per query head, as the published code does.

Readings. Without a budget every row stays; with one, SnapKV with its own defaults selects rows first (`window` of
ThinK counts query rows only) and the channels are scored on the kept keys. The mean over keys includes the recent
ones. At most `recent` rows: nothing is pruned.
"""
import numpy as np

import oracle_snapkv
from oracle_support import (RowCache, by_group, decode_by_appending, layers_of, parameters, per_row_head, top_k,
                            write_layer)

DEFAULTS = {"granularity": "kv_head", "ratio": 0.4, "recent": 32, "window": 32}


def channel_scores(queries, keys):
    """[D] of one KV head: mean over the group and rows of Q^2 [G, w, D] times the mean over entries of K^2 [n, D]."""
    return (queries ** 2).mean(axis=(0, 1)) * (keys ** 2).mean(axis=0)


def kept_channels(scores, ratio):
    """Channels [D - floor(D * ratio)] that stay, ascending."""
    return top_k(scores, len(scores) - int(np.floor(len(scores) * ratio)))


def prune(layer, cache, p):
    """Zeroes the dropped channels of all but the last `recent` keys of every head; returns the masks [Hkv, D]."""
    if layer.q is None or layer.q.shape[1] < min(p["window"], layer.tokens):
        raise ValueError(f"layers.{layer.index}.q: expected at least {p['window']} rows")
    masks = np.ones((layer.heads, layer.dim), bool)
    for head, queries in enumerate(by_group(layer.q[:, -p["window"]:], layer.heads)):
        keys = cache.k[head]
        if len(keys) > p["recent"]:
            masks[head] = np.isin(np.arange(layer.dim), kept_channels(channel_scores(queries, keys), p["ratio"]))
            keys[:len(keys) - p["recent"]] *= masks[head]
    return masks


def run(inputs, params, budget=None):
    """Every row stays, or B of them as SnapKV chooses; decode appends whole keys."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        layer = per_row_head(layer, p["granularity"])
        cache, scores = RowCache(layer), None
        if budget is not None:
            kept, scores = oracle_snapkv.choose(layer, oracle_snapkv.DEFAULTS, budget)
            for head in range(layer.heads):
                cache.keep(head, kept[head])
        prune(layer, cache, p)
        step_out = decode_by_appending(cache)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result
