# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Scissorhands (arXiv 2305.17118): count how often an entry was below average, drop the worst when the cache is full.

u = rows of the last w queries that saw the entry and gave it (mean over the group) less than 1 / t, with t the number
of entries the row saw. When more than B are held, the m entries of largest u go, the oldest first among equals; u of
the newest r counts as 0. Chosen where what is published leaves a choice: m = max(1, floor(drop B)); after a prompt of
T > B, prompt=once drops the T - B worst (B stay), prompt=repeat drops m at a time until at most B stay; every layer
has the same B (budgets that grow with depth were set by hand in the paper).
"""
import math

import numpy as np

from oracle_support import RowCache, by_group, layers_of, parameters, prompt_probabilities, top_k, write_layer
from uniform_level import RatioHistory, prompt_ratios, robust

DEFAULTS = {"window": 400, "recent": 10, "drop": 0.5, "prompt": "once"}


def kept_entries(misses, recent, dropped):
    """Entries kept of one head when the `dropped` of largest u leave; misses [n] = u before the newest are safe."""
    counts = misses.astype(float)
    counts[max(0, len(counts) - recent):] = 0.0
    return np.delete(np.arange(len(counts)), top_k(counts, dropped))


def amount(budget, drop):
    """m, the number of entries that leave at once."""
    return max(1, math.floor(drop * budget))


def run(inputs, params, budget):
    """At most B entries after the prompt and after every step; B + 1 - m after a compression in decode."""
    p = parameters(DEFAULTS, inputs, params)
    drop = amount(budget, p["drop"])
    result = {}
    for layer in layers_of(inputs):
        cache, excess = RowCache(layer), layer.tokens - budget
        probabilities = prompt_probabilities(layer, min(p["window"], layer.tokens))
        ratios = prompt_ratios(by_group(probabilities, layer.heads).mean(axis=1), layer.tokens)
        history = [RatioHistory(rows, p["window"]) for rows in ratios]
        if excess > 0:
            dropped = excess if p["prompt"] == "once" else drop * math.ceil(excess / drop)
            _drop(cache, history, p["recent"], dropped)
        step_out = []
        for step in range(layer.steps):
            cache.append(step)
            out, probabilities, _ = cache.attend(layer.step_q[:, step])
            step_out.append(out)
            for head, rows in enumerate(by_group(probabilities, layer.heads)):
                history[head].push(rows.mean(axis=0) / (1.0 / rows.shape[1]))
            if len(cache.rows[0]) > budget:
                _drop(cache, history, p["recent"], drop)
        write_layer(result, layer, cache, step_out=step_out)
    return result


def _drop(cache, history, recent, dropped):
    for head in range(cache.layer.heads):
        kept = robust(lambda level: kept_entries(history[head].misses(level), recent, dropped))
        cache.keep(head, kept)
        history[head].keep(kept)
