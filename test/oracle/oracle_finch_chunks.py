# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Finch (arXiv 2408.00167) in its published form: the context is read in chunks, each followed by the question.

After each chunk every layer keeps one set for all heads out of cached and new entries, moves it to positions 0..k-1
and drops the question's rows. The activations of a chunk depend on what is cached, so the model is a callable:

    read(first, last, start, caches) -> per layer (k, v, question_q, question_k)

gives rows first..last-1 of the context at positions start.., then the question right after them; k, v [Hkv, m, D],
question_q [Hq, n, D], question_k [Hkv, n, D], all after RoPE. caches: per layer (k, v) [Hkv, p, D] at positions 0..p-1.

Parity. `weights` = visible weighs a row by the share of keys it sees (the paper and the Mistral code), none sums
plain probabilities (what the Llama code does in effect). The decoder reads the question once more after the last
chunk, at positions k..; that pass is outside this oracle.
"""
import math

import numpy as np

from oracle_support import rope, softmax_rows, top_k


def compression_factor(context, question, target):
    """cf = ceil(T_c / (N - n)); None when context and question fit in the target N."""
    if context + question <= target:
        return None
    if target <= question:
        raise ValueError(f"target {target}: expected more than the question's {question} tokens")
    return -(-context // (target - question))


def question_scores(question_q, keys, question_k, weights="visible"):
    """s [p + m]: sum over query heads and question rows of c_i * P[h, i, j], one row for the whole layer.

    keys [Hkv, p + m, D] of cache and chunk, question_q [Hq, n, D], question_k [Hkv, n, D]; row i sees all of the
    former and question keys 0..i.
    """
    count, rows, group = keys.shape[1], question_q.shape[1], len(question_q) // len(keys)
    visible = np.concatenate([np.ones((rows, count), bool), np.tri(rows, dtype=bool)], axis=1)
    c = visible.sum(axis=1) / (count + rows) if weights == "visible" else np.ones(rows)
    total = np.zeros(count)
    for head, queries in enumerate(question_q):
        seen = np.concatenate([keys[head // group], question_k[head // group]])
        probabilities = softmax_rows(queries @ seen.T / math.sqrt(keys.shape[2]), visible)
        total += c @ probabilities[:, :count]
    return total


def compress_layer(cache, fresh, count, inv_freq, weights="visible"):
    """One layer after one chunk: the kept entry numbers [k] and the new (k, v), at positions 0..k-1."""
    keys = np.concatenate([cache[0], fresh[0]], axis=1)
    values = np.concatenate([cache[1], fresh[1]], axis=1)
    kept = top_k(question_scores(fresh[2], keys, fresh[3], weights), count)
    return kept, (rope(keys[:, kept], np.arange(len(kept)) - kept, inv_freq), values[:, kept])


def compress(read, shape, context, question, target, chunk, inv_freq, weights="visible"):
    """Per layer (k, v, source rows of the context [k]); shape = (L, Hkv, D), the other counts are tokens.

    The chunk of m rows leaves k = m // cf + p entries of p + m. Without a compression factor: one plain read.
    """
    layers, heads, dim = shape
    factor, length = compression_factor(context, question, target), 0
    caches = [(np.zeros((heads, 0, dim)), np.zeros((heads, 0, dim)))] * layers
    sources = [np.zeros(0, int)] * layers
    for first in range(0, context, chunk if factor else context):
        last = min(first + chunk, context) if factor else context
        fresh = read(first, last, length, caches)
        count = length + ((last - first) // factor if factor else last - first)
        for index in range(layers):
            kept, caches[index] = compress_layer(caches[index], fresh[index], count, inv_freq, weights)
            sources[index] = np.append(sources[index], np.arange(first, last))[kept]
        length = count
    return [(k, v, rows) for (k, v), rows in zip(caches, sources)]
