# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""CORM (arXiv 2404.15949): an entry stays if any of the last w queries gave it at least uniform attention.

Bits of the query heads of a group are ORed; entries differ per head (ragged). Nothing leaves before w queries exist.
The budget is an optional cap. Open in what is published and chosen here: w = r = 256; level=length compares with 1 /
(all tokens so far), level=cached with 1 / (entries held); when more than a cap of C entries would stay, the newest
min(r, C) and those of the others with the most set rows stay (older first among equals), and T <= C alone does not
keep an entry without bits.
"""
import numpy as np

from oracle_support import RowCache, layers_of, parameters, prompt_probabilities, top_k, write_layer
from uniform_level import RatioHistory, prompt_ratios, robust

DEFAULTS = {"window": 256, "recent": 256, "level": "length"}


def kept_entries(hits, recent, cap=None):
    """Entries kept of one head; hits [n]: rows of the last w in which the entry reached the level."""
    count = len(hits)
    keep = hits > 0
    keep[max(0, count - recent):] = True
    if cap is None or keep.sum() <= cap:
        return np.flatnonzero(keep)
    newest = min(recent, cap, count)
    voted = np.flatnonzero(keep[:count - newest])
    return np.concatenate([voted[top_k(hits[voted].astype(float), cap - newest)], np.arange(count - newest, count)])


def run(inputs, params, budget=None):
    """One selection by the last w prompt rows, one after every step; budget None = no cap."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        cache = RowCache(layer)
        ratios = prompt_ratios(prompt_probabilities(layer, min(p["window"], layer.tokens)), layer.tokens)
        ratios = ratios.reshape((layer.heads, -1) + ratios.shape[1:]).max(axis=1)
        history = [RatioHistory(rows, p["window"]) for rows in ratios]
        for head in range(layer.heads):
            _cut(cache, history, head, p["recent"], budget)
        step_out = []
        for step in range(layer.steps):
            cache.append(step)
            out, probabilities, _ = cache.attend(layer.step_q[:, step])
            step_out.append(out)
            group = len(probabilities) // layer.heads
            for head in range(layer.heads):
                length = layer.tokens + step + 1 if p["level"] == "length" else len(cache.rows[head])
                rows = np.array(probabilities[head * group:(head + 1) * group])
                history[head].push((rows / (1.0 / length)).max(axis=0))
                _cut(cache, history, head, p["recent"], budget)
        write_layer(result, layer, cache, step_out=step_out)
    return result


def _cut(cache, history, head, recent, cap):
    if history[head].full:
        kept = robust(lambda level: kept_entries(history[head].hits(level), recent, cap))
        cache.keep(head, kept)
        history[head].keep(kept)
