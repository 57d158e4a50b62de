# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A2SF (arXiv 2407.20485): accumulated attention in which older query rows are forgotten geometrically.

Chosen where what is published leaves a choice: B = heavy + recent entries; recent = B // 2 by default, as the equal
defaults of heavy and recent of the class say; of two equal sums the older entry stays, also in decode. The
evaluation-only form, which masks row by row inside a prefill, is not transcribed.
"""
import numpy as np

from oracle_support import (RowCache, by_group, decode_by_appending, layers_of, parameters, prompt_probabilities, top_k,
                            write_layer)

# forgetting: the factor alpha. recent: entries that never compete, None = B // 2. decode: "evict", or "append" as the
# current repository (with forgetting=0.95, recent=16).
DEFAULTS = {"forgetting": 0.2, "recent": None, "decode": "evict"}


def prompt_sums(probabilities, alpha):
    """[..., T]: sum over rows i of alpha^(T-1-i) P[..., i, j] of P [..., T, T]."""
    rows = probabilities.shape[-2]
    weights = np.power(float(alpha), np.arange(rows - 1, -1, -1))
    return np.einsum("i,...ij->...j", weights, probabilities)


def heaviest_and_recent(sums, budget, recent):
    """Entries kept of one head [n]: the B - recent largest sums of all but the newest `recent`, then those."""
    count = len(sums)
    if count <= budget:
        return np.arange(count)
    older = count - min(recent, budget)
    return np.concatenate([top_k(sums[:older], budget - (count - older)), np.arange(older, count)])


def run(inputs, params, budget):
    """B entries after the prompt and (decode=evict) after every step; sums over the group."""
    p = parameters(DEFAULTS, inputs, params)
    recent = min(budget, budget // 2 if p["recent"] is None else p["recent"])
    result = {}
    for layer in layers_of(inputs):
        cache, scores = RowCache(layer), None
        sums = prompt_sums(prompt_probabilities(layer, layer.tokens), p["forgetting"])
        sums = list(by_group(sums, layer.heads).sum(axis=1))
        if layer.tokens > budget:
            scores = np.array(sums)
            scores[:, layer.tokens - recent:] = np.inf
        _cut(cache, sums, budget, recent)
        if p["decode"] == "append":
            step_out = decode_by_appending(cache)
        else:
            step_out = _decode(cache, sums, p["forgetting"], budget, recent)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result


def _decode(cache, sums, alpha, budget, recent):
    """S <- alpha S + p, the new entry starts with its own p; then a cut to B. List of [Hq, D]."""
    outputs = []
    for step in range(cache.layer.steps):
        cache.append(step)
        out, probabilities, _ = cache.attend(cache.layer.step_q[:, step])
        outputs.append(out)
        for head, rows in enumerate(by_group(probabilities, cache.layer.heads)):
            sums[head] = alpha * np.append(sums[head], 0.0) + rows.sum(axis=0)
        _cut(cache, sums, budget, recent)
    return outputs


def _cut(cache, sums, budget, recent):
    for head in range(cache.layer.heads):
        kept = heaviest_and_recent(sums[head], budget, recent)
        cache.keep(head, kept)
        sums[head] = sums[head][kept]
