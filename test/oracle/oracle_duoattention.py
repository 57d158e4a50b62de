# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""DuoAttention (arXiv 2410.10819), deployed: retrieval heads keep all, streaming heads sinks and the newest.

Which KV heads are retrieval heads comes from gates [L, Hkv] (trained, or the training-free score below), an argument
or with the inputs (table_cases.py): the share `sparsity` of lowest gates streams. The prompt is read in one piece
with full attention; a streaming head is trimmed to n_s + n_r entries after it and after every step, whose own
attention may see one more. Chosen where what is published leaves a choice: the tie-breaking noise is an argument and
0 by default, so equal gates at the threshold are all retrieval heads; the quantile interpolates linearly. Training of
the gates is not transcribed.
"""
import math

import numpy as np

from oracle_support import RowCache, layers_of, parameters, rope, write_layer
from oracle_streaming_llm import sinks_and_newest

DEFAULTS = {"sinks": 64, "recent": 256, "sparsity": 0.5}


# ---------------------------------------------------------------------------------- calibration

def training_free_scores(queries, keys, inv_freq, length=500):
    """[Hkv]: mean over the group of how early the last of `length` positions attends.

    queries [Hq, D], keys [Hkv, D]: means over texts, before RoPE, put at every position; the score of a query head is
    the mean over keys of the cumulative attention of the last row.
    """
    places, group = np.arange(length), len(queries) // len(keys)
    scores = []
    for head, query in enumerate(queries):
        rotated = rope(np.tile(keys[head // group], (length, 1)), places, inv_freq)
        logits = rotated @ rope(query[None], places[-1:], inv_freq)[0] / math.sqrt(len(query))
        weights = np.exp(logits - logits.max())
        scores.append(np.cumsum(weights / weights.sum()).mean())
    return np.reshape(scores, (len(keys), group)).mean(axis=1)


def retrieval_heads(gates, sparsity, noise=0.0):
    """bool [L, Hkv]: gates (+ noise below 1e-6) at or above their `sparsity` quantile."""
    gates = np.asarray(gates, np.float64) + noise
    return gates >= np.quantile(gates, sparsity)


# ---------------------------------------------------------------------------------------- cache

def run(inputs, params, budget=None, gates=None):
    """gates [L, Hkv]; without them every head streams. budget must be None."""
    assert budget is None
    p = parameters(DEFAULTS, inputs, params)
    gates = inputs.get("table.gates") if gates is None else gates
    retrieval = None if gates is None else retrieval_heads(gates, p["sparsity"])
    result = {}
    for layer in layers_of(inputs):
        cache = RowCache(layer)
        streaming = [h for h in range(layer.heads) if retrieval is None or not retrieval[layer.index, h]]
        _trim(cache, streaming, p)
        step_out = []
        for step in range(layer.steps):
            cache.append(step)
            step_out.append(cache.attend(layer.step_q[:, step])[0])
            _trim(cache, streaming, p)
        write_layer(result, layer, cache, step_out=step_out)
    return result


def _trim(cache, streaming, p):
    for head in streaming:
        cache.keep(head, sinks_and_newest(len(cache.rows[head]), p["sinks"], p["sinks"] + p["recent"]))
