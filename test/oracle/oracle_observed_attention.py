# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""H2O (arXiv 2306.14048) at the end of the prompt only: the attention that each key was observed to receive.

Parity. The defaults are kvpress's observed attention: the column sum over all prompt rows divided by the number of rows
that see the key, mean over the group, no recent window. `normalize` = false with a `window` is the form of
KVCache-Factory: plain sums, and the last `window` entries stay. `granularity` = query_head keeps K and V per query head.

Readings. T <= B keeps all, B <= window the newest B.
"""
import numpy as np

from oracle_support import by_group, forced, layers_of, parameters, per_row_head, prompt_probabilities, top_k
from prompt_cut import trivial_cut, with_newest, write_prompt_cut

DEFAULTS = {"granularity": "kv_head", "normalize": True, "window": 0}


def observed(layer, normalize):
    """[Hkv, T]: column sums of the causal map, over T - j rows if normalized, mean over the group."""
    sums = by_group(prompt_probabilities(layer, layer.tokens).sum(axis=1), layer.heads).mean(axis=1)
    return sums / np.arange(layer.tokens, 0, -1) if normalize else sums


def run(inputs, params, budget):
    """B per head; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        layer = per_row_head(layer, p["granularity"])
        kept, scores = trivial_cut(layer, p["window"], budget), None
        if kept is None:
            scores = observed(layer, p["normalize"])[:, :layer.tokens - p["window"]]
            kept = with_newest([top_k(row, budget - p["window"]) for row in scores], layer, p["window"])
            scores = forced(scores, layer.tokens)
        write_prompt_cut(result, layer, kept, scores)
    return result
