# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""CompressKV (arXiv 2508.02401): four query heads per layer vote for one index set; measured errors set layer budgets.

Budgets count the window. Calibrated tables come as arguments or with the inputs (table_cases.py): `heads`, the voting
query heads of each layer, and `importance` [L], of which shares count; without them every head votes and budgets are equal.
Chosen where what is published leaves a choice: halves round to even; equal scores and importances go to the lower
number; a C below the floor is the floor; capped layers that cannot take more leave the total short. A budget that T
exceeds no longer keeps all of the layer, one of at most w the newest.
"""
import numpy as np

from integer_budgets import rounded
from oracle_support import (RowCache, decode_by_appending, forced, layers_of, parameters, pool, prompt_probabilities,
                            top_k, write_layer)

DEFAULTS = {"window": 8, "kernel": 5, "pooling": "avg", "floor": 32, "ceiling": 3}


# ---------------------------------------------------------------------------------- calibration

def head_scores(rows, ids, needle, produced):
    """[L, Hq] of one needle test, for the tokens `produced` [steps].

    rows: per step P [L, Hq, n] of the query that produced the token, n >= T prompt keys first. ids: token ids [T].
    needle: its positions [first, last). A needle position that holds the produced token adds the mass of the whole
    needle, a repeated id as often as it occurs.
    """
    span = np.arange(*needle)
    total = 0.0
    for probabilities, token in zip(rows, produced):
        total = total + (np.asarray(ids)[span] == token).sum() * probabilities[..., span].sum(axis=-1)
    return total


def voting_heads(tests, first_k=4):
    """The first_k query heads of each layer [L, first_k], ascending, by the mean of scores [tests, L, Hq]."""
    return np.array([top_k(scores, first_k) for scores in np.mean(tests, axis=0)])


def output_error(compressed, full, projection):
    """||Oc Wo - Of Wo||_F / (||Of Wo||_F + 1e-5) of attention outputs [.., Hq D] and Wo [Hq D, hidden]."""
    exact = full @ projection
    return np.linalg.norm(compressed @ projection - exact) / (np.linalg.norm(exact) + 1e-5)


def layer_importance(data_sets):
    """[L]: errors [samples and steps, L] of each data set, summed, normalised, averaged, normalised again."""
    sums = [np.sum(errors, axis=0) for errors in data_sets]
    mean = np.mean([total / total.sum() for total in sums], axis=0)
    return mean / mean.sum()


# ------------------------------------------------------------------------------------ selection

def layer_budgets(importance, capacity, floor=32, ceiling=3):
    """B_l [L] with sum C L: clip(floor + round(imp (C L - floor L)), floor, ceiling C), then sweeps of one."""
    importance = np.asarray(importance, np.float64)
    layers, floor, most = len(importance), min(floor, capacity), ceiling * capacity
    raw = floor + rounded(importance * (capacity - floor) * layers)
    budgets = np.clip(raw, floor, most)
    missing = capacity * layers - int(budgets.sum())
    order = np.argsort(-importance if missing > 0 else importance, kind="stable")
    while missing:
        before = missing
        for layer in order:
            step = int(np.sign(missing))
            if step and floor <= budgets[layer] + step <= most:
                budgets[layer] += step
                missing -= step
        if missing == before:
            break
    return budgets


def shared_scores(layer, p, heads):
    """[S]: row sums of the voting heads, pooled per head, mean over them."""
    votes = prompt_probabilities(layer, p["window"])[heads][:, :, :layer.tokens - p["window"]].sum(axis=1)
    return pool(votes, p["pooling"], p["kernel"]).mean(axis=0)


def choose(layer, p, heads, budget):
    """(entries that every head of the layer keeps, their scores [T] or None)."""
    tokens, window = layer.tokens, p["window"]
    if tokens <= budget or budget <= window:
        return np.arange(max(0, tokens - budget), tokens), None
    scores = shared_scores(layer, p, heads)
    return np.concatenate([top_k(scores, budget - window), np.arange(tokens - window, tokens)]), scores


def run(inputs, params, budget, heads=None, importance=None):
    """heads: per layer the query heads that vote. importance: [L]. B = mean over layers; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    if heads is None and "table.voting_heads" in inputs:
        heads = [np.flatnonzero(row) for row in inputs["table.voting_heads"]]
    importance = inputs.get("table.importance") if importance is None else importance
    layers, result = layers_of(inputs), {}
    budgets = [budget] * len(layers)
    if importance is not None:
        importance = np.asarray(importance, np.float64)
        budgets = layer_budgets(importance / importance.sum(), budget, p["floor"], p["ceiling"])
    for layer in layers:
        voters = np.asarray(heads[layer.index]) if heads is not None else slice(None)
        kept, scores = choose(layer, p, voters, int(budgets[layer.index]))
        cache = RowCache(layer)
        for head in range(layer.heads):
            cache.keep(head, kept)
        step_out = decode_by_appending(cache)
        if scores is not None:
            scores = forced(np.tile(scores, (layer.heads, 1)), layer.tokens)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result
