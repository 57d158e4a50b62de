# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""StreamingLLM (arXiv 2309.17453): the first `sinks` entries and the newest ones, B in all.

positions=original leaves keys where they were rotated; positions=cache moves the key and the query of
every attention to their index in the cache.
"""
import numpy as np

from oracle_support import RowCache, attend_heads, layers_of, parameters, rope, write_layer

DEFAULTS = {"sinks": 4, "positions": "original"}


def sinks_and_newest(count, sinks, budget):
    """Entries kept of `count`: the first min(sinks, B), then the newest, B in all."""
    if count <= budget:
        return np.arange(count)
    first = min(sinks, budget)
    return np.concatenate([np.arange(first), np.arange(count - (budget - first), count)])


def run(inputs, params, budget):
    """B = sinks + newest B - sinks, after the prompt and after every step."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        cache = ReindexedCache(layer) if p["positions"] == "cache" else RowCache(layer)
        _cut(cache, p["sinks"], budget)
        step_out = []
        for step in range(layer.steps):
            cache.append(step)
            step_out.append(cache.attend(layer.step_q[:, step])[0])
            _cut(cache, p["sinks"], budget)
        if p["positions"] == "cache":
            view, queries = cache.view(), cache.rebased_queries()
            exact = {"k": [np.zeros(len(rows), bool) for rows in cache.rows]}
            write_layer(result, layer, view, step_out=step_out, exact=exact, queries=queries)
        else:
            write_layer(result, layer, cache, step_out=step_out)
    return result


def _cut(cache, sinks, budget):
    for head in range(cache.layer.heads):
        cache.keep(head, sinks_and_newest(len(cache.rows[head]), sinks, budget))


class ReindexedCache(RowCache):
    """Keys are held before RoPE and rotated to their cache index whenever they are read."""

    def __init__(self, layer):
        super().__init__(layer)
        if layer.k_pre is not None:
            self.k = [head.copy() for head in layer.k_pre]
        else:
            self.k = [rope(head, -layer.positions[:layer.tokens], layer.inv_freq) for head in layer.k]

    def append(self, step):
        super().append(step)
        back = [-self.layer.positions[self.layer.tokens + step]]
        for head in range(self.layer.heads):
            self.k[head][-1] = rope(self.k[head][-1:], back, self.layer.inv_freq)[0]

    def view(self):
        """The cache as a reader sees it: keys rotated to 0..n-1, pos = that index."""
        view = RowCache(self.layer)
        view.k = [rope(head, np.arange(len(head)), self.layer.inv_freq) for head in self.k]
        view.v, view.rows = self.v, self.rows
        view.pos = [np.arange(len(rows)) for rows in self.rows]
        return view

    def attend(self, queries):
        """The newest entry's query, moved from its absolute position to the index of that entry."""
        count = len(self.rows[0])
        moved = rope(queries, np.full(len(queries), count - 1 - self.pos[0][-1]), self.layer.inv_freq)
        return attend_heads(moved, self.view().k, self.v)

    def rebased_queries(self):
        """Probe queries follow the newest position; they move by as much as a next token would."""
        if self.layer.queries is None:
            return None
        shift = len(self.rows[0]) - (self.layer.positions[-1] + 1)
        count = self.layer.queries.shape[1]
        return rope(self.layer.queries, np.full(count, shift), self.layer.inv_freq)
