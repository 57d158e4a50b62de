# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""WindowKV (arXiv 2503.17922): whole blocks of adjacent tokens, chosen once per group of layers.

`suffix` rows score and stay; 0 means 32 for the strategy max (question answering) and 16 for average, which is how the
task class of the paper's classifier enters. B includes the suffix: the mean block budget of a layer is C = B - suffix.

Readings. The number of the publication is unsure. Layers that fill no group belong to the last one, whose budget is the
lowest, and fewer than `shared_layers` layers are a single group, whose budget is C. No group gets more than 2 C. Whole blocks are dropped: when the short last block is among them, a layer may hold up to W - 1 tokens more
than its budget. T <= B keeps all, B <= suffix the newest B. Half a block is at least one token.
"""
import numpy as np

from oracle_support import layers_of, parameters, top_k
from prompt_cut import trivial_cut, window_rows, write_prompt_cut

DEFAULTS = {"strategy": "max", "suffix": 0, "block": 8, "shared_layers": 8, "beta": 14}


def suffix_of(p):
    """Rows of the suffix: the given number, or that of the strategy."""
    return p["suffix"] or {"max": 32, "average": 16}[p["strategy"]]


def group_budgets(groups, mean, shared, beta):
    """Prefix tokens of the layers of each group: an arithmetic row whose last is floor(C * m / beta)."""
    if groups == 1:
        return [mean]
    last = min(mean * shared // beta, 2 * mean)
    first = 2 * mean - last
    step = (first - last) // (groups - 1)
    return [first - index * step for index in range(groups - 1)] + [last]


def block_scores(columns, block, strategy):
    """Scores [ceil(S / W)] of blocks from c [Hq, S]: mean over heads of the mean, or of the best half's mean."""
    scores = []
    for start in range(0, columns.shape[1], block):
        part = columns[:, start:start + block]
        if strategy == "max":
            part = -np.sort(-part, axis=1)[:, :max(1, min(block // 2, part.shape[1]))]
        scores.append(part.mean(axis=1).mean())
    return np.array(scores)


def kept_blocks(scores, prefix, mean, block):
    """Block numbers that stay, ascending: all but the ceil((S - B) / W) lowest."""
    dropped = -(-(prefix - mean) // block)
    return top_k(scores, len(scores) - dropped)


def choose(leader, p, budget):
    """Kept entries of every layer of a group, from its first layer. budget: prefix tokens of the group."""
    suffix, tokens = suffix_of(p), leader.tokens
    prefix = tokens - suffix
    if prefix <= budget:
        return np.arange(tokens)
    scores = block_scores(window_rows(leader, suffix).sum(axis=1), p["block"], p["strategy"])
    blocks = kept_blocks(scores, prefix, budget, p["block"])
    inside = np.isin(np.arange(prefix) // p["block"], blocks)
    return np.concatenate([np.flatnonzero(inside), np.arange(prefix, tokens)])


def run(inputs, params, budget):
    """B = mean over groups of layers, suffix included; one set for all heads and layers of a group; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    layers, shared, suffix, result = layers_of(inputs), p["shared_layers"], suffix_of(p), {}
    groups = max(1, len(layers) // shared)
    budgets = group_budgets(groups, max(budget - suffix, 0), shared, p["beta"])
    for group in range(groups):
        first, behind = group * shared, (group + 1) * shared if group + 1 < groups else len(layers)
        kept = trivial_cut(layers[first], suffix, budget)
        if kept is None:
            kept = [choose(layers[first], p, budgets[group])] * layers[first].heads
        for layer in layers[first:behind]:
            write_prompt_cut(result, layer, kept)
    return result
