# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Finch (arXiv 2408.00167) as one pass over context and question: the question's rows vote, survivors move together.

The last `question` rows of the prompt are the question. Keys of the kept entries are rotated to positions 0..B-1 and
rounded to the dtype of the cache; everything later follows at positions B, B+1, ...

Parity. `counts` = visible weighs a row by the number of keys it sees, as the paper does; shifted by one less, as
kvpress does; none by 1. `chunk` > 0 selects in pieces of the sequence that many rows long, max(1, floor(rows * B / T))
in each. `rerotate` = false leaves positions alone.

Readings. T <= B changes nothing, B <= question keeps the newest B. Question entries are forced; where a piece has more
of them than its share, its earliest ones stay.
"""
import numpy as np

from oracle_support import (RowCache, attend_heads, by_group, forced, layers_of, parameters, rope, to_act, top_k,
                            write_layer)
from prompt_cut import trivial_cut, window_rows

DEFAULTS = {"question": 32, "counts": "visible", "chunk": 0, "rerotate": True}


def row_weights(tokens, question, counts):
    """c [w] of the question's rows."""
    first = tokens - question
    if counts == "none":
        return np.ones(question)
    return np.arange(first, tokens) + (1.0 if counts == "visible" else 0.0)


def context_scores(layer, question, counts):
    """[Hkv, S]: mean over the question's rows of c * P, mean over the group."""
    weighted = window_rows(layer, question) * row_weights(layer.tokens, question, counts)[:, None]
    return by_group(weighted.mean(axis=1), layer.heads).mean(axis=1)


def select(scores, budget, chunk):
    """Kept entries of one head from scores [T], forced ones +inf."""
    if not chunk:
        return top_k(scores, budget)
    kept = []
    for start in range(0, len(scores), chunk):
        part = scores[start:start + chunk]
        kept.append(start + top_k(part, max(1, len(part) * budget // len(scores))))
    return np.concatenate(kept)


class MovedCache(RowCache):
    """A cache whose entries take positions 0..n-1; later rows and queries move with them."""

    def __init__(self, layer, kept):
        super().__init__(layer)
        for head in range(layer.heads):
            self.keep(head, kept[head])
            self.pos[head] = np.arange(len(kept[head]))
            moved = rope(self.k[head], self.pos[head] - layer.positions[kept[head]], layer.inv_freq)
            self.k[head] = to_act(moved, layer.act)
        self.shift = len(kept[0]) - (layer.positions[layer.tokens - 1] + 1)   # of every later token

    def append(self, step):
        super().append(step)
        for head in range(self.layer.heads):
            self.pos[head][-1] += self.shift
            self.k[head][-1] = to_act(self.moved(self.k[head][-1:])[0], self.layer.act)

    def moved(self, vectors):
        """[n, D] of later tokens, rotated to where they now stand."""
        return rope(vectors, np.full(len(vectors), self.shift), self.layer.inv_freq)

    def attend(self, queries):
        return attend_heads(self.moved(queries), self.k, self.v)


def run(inputs, params, budget):
    """B = question + the best of the context, per KV head; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        kept, scores = trivial_cut(layer, p["question"], budget), None
        if kept is None:
            scores = forced(context_scores(layer, p["question"], p["counts"]), layer.tokens)
            kept = [select(row, budget, p["chunk"]) for row in scores]
        moves = p["rerotate"] and layer.tokens > budget
        cache = MovedCache(layer, kept) if moves else RowCache(layer)
        if not moves:
            for head in range(layer.heads):
                cache.keep(head, kept[head])
        step_out = []
        for step in range(layer.steps):
            cache.append(step)
            step_out.append(cache.attend(layer.step_q[:, step])[0])
        queries = layer.queries
        if moves and queries is not None:
            queries = np.array([cache.moved(rows) for rows in queries])
        exact = {"k": [np.zeros(len(rows), bool) for rows in cache.rows]} if moves else None
        write_layer(result, layer, cache, scores=scores, step_out=step_out, exact=exact, queries=queries)
    return result
