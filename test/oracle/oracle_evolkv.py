# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""EvolKV (arXiv 2509.08315): SnapKV with a budget per layer that a search found; here its completion and selection.

The vector k [L] counts the window. Open in what is published, chosen here: the smoothing of the objective's cache
term is the linear one; halves round to even; equal remainders go to the lower layer; after completion k is brought
into [w + 1, T] and the total repaired by steps of one, by remainders first. A mean budget at or below the window
keeps the newest B, one of at least T all.
"""
import numpy as np

import oracle_snapkv
from oracle_support import RowCache, decode_by_appending, layers_of, parameters, per_row_head, write_layer

# budgets: k before completion, [] = those that come with the inputs (table_cases.py), equal without.
DEFAULTS = {"granularity": "kv_head", "window": 32, "kernel": 7, "pooling": "max", "budgets": []}


def objective(score, budgets, target, weight=0.3, gamma=0.2):
    """f(k) (1 + lambda CacheScore(k, c)): what the search maximises."""
    mean = np.mean(budgets)
    if mean <= target:
        return score * (1 + weight * (1 - gamma * (1 - mean / target)))
    return score * (1 + weight * max(0.0, 1 - (mean - target) / target))


def completed(budgets, target, low=1, high=None):
    """Integers near k + A k / sum(k), A = c L - sum(k), with sum c L and every one in [low, high]."""
    budgets = np.asarray(budgets, np.float64)
    high = np.inf if high is None else high
    wanted = budgets + (target * len(budgets) - budgets.sum()) * budgets / budgets.sum()
    whole = np.clip(np.rint(wanted), low, high)
    missing = int(target * len(budgets) - whole.sum())
    step = np.sign(missing)
    for _ in range(abs(missing)):
        remainders = np.where((whole + step >= low) & (whole + step <= high), step * (wanted - whole), -np.inf)
        whole[int(np.argmax(np.round(remainders, 9)))] += step
    return whole.astype(int)


def run(inputs, params, budget):
    """Mean over layers = B, window included; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    layers, result = [per_row_head(layer, p["granularity"]) for layer in layers_of(inputs)], {}
    tokens, budgets = layers[0].tokens, [budget] * len(layers)
    if p["window"] < budget < tokens:
        given = p["budgets"] or inputs.get("table.budgets", budgets)
        budgets = completed(given, budget, p["window"] + 1, tokens)
    for layer in layers:
        kept, scores = oracle_snapkv.choose(layer, p, int(budgets[layer.index]))
        cache = RowCache(layer)
        for head in range(layer.heads):
            cache.keep(head, kept[head])
        step_out = decode_by_appending(cache)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result
