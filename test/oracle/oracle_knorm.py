# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""KNorm (arXiv 2406.11430): keep the B keys with the smallest L2 norm of each KV head.

Parity. `positions` = cache moves keys and queries to their index in the cache, as kvpress does with key rotation.
"""
import numpy as np

from oracle_streaming_llm import ReindexedCache
from oracle_support import RowCache, decode_by_appending, layers_of, parameters, top_k, write_layer

DEFAULTS = {"prune_after": 0, "skip_layers": [], "positions": "original"}


def norm_scores(keys):
    """s_j = -||k_j||_2 of [..., T, D]."""
    return -np.sqrt((keys * keys).sum(axis=-1))


def run(inputs, params, budget):
    """B smallest norms per head at the end of the prompt; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    moves = p["positions"] == "cache"
    for layer in layers_of(inputs):
        cache, scores = (ReindexedCache if moves else RowCache)(layer), None
        skipped = layer.tokens < p["prune_after"] or layer.index in p["skip_layers"]
        if layer.tokens > budget and not skipped:
            scores = np.array([norm_scores(keys) for keys in cache.k])
            for head in range(layer.heads):
                cache.keep(head, top_k(scores[head], budget))
        step_out = decode_by_appending(cache)
        if moves:
            exact = {"k": [np.zeros(len(rows), bool) for rows in cache.rows]}
            write_layer(result, layer, cache.view(), scores=scores, step_out=step_out, exact=exact,
                        queries=cache.rebased_queries())
        else:
            write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result
