# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""HeadKV (arXiv 2410.19258): SnapKV's choice with budgets per head from calibrated retrieval(-reasoning) scores.

The table [L, Hq] comes as an argument or with the inputs (table_cases.py); without one all shares are equal. B counts
the window, the pool and the base are of the B - w entries of the prefix. Chosen where what is published leaves a
choice: per KV head the group's budgets are averaged after they are rounded, then rounded again (halves to even, each
time); the scores of a group are pooled per query head, then averaged, as SnapKV; an answer's top key is the lowest of
equals.
"""
import math

import numpy as np

import oracle_snapkv
from integer_budgets import rounded
from oracle_support import (RowCache, decode_by_appending, forced, layers_of, parameters, per_row_head, top_k,
                            write_layer)

# beta: the shared pool is floor((B - w) / beta). temperature: power on the shares.
DEFAULTS = {"window": 32, "kernel": 7, "pooling": "max", "beta": 1.5, "temperature": 1.0, "granularity": "kv_head"}


# ---------------------------------------------------------------------------------- calibration

def copy_scores(rows, ids, needle, produced):
    """[L, Hq] of one needle test: + 1 / |needle| per step whose top key lies in the needle and holds the token.

    rows: per step P [L, Hq, n] of the query that produced the token. ids: token ids of the keys. needle: [first, last).
    """
    first, last = needle
    total = 0.0
    for probabilities, token in zip(rows, produced):
        best = probabilities.argmax(axis=-1)
        right = (best >= first) & (best < last) & (np.asarray(ids)[np.minimum(best, len(ids) - 1)] == token)
        total = total + right / (last - first)
    return total


def reason_scores(rows, needle):
    """[L, Hq] of one test: + p / |needle| of each of the |needle| top keys of a step that lies in the needle."""
    first, last = needle
    total = 0.0
    for probabilities in rows:
        best = np.argsort(-probabilities, axis=-1, kind="stable")[..., :last - first]
        mass = np.take_along_axis(probabilities, best, axis=-1)
        total = total + np.where((best >= first) & (best < last), mass, 0.0).sum(axis=-1) / (last - first)
    return total


# -------------------------------------------------------------------------------------- budgets

def head_budgets(table, prefix_budget, beta=1.5, temperature=1.0):
    """Prefix entries [L, Hq] of every query head: round(share * pool * L Hq + base)."""
    table = np.asarray(table, np.float64)
    share = table / table.sum()
    if temperature != 1.0:
        share = share ** temperature
        share = share / share.sum()
    pool = math.floor(prefix_budget / beta)
    return rounded(share * pool * table.size + prefix_budget - pool)


def group_budgets(budgets, heads):
    """[L, Hkv] of [L, Hq]: the rounded mean of each group."""
    return rounded(budgets.reshape(len(budgets), heads, -1).mean(axis=2))


def choose(layer, p, budget, prefix_budgets):
    """(kept entries per head, scores or None) of one layer; prefix_budgets: per head of that layer."""
    if layer.tokens <= budget or budget <= p["window"]:
        return [np.arange(max(0, layer.tokens - budget), layer.tokens)] * layer.heads, None
    scores = oracle_snapkv.prefix_scores(layer, p["window"], p["kernel"], p["pooling"])
    newest = np.arange(layer.tokens - p["window"], layer.tokens)
    kept = [np.concatenate([top_k(row, count), newest]) for row, count in zip(scores, prefix_budgets)]
    return kept, forced(scores, layer.tokens)


def run(inputs, params, budget, table=None):
    """Mean over all heads = B (up to rounding and heads that are shorter than their budget); decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    table = inputs.get("table.head_scores") if table is None else table
    layers, result = [per_row_head(layer, p["granularity"]) for layer in layers_of(inputs)], {}
    table = np.ones((len(layers), layers[0].heads)) if table is None else np.asarray(table)
    budgets = head_budgets(table, budget - p["window"], p["beta"], p["temperature"])
    budgets = group_budgets(budgets, layers[0].heads)
    for layer in layers:
        kept, scores = choose(layer, p, budget, budgets[layer.index])
        cache = RowCache(layer)
        for head in range(layer.heads):
            cache.keep(head, kept[head])
        step_out = decode_by_appending(cache)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result
