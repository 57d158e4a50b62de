# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""KVCompose (arXiv 2509.05165): every head ranks its own tokens, equal ranks form composite tokens, a count over all
layers sets the length of each layer.

The scorer needs a second pass: `layers.i.task.q` [Hq, R, D] and `layers.i.task.k` [Hkv, R, D] are the queries and
keys (after RoPE, positions T ..) of the R task rows that were fed after the prompt, by default the prompt itself.

Readings. n = L * B composite tokens, at least 1. Ranks below the lower bound come first whatever they score. The
ragged form (`structured` = false) counts over single heads, with the same lower bound and no rule for layer 0.
"""
import math

import numpy as np

from oracle_support import by_group, layers_of, parameters, softmax_rows, top_k
from prompt_cut import write_prompt_cut

DEFAULTS = {"structured": True, "agg_task": "max", "agg_group": "mean", "agg_head": "mean", "add_v_norm": False,
            "add_mean_across_heads": True, "keep_lower_bound": 0}
_REDUCE = {"max": np.max, "mean": np.mean}


def task_attention(task_q, keys, task_k, kind="max"):
    """a [Hq, T]: max (or mean) over task rows of the probability of each context key.

    task_q [Hq, R, D], keys [Hkv, T, D], task_k [Hkv, R, D]. Row i sees the context and task keys 0..i.
    """
    tokens, rows, group = keys.shape[1], task_q.shape[1], len(task_q) // len(keys)
    visible = np.concatenate([np.ones((rows, tokens), bool), np.tri(rows, dtype=bool)], axis=1)
    found = []
    for query_head, queries in enumerate(task_q):
        seen = np.concatenate([keys[query_head // group], task_k[query_head // group]])
        probabilities = softmax_rows(queries @ seen.T / math.sqrt(keys.shape[2]), visible)
        found.append(_REDUCE[kind](probabilities[:, :tokens], axis=0))
    return np.array(found)


def head_scores(attention, values, p):
    """s [Hkv, T] of one layer from a [Hq, T] and the values [Hkv, T, D]."""
    s = _REDUCE[p["agg_group"]](by_group(attention, len(values)), axis=1)
    if p["add_v_norm"]:
        s = s * np.linalg.norm(values, axis=-1)
    return s + s.mean(axis=0) if p["add_mean_across_heads"] else s


def composite_scores(scores, agg_head="mean", lower_bound=0):
    """Z [L, T]: score of the composite token of each rank, from s [L, Hkv, T]; layer 0 is nowhere the smallest."""
    ranked = -np.sort(-scores, axis=-1)
    z = _REDUCE[agg_head](ranked, axis=1)
    z[:, :lower_bound] = np.inf
    z[0] = z.max(axis=0)
    return z


def layer_lengths(scores, total, agg_head="mean", lower_bound=0):
    """Entries of each layer [L], the same for all heads; their sum is `total`."""
    z = composite_scores(scores, agg_head, lower_bound)
    return np.bincount(top_k(z.reshape(-1), max(1, total)) // z.shape[1], minlength=len(z))


def head_lengths(scores, total, lower_bound=0):
    """Entries [L, Hkv] of the ragged form; their sum is `total`."""
    ranked = -np.sort(-scores, axis=-1)
    ranked[:, :, :lower_bound] = np.inf
    chosen = top_k(ranked.reshape(-1), max(1, total))
    return np.bincount(chosen // scores.shape[2], minlength=scores.shape[0] * scores.shape[1]).reshape(scores.shape[:2])


def run(inputs, params, budget):
    """B = mean over layers (and heads); keys keep their positions; task rows leave nothing; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    layers, result = layers_of(inputs), {}
    tokens, heads = layers[0].tokens, layers[0].heads
    scores, lengths = None, np.full((len(layers), heads), tokens)
    if tokens > budget:
        scores = np.array([_scores_of(inputs, layer, p) for layer in layers])
        if p["structured"]:
            total = len(layers) * budget
            lengths[:] = layer_lengths(scores, total, p["agg_head"], p["keep_lower_bound"])[:, None]
        else:
            lengths = head_lengths(scores, len(layers) * heads * budget, p["keep_lower_bound"])
    for layer in layers:
        kept = [np.arange(tokens)] * heads
        if scores is not None:
            kept = [top_k(scores[layer.index, h], lengths[layer.index, h]) for h in range(heads)]
        write_prompt_cut(result, layer, kept, None if scores is None else scores[layer.index])
    return result


def _scores_of(inputs, layer, p):
    task_q, task_k = (inputs.get(f"layers.{layer.index}.task.{name}") for name in "qk")
    if task_q is None or task_k is None:
        raise ValueError(f"layers.{layer.index}.task.q, task.k: expected the rows of the second pass")
    attention = task_attention(task_q.astype(np.float64), layer.k, task_k.astype(np.float64), p["agg_task"])
    return head_scores(attention, layer.v, p)
