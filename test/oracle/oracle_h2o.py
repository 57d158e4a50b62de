# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""H2O (arXiv 2306.14048): the newest B // 2 entries and the B - B // 2 with the largest summed attention."""
import numpy as np

from oracle_support import (RowCache, by_group, layers_of, parameters, per_row_head, prompt_probabilities, top_k,
                            write_layer)

DEFAULTS = {"granularity": "kv_head"}


def heavy_and_recent(acc, budget):
    """Entries kept of one head: the heaviest of the older ones, then the newest B // 2."""
    count, recent = len(acc), budget // 2
    if count <= budget:
        return np.arange(count)
    older = count - recent
    return np.concatenate([top_k(acc[:older], budget - recent), np.arange(older, count)])


def run(inputs, params, budget):
    """acc sums every prompt row and every step, over the group; B entries after every step."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        layer = per_row_head(layer, p["granularity"])
        cache, scores = RowCache(layer), None
        acc = prompt_probabilities(layer, layer.tokens).sum(axis=1)
        acc = list(by_group(acc, layer.heads).sum(axis=1))
        if layer.tokens > budget:
            scores = np.array(acc)
            scores[:, layer.tokens - budget // 2:] = np.inf
        _cut(cache, acc, budget)
        step_out = []
        for step in range(layer.steps):
            cache.append(step)
            out, probabilities, _ = cache.attend(layer.step_q[:, step])
            step_out.append(out)
            for head, rows in enumerate(by_group(probabilities, layer.heads)):
                acc[head] = np.append(acc[head], 0.0) + rows.sum(axis=0)
            _cut(cache, acc, budget)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result


def _cut(cache, acc, budget):
    for head in range(cache.layer.heads):
        kept = heavy_and_recent(acc[head], budget)
        cache.keep(head, kept)
        acc[head] = acc[head][kept]
