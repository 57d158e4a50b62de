# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""DBudgetKV, later ReFreeKV (arXiv 2502.16886): evict in a fixed order until the attention norm has dropped by theta.

Candidates leave in one order; N(p) = norm of the attention of those that stay when p have left; the cut is the
largest p <= n - 1 whose loss 1 - N(p) / N(0), with N averaged over heads, is at most theta. One cut per layer, no
budget. order=position is the paper: the first `safe` entries stay, the others leave oldest first. order=h2o is the
published script (with metric=last, theta=0.05, safe=8): the newest `safe` stay, each head drops by ascending
accumulated attention. metric=rows takes the last `window` rows, each key's sum over the number of rows that see it.

Chosen where what is published leaves a choice: norms=group takes the group-mean row of each KV head, norms=query
averages the norms of all query heads; N(0) = 0 loses nothing; among equal sums the older entry leaves first. An order
by another scorer is not transcribed.
"""
import numpy as np

from oracle_support import (RowCache, by_group, decode_by_appending, layers_of, parameters, per_row_head,
                            prompt_probabilities, record_cut, write_layer)

DEFAULTS = {"theta": 0.01, "safe": 4, "order": "position", "metric": "last", "window": 8, "norms": "group",
            "skip_layers": [], "granularity": "kv_head"}


def suffix_norms(attention):
    """N(p) [.., n] for p = 0 .. n - 1 of candidates [.., n] in the order in which they leave."""
    return np.sqrt(np.cumsum((attention ** 2)[..., ::-1], axis=-1)[..., ::-1])


def longest_cut(norms, theta):
    """p* of mean norms [n] (non-increasing): the largest p with 1 - N(p) / N(0) <= theta."""
    if norms[0] == 0.0:
        return len(norms) - 1
    record_cut(norms, [(1.0 - theta) * norms[0]])
    return int(np.flatnonzero(norms[0] - norms <= theta * norms[0])[-1])


def attention_of(layer, metric, window):
    """[Hq, T]: the last row's probabilities, or those of the last rows over the rows that see each key."""
    if metric == "last":
        return prompt_probabilities(layer, 1)[:, 0]
    rows = min(window, layer.tokens)
    seen = np.minimum(rows, layer.tokens - np.arange(layer.tokens))
    return prompt_probabilities(layer, rows).sum(axis=1) / seen


def leaving_order(layer, p):
    """Candidates [Hkv, n] in the order in which they leave."""
    tokens, safe = layer.tokens, min(p["safe"], layer.tokens)
    if p["order"] == "position":
        return np.tile(np.arange(safe, tokens), (layer.heads, 1))
    sums = by_group(prompt_probabilities(layer, tokens).sum(axis=1), layer.heads).mean(axis=1)[:, :tokens - safe]
    order = np.argsort(sums.astype(np.float32), axis=1, kind="stable")
    return order


def dropped(layer, p):
    """Entries [Hkv, p*] that leave a layer."""
    order = leaving_order(layer, p)
    if order.shape[1] == 0:
        return order
    attention = by_group(attention_of(layer, p["metric"], p["window"]), layer.heads)
    if p["norms"] == "group":
        attention = attention.mean(axis=1, keepdims=True)
    norms = suffix_norms(np.take_along_axis(attention, order[:, None], axis=2))
    cut = longest_cut(norms.mean(axis=(0, 1)), p["theta"])
    if p["order"] != "position":
        _record_order(layer, order, cut)
    return order[:, :cut]


def _record_order(layer, order, cut):
    """Notes the gap between the sums on both sides of the cut."""
    sums = by_group(prompt_probabilities(layer, layer.tokens).sum(axis=1), layer.heads).mean(axis=1)
    for row, leaving in zip(sums, order):
        if 0 < cut < len(leaving):
            record_cut(row[leaving], [row[leaving[cut - 1]]])


def run(inputs, params, budget=None):
    """Cuts once at the end of the prompt; decode appends. budget must be None."""
    assert budget is None
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        layer = per_row_head(layer, p["granularity"])
        cache = RowCache(layer)
        if layer.index not in p["skip_layers"]:
            for head, gone in enumerate(dropped(layer, p)):
                cache.keep(head, np.delete(np.arange(layer.tokens), gone))
        step_out = decode_by_appending(cache)
        write_layer(result, layer, cache, step_out=step_out)
    return result
