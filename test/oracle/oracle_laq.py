# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Lookahead Q-Cache (arXiv 2505.20334): the queries of a cheap draft answer score the prompt.

`layers.i.rollout.q` [Hq, n, D] of the inputs are the draft's queries after RoPE at positions T, T+1, ...; absent means
n = 0. `lookahead_cache` is the temporary cache the draft is decoded on, `rollout` its loop.

Parity. `mask` = exact: the last `window` prompt rows are causal, draft rows see the whole prompt. triangle: row r of all
R rows does not see the keys after T - R + r, as the published code has it. `granularity` = query_head keeps K and V per
query head, as the published code does.

Readings. The draft's own keys are in no softmax. Pooling is per query head, then the mean over the group. `window` = 0
protects no recent row; T <= B keeps all, B <= window the newest B. Draft rows beyond `lookahead` are ignored.
"""
import math

import numpy as np

import oracle_snapkv
from oracle_support import by_group, forced, layers_of, parameters, per_row_head, pool, softmax_rows, top_k
from prompt_cut import trivial_cut, with_newest, write_prompt_cut

DEFAULTS = {"granularity": "kv_head", "lookahead": 8, "lookahead_window": 32, "window": 8, "kernel": 7, "pooling": "max",
            "mask": "exact"}


def lookahead_cache(layer, p, budget):
    """Kept entries per head of the temporary cache: SnapKV with its own window."""
    stage = {"window": p["lookahead_window"], "kernel": p["kernel"], "pooling": p["pooling"]}
    return oracle_snapkv.choose(layer, stage, budget)[0]


def rollout(first, forward, count, end=None):
    """Queries of up to `count` greedy forwards, and the tokens they read.

    first: the prompt's own next token; forward(token, step) -> (next token, queries) on the temporary cache at position
    T + step. A next token equal to `end` stops the draft.
    """
    tokens, queries, token = [], [], first
    while len(tokens) < count and token != end:
        tokens.append(token)
        token, found = forward(token, len(tokens) - 1)
        queries.append(found)
    return queries, tokens


def visible(tokens, window, drafts, mask):
    """[R, T] bool: which prompt keys the last `window` prompt rows and the draft rows see."""
    rows, keys = np.arange(window + drafts)[:, None], np.arange(tokens)
    if mask == "triangle":
        return keys <= tokens - window - drafts + rows
    return keys <= tokens - window + rows


def prompt_scores(layer, drafts, p):
    """[Hkv, T - window]: sum over the R rows, pooled, mean over the group. drafts: [Hq, n, D]."""
    window = p["window"]
    if window and (layer.q is None or layer.q.shape[1] < window):
        raise ValueError(f"layers.{layer.index}.q: expected at least {window} rows")
    rows = drafts if window == 0 else np.concatenate([layer.q[:, layer.q.shape[1] - window:], drafts], axis=1)
    seen = visible(layer.tokens, window, drafts.shape[1], p["mask"])
    votes = []
    for head, queries in enumerate(rows):
        keys = layer.k[head // (len(rows) // layer.heads)]
        votes.append(softmax_rows(queries @ keys.T / math.sqrt(layer.dim), seen).sum(axis=0))
    votes = np.array(votes)[:, :layer.tokens - window]
    return by_group(pool(votes, p["pooling"], p["kernel"]), layer.heads).mean(axis=1)


def draft_rows(inputs, layer, count):
    """[Hq, n, D]: the first `count` draft queries of the layer, n = 0 without a rollout."""
    drafts = inputs.get(f"layers.{layer.index}.rollout.q")
    if drafts is None or count == 0:
        if layer.q is None:
            raise ValueError(f"layers.{layer.index}.q, rollout.q: expected one of them")
        return np.zeros((layer.q.shape[0], 0, layer.dim))
    return drafts.astype(np.float64)[:, :count]


def run(inputs, params, budget):
    """B = window + the best of the rest, per KV head, from the full prompt cache; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        layer = per_row_head(layer, p["granularity"])
        kept, scores = trivial_cut(layer, p["window"], budget), None
        if kept is None:
            drafts = draft_rows(inputs, layer, p["lookahead"])
            scores = prompt_scores(layer, drafts, p)
            kept = with_newest([top_k(row, budget - p["window"]) for row in scores], layer, p["window"])
            scores = forced(scores, layer.tokens)
        write_prompt_cut(result, layer, kept, scores)
    return result
