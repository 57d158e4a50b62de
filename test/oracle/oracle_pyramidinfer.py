# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""PyramidInfer (arXiv 2405.12532): context tokens are dropped while prefilling, layer by layer.

A layer's own cache holds every token that entered it; those its attention finds light do not enter the next one. How an
`apply` file stands for fewer tokens: token_drop.py. Sizes follow from the ratios: there is no budget.

R = floor(T * recent_ratio); the recent block is the last R + 1 tokens. Decode: when a layer holds R + 1 +
`exceed` generated entries, the `exceed` before the last R + 1 are thinned.

Readings. The "generated part exceeds the recent block by E" counts the layer's own generated entries, those that were
kept by an earlier thinning included. Rows of a step are kept over the cache of that step: a later entry has 0 there.
A thinning happens after the step that triggers it has attended.
"""
import math

import numpy as np

from oracle_support import layers_of, parameters, prompt_probabilities, top_k, write_layer
from prompt_cut import record_floor
from token_drop import SurvivorCache, surviving

DEFAULTS = {"recent_ratio": 0.2, "prefill_decay": 0.9, "min_context": 64, "interval": 1, "sinks": 4,
            "distance_weight": 1.2, "gen_decay": 0.1, "gen_keep": 0.9, "exceed": 16}


def schedule(index, layers, low):
    """g_l = rho + (1 - rho) (1 + cos(pi l / L)) / 2: from 1 at the first layer towards rho."""
    return low + (1.0 - low) * (1.0 + math.cos(math.pi * index / layers)) / 2.0


def row_weights(rows, distance_weight):
    """u [R + 1], from 1 for the oldest to distance_weight for the newest row."""
    return np.linspace(1.0, distance_weight, rows)


def passed_count(context, index, layers, p, smallest):
    """How many of the `context` tokens before the recent block enter the next layer."""
    ratio = schedule(index, layers, p["prefill_decay"])
    if context <= smallest or ratio >= 1.0 or index % p["interval"]:
        return context
    count = record_floor(context * ratio)
    return count if count > smallest else context


def lengths(tokens, layers, p):
    """Prompt entries of each layer; they depend on no value."""
    recent = math.floor(tokens * p["recent_ratio"]) + 1
    smallest, seen = min(p["min_context"], tokens - recent), []
    for index in range(layers):
        seen.append(tokens)
        tokens = recent + passed_count(tokens - recent, index, layers, p, smallest)
    return seen


def context_scores(rows, p, protected):
    """[n - R - 1]: weighted mean over the recent rows [R + 1, n] of head-mean attention; +inf for the first ones."""
    scores = (row_weights(len(rows), p["distance_weight"]) @ rows)[:rows.shape[1] - len(rows)] / len(rows)
    scores[:protected] = np.inf
    return scores


class Recent:
    """The last R + 1 head-mean probability rows of a layer's decode steps; columns follow the cache."""

    def __init__(self, rows):
        self.limit, self.rows = rows, []

    def add(self, row):
        """Adds the row [n] of a step; earlier rows did not see the newest entry."""
        grown = [np.append(old, np.zeros(len(row) - len(old))) for old in self.rows]
        self.rows = (grown + [row])[-self.limit:]

    def keep(self, kept):
        """Follows a cut of the cache."""
        self.rows = [row[kept] for row in self.rows]


def run(inputs, params, budget=None):
    """Nested token sets, one per layer for all heads; budget must be None."""
    assert budget is None
    p = parameters(DEFAULTS, inputs, params)
    layers, result = layers_of(inputs), {}
    total = layers[0].tokens
    tokens, recent = np.arange(total), math.floor(total * p["recent_ratio"]) + 1
    smallest = min(p["min_context"], total - recent)
    for whole in layers:
        layer = surviving(whole, tokens)
        cache = SurvivorCache(layer, tokens, total)
        step_out = _decode(cache, recent, whole.index, len(layers), p)
        write_layer(result, layer, cache, step_out=step_out)
        context = layer.tokens - recent
        count = passed_count(context, whole.index, len(layers), p, smallest)
        if count < context and whole.index + 1 < len(layers):
            rows = prompt_probabilities(layer, recent).mean(axis=0)
            chosen = top_k(context_scores(rows, p, p["sinks"]), count)
            tokens = tokens[np.append(chosen, np.arange(context, layer.tokens))]
    return result


def _decode(cache, recent, index, layers, p):
    """Steps of one layer; a thinning leaves max(1, floor(E * gen_keep * g')) of E entries."""
    prompt, history, outputs = cache.layer.tokens, Recent(recent), []
    count = max(1, record_floor(p["exceed"] * p["gen_keep"] * schedule(index, layers, p["gen_decay"])))
    for step in range(cache.layer.steps):
        cache.append(step)
        out, probabilities, _ = cache.attend(cache.layer.step_q[:, step])
        outputs.append(out)
        history.add(np.mean(probabilities, axis=0))
        held = len(cache.rows[0])
        if held - prompt >= recent + p["exceed"]:
            first, last = held - recent - p["exceed"], held - recent
            scores = context_scores(np.array(history.rows), p, 0)[first:last]
            kept = np.concatenate([np.arange(first), first + top_k(scores, count), np.arange(last, held)])
            for head in range(cache.layer.heads):
                cache.keep(head, kept)
            history.keep(kept)
    return outputs
