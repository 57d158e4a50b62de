# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""SCOPE (arXiv 2412.13649): the compressed prompt is untouchable, generated entries share a window of their own.

B = C_p, the entries of the prompt that stay; a shorter prompt leaves n_p = T. W counts generated entries, the newest
r of them included. Scores are the current query's probabilities, without history, mean over the group. Chosen where
what is published leaves a choice: t counts the steps before this one (the first step has t = 0) and a counter belongs
to each layer; W_t = min(W, r + t // delta), as the bound on the length asks; W = r never grows; prefill=h2o sums all
rows of the whole causal map and keeps the newest `window` besides.
"""
import numpy as np

import oracle_snapkv
from oracle_support import (RowCache, by_group, layers_of, parameters, per_row_head, prompt_probabilities, top_k,
                            write_layer)

# mode: slide, adaptive or discontinuous. decode_window: W. recent: r. max_new: steps that a generation is made for.
# prefill: snapkv, h2o or none; window, kernel, pooling belong to it.
DEFAULTS = {"mode": "slide", "recent": 256, "decode_window": 512, "max_new": 4096, "prefill": "snapkv", "window": 8,
            "kernel": 7, "pooling": "max", "granularity": "kv_head"}


def stride(p):
    """delta: steps after which the window grows by one."""
    return max(1, (p["max_new"] - p["recent"]) // max(1, p["decode_window"] - p["recent"]))


def window_at(step, p):
    """W_t of 0-based step t."""
    if p["mode"] == "slide":
        return p["decode_window"]
    return min(p["decode_window"], p["recent"] + step // stride(p))


def kept_entries(scores, prompt, window, recent):
    """Entries kept of one head [n]: the first n_p, the W_t - r best generated before the last r, the last r."""
    count = len(scores)
    older = count - recent
    best = prompt + top_k(scores[prompt:older], window - recent)
    return np.concatenate([np.arange(prompt), best, np.arange(older, count)])


def compress_prompt(layer, p, budget):
    """Entries of the prompt that each head keeps, and their scores (None where nothing was ranked)."""
    if p["prefill"] == "none" or layer.tokens <= budget:
        return [np.arange(layer.tokens)] * layer.heads, None
    if p["prefill"] == "snapkv" or budget <= p["window"]:
        return oracle_snapkv.choose(layer, p, budget)
    prefix = layer.tokens - p["window"]
    sums = by_group(prompt_probabilities(layer, layer.tokens).sum(axis=1), layer.heads).mean(axis=1)
    newest = np.arange(prefix, layer.tokens)
    kept = [np.concatenate([top_k(row[:prefix], budget - p["window"]), newest]) for row in sums]
    sums[:, prefix:] = np.inf
    return kept, sums


def run(inputs, params, budget):
    """At most B of the prompt; of what is generated at most W (and up to delta more between selections)."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        layer = per_row_head(layer, p["granularity"])
        cache = RowCache(layer)
        kept, scores = compress_prompt(layer, p, budget)
        for head in range(layer.heads):
            cache.keep(head, kept[head])
        step_out = decode(cache, len(kept[0]), p)
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result


def decode(cache, prompt, p):
    """Append, attend over everything, then select. List of outputs [Hq, D]."""
    layer, outputs = cache.layer, []
    for step in range(layer.steps):
        cache.append(step)
        out, probabilities, _ = cache.attend(layer.step_q[:, step])
        outputs.append(out)
        window = window_at(step, p)
        due = p["mode"] != "discontinuous" or step % stride(p) == 0
        if due and len(cache.rows[0]) >= prompt + window:
            for head, rows in enumerate(by_group(probabilities, layer.heads)):
                cache.keep(head, kept_entries(rows.mean(axis=0), prompt, window, p["recent"]))
    return outputs
