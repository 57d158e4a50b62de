# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""TOVA (arXiv 2401.06104): drop what the newest query attends to least, one set for a whole layer."""
import numpy as np

from oracle_support import RowCache, layers_of, parameters, prompt_probabilities, top_k, write_layer

DEFAULTS = {"protect_newest": True}


def run(inputs, params, budget):
    """B entries after the prompt (its last row votes) and after every step (its own query votes)."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        cache, scores = RowCache(layer), None
        if layer.tokens > budget:
            scores = _cut(cache, prompt_probabilities(layer, 1)[:, 0], p["protect_newest"], budget)
            scores = np.tile(scores, (layer.heads, 1))
        step_out = []
        for step in range(layer.steps):
            cache.append(step)
            out, probabilities, _ = cache.attend(layer.step_q[:, step])
            step_out.append(out)
            if len(cache.rows[0]) > budget:
                _cut(cache, np.array(probabilities), p["protect_newest"], budget)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result


def _cut(cache, probabilities, protect_newest, budget):
    """Keeps the B best of the mean over query heads [Hq, n]; returns those scores [n]."""
    scores = probabilities.mean(axis=0)
    if protect_newest:
        scores[-1] = np.inf
    kept = top_k(scores, budget)
    for head in range(cache.layer.heads):
        cache.keep(head, kept)
    return scores
