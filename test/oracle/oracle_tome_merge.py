# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Value-only token merging in the form of kvpress's MergingPress (after ToMe, arXiv 2210.09461).

A base scorer chooses what stays; each dropped value is added to the kept entry whose key is closest.
Keys are not touched. Merging happens once, at the end of the prompt.
"""
import numpy as np

from oracle_knorm import norm_scores
from oracle_support import RowCache, decode_by_appending, layers_of, parameters, record_cut, to_act, top_k, write_layer

DEFAULTS = {"base": "knorm", "similarity_threshold": 0.0, "merge_fraction": 1.0}


def closest_kept(keys, kept, dropped):
    """For each dropped entry: cosine to its best kept entry, and which one (lowest on ties)."""
    unit = keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), 1e-6)
    cosine = unit[dropped] @ unit[kept].T
    for row in cosine:
        top = np.sort(row)[-2:]
        record_cut(top, [top[-1]])
    rounded = cosine.astype(np.float32)
    return cosine.max(axis=1), rounded.argmax(axis=1)


def allowed(similarity, threshold, fraction):
    """At least `threshold`; with fraction < 1 also at least the (1 - fraction) quantile (linear)."""
    mask = similarity >= threshold
    if fraction < 1.0 and len(similarity):
        ranked = np.sort(np.where(mask, similarity, -np.inf))
        place = (1.0 - fraction) * (len(ranked) - 1)
        low, high = ranked[int(np.floor(place))], ranked[int(np.ceil(place))]
        cut = low if low == high else low + (place - np.floor(place)) * (high - low)
        mask &= similarity.astype(np.float32) >= np.float32(cut)
    return mask


def merge_values(keys, values, kept, threshold, fraction):
    """Merged values of the kept entries [B, D], and how many entries each now stands for [B]."""
    dropped = np.setdiff1d(np.arange(len(keys)), kept)
    similarity, target = closest_kept(keys, kept, dropped)
    norms = np.linalg.norm(values, axis=1)
    share = norms[dropped] / (norms[dropped] + norms[kept][target] + 1e-6)
    weight = np.maximum(similarity, 0.0) * allowed(similarity, threshold, fraction) * share
    total, mixed, counts = np.zeros(len(kept)), values[kept].copy(), np.ones(len(kept), int)
    np.add.at(total, target, weight)
    np.add.at(mixed, target, weight[:, None] * values[dropped])
    np.add.at(counts, target, weight > 0)
    return np.where(total[:, None] > 0, mixed / (1.0 + total[:, None]), values[kept]), counts


def run(inputs, params, budget):
    """The base scorer's B per head; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    if p["base"] != "knorm":
        raise ValueError(f"no transcription of base {p['base']}")
    result = {}
    for layer in layers_of(inputs):
        cache, scores, counts, exact = RowCache(layer), None, None, None
        if layer.tokens > budget:
            scores, counts = norm_scores(layer.k), []
            for head in range(layer.heads):
                kept = top_k(scores[head], budget)
                merged, count = merge_values(layer.k[head], layer.v[head], kept, p["similarity_threshold"],
                                             p["merge_fraction"])
                cache.keep(head, kept)
                cache.v[head] = to_act(merged, layer.act)
                counts.append(np.append(count, np.ones(layer.steps, int)))
            exact = {"v": [count == 1 for count in counts]}
        step_out = decode_by_appending(cache)
        write_layer(result, layer, cache, scores=scores, step_out=step_out, counts=counts, exact=exact)
    return result
