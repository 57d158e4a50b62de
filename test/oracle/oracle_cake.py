# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""CAKE (ICLR 2025): layer budgets from entropy x variance of window attention, entries by mean + gamma * variance.

Readings. B is the mean capacity of a layer, window included. T <= B keeps all; `wait_for_window` is the official
condition, nothing happens before T > B + w (the prompt is then kept whole). A layer whose prompt was kept whole has
capacity B in decode. Freed budget is handed out once, so a layer may be granted more than it can hold.
"""
import numpy as np

from oracle_support import RowCache, by_group, forced, layers_of, parameters, pool, top_k, write_layer
from prompt_cut import record_floor, trivial_cut, window_rows, with_newest

DEFAULTS = {"window": 32, "kernel": 5, "pooling": "avg", "gamma": 200.0, "tau1": 1.0, "tau2": 1.0, "cascade": True,
            "wait_for_window": False}


def preference(rows, tau1, tau2):
    """H^(1/tau1) * V^(1/tau2) of one layer's P [Hq, w, S], over prefix columns that are not renormalised."""
    entropy = -(rows * np.log(rows + 1e-10)).sum()
    variance = rows.var(axis=1, ddof=1).sum()
    return entropy ** (1.0 / tau1) * variance ** (1.0 / tau2)


def entry_scores(rows, heads, gamma, kernel, pooling):
    """[Hkv, S]: mean + gamma * unbiased variance over the window's rows, pooled, mean over the group."""
    spread = rows.mean(axis=1) + gamma * rows.var(axis=1, ddof=1)
    return by_group(pool(spread, pooling, kernel), heads).mean(axis=1)


def _hand_out(budgets, amount, cap):
    """Adds `amount` evenly to the layers below the cap, one more to the first ones. No cap afterwards."""
    open_layers = [i for i, b in enumerate(budgets) if b < cap]
    for place, i in enumerate(open_layers):
        budgets[i] += amount // len(open_layers) + (place < amount % len(open_layers))


def layer_budgets(preferences, total, cap):
    """Prefix entries granted to each of the layers seen so far: proportional, truncated, capped, made up to `total`.

    Truncating never exceeds `total`, so that the last correction only adds.
    """
    shares = np.asarray(preferences, np.float64) / np.sum(preferences) * total
    wanted = [record_floor(share) for share in shares]
    budgets = [min(b, cap) for b in wanted]
    _hand_out(budgets, sum(wanted) - sum(budgets), cap)
    _hand_out(budgets, total - sum(budgets), cap)
    return budgets


def held_after_prompt(preferences, total, cap, cascade):
    """Prefix entries that each layer ends with: the smallest budget it was ever given (cascade), or the last one."""
    layers = len(preferences)
    held = [cap] * layers
    for seen in range(1 if cascade else layers, layers + 1):
        for i, budget in enumerate(layer_budgets(preferences[:seen], total, cap)):
            held[i] = min(held[i], budget)
    return held


def decode_scores(probabilities, heads, recent, kernel, pooling):
    """[Hkv, n - recent]: the current query's row over the cache, per head [Hq, n], pooled, mean over the group."""
    prefix = np.asarray(probabilities)[:, :np.shape(probabilities)[1] - recent]
    return by_group(pool(prefix, pooling, kernel), heads).mean(axis=1)


def run(inputs, params, budget):
    """Total (B - w) * L prefix entries over the layers; decode keeps every layer at its own length."""
    p = parameters(DEFAULTS, inputs, params)
    layers, window = layers_of(inputs), p["window"]
    tokens = layers[0].tokens
    kept, scores = [trivial_cut(layer, window, budget) for layer in layers], [None] * len(layers)
    if p["wait_for_window"] and tokens <= budget + window:
        kept = [[np.arange(tokens)] * layer.heads for layer in layers]
    held = [max(budget - window, 0)] * len(layers)
    if kept[0] is None:
        rows = [window_rows(layer, window) for layer in layers]
        held = held_after_prompt([preference(r, p["tau1"], p["tau2"]) for r in rows],
                                 (budget - window) * len(layers), tokens - window, p["cascade"])
        for layer, r, count in zip(layers, rows, held):
            s = entry_scores(r, layer.heads, p["gamma"], p["kernel"], p["pooling"])
            kept[layer.index] = with_newest([top_k(row, count) for row in s], layer, window)
            scores[layer.index] = forced(s, tokens)
    result = {}
    for layer in layers:
        cache = RowCache(layer)
        for head in range(layer.heads):
            cache.keep(head, kept[layer.index][head])
        step_out = _decode(cache, held[layer.index], min(window, budget), p)
        write_layer(result, layer, cache, scores=scores[layer.index], step_out=step_out)
    return result


def _decode(cache, prefix, recent, p):
    """Every step attends over the uncut cache, then keeps the `prefix` best and the last `recent` entries."""
    outputs = []
    for step in range(cache.layer.steps):
        cache.append(step)
        out, probabilities, _ = cache.attend(cache.layer.step_q[:, step])
        outputs.append(out)
        count = len(cache.rows[0])
        if count > prefix + recent:
            s = decode_scores(probabilities, cache.layer.heads, recent, p["kernel"], p["pooling"])
            for head in range(cache.layer.heads):
                cache.keep(head, np.concatenate([top_k(s[head], prefix), np.arange(count - recent, count)]))
    return outputs
