# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""RazorAttention (arXiv 2407.15891): retrieval heads keep all; the others sinks, the newest and one mean entry.

A short head of N entries keeps the first N0 and the last Lh = max(S0, N // C); the N_d between become one
compensation entry, the mean of their (rotated) keys and of their values, which attention counts N_d times: ln(N_d) is
added to its logit. Which KV heads are retrieval heads [L, Hkv] comes as an argument or with the inputs
(table_cases.py).

Chosen where what is published leaves a choice: in decode the entry that leaves the recent ones joins the running mean
(absorb=false appends without dropping, as the published code does, with weighted=false, share=0, local=252);
buffer=prompt fixes Lh at the end of the prompt, buffer=length lets N // C follow the length; a share of heads is
rounded (halves to even) but at least one head. In the output the compensation entry stands between sinks and recent
entries, with the index and position of the first entry it stands for and N_d as its count. The bound on the attention
range of ALiBi models is not transcribed.
"""
import math
from dataclasses import replace

import numpy as np

from oracle_support import RowCache, layers_of, parameters, top_k, write_layer

DEFAULTS = {"sinks": 4, "local": 4000, "share": 5, "weighted": True, "absorb": True, "buffer": "prompt"}


# ---------------------------------------------------------------------------------- calibration

def echo_and_induction(probabilities, period):
    """(echo, induction), [H] each, of P [H, n, n] over one first token and copies of `period` random tokens.

    Per row after the first copy, in the mean: mass on earlier equal tokens, and on those that follow them.
    """
    heads, count, _ = probabilities.shape
    echo, induction = np.zeros(heads), np.zeros(heads)
    for row in range(1 + period, count):
        same = np.arange(row - period, 0, -period)
        echo += probabilities[:, row, same].sum(axis=1)
        induction += probabilities[:, row, same + 1].sum(axis=1)
    return echo / (count - 1 - period), induction / (count - 1 - period)


def retrieval_heads(echo, induction, heads, echo_share=0.01, induction_share=0.14):
    """bool [L, Hkv] of scores [L, Hq]: best of a group, the top shares of all L Hkv by either score."""
    chosen = np.zeros(len(echo) * heads, bool)
    for scores, share in ((echo, echo_share), (induction, induction_share)):
        best = np.asarray(scores).reshape(len(scores), heads, -1).max(axis=2).reshape(-1)
        chosen[top_k(best, max(1, int(np.rint(share * best.size))))] = True
    return chosen.reshape(len(echo), heads)


# ------------------------------------------------------------------------------------ attention

def weighted_attend(query, keys, values, counts):
    """Attention of one query [D] in which entry j counts counts[j] times: output [D], log-sum-exp."""
    logits = keys @ query / math.sqrt(len(query)) + np.log(counts)
    weights = np.exp(logits - logits.max())
    return weights @ values / weights.sum(), logits.max() + math.log(weights.sum())


def buffer_length(tokens, p):
    """Lh: recent entries that a short head of `tokens` keeps."""
    return max(p["local"], tokens // p["share"] if p["share"] else 0)


class Head:
    """One KV head: entries k, v [n, D] with their rows and counts [n]; `merged` is that of the compensation entry."""

    def __init__(self, layer, head):
        self.k, self.v = layer.k[head].copy(), layer.v[head].copy()
        self.rows, self.counts = np.arange(layer.tokens), np.ones(layer.tokens)
        self.merged = None

    def append(self, key, value, row):
        self.k, self.v = np.vstack([self.k, key]), np.vstack([self.v, value])
        self.rows, self.counts = np.append(self.rows, row), np.append(self.counts, 1.0)

    def shorten(self, sinks, local):
        """Merges everything between the first `sinks` and the last `local` entries into one."""
        first = sinks if self.merged is None else self.merged
        last = len(self.rows) - local
        if last <= first + (self.merged is not None):
            return
        weights = self.counts[first:last]
        for column in ("k", "v"):
            rows = getattr(self, column)
            mean = weights @ rows[first:last] / weights.sum()
            setattr(self, column, np.concatenate([rows[:first], mean[None], rows[last:]]))
        self.rows = np.delete(self.rows, np.arange(first + 1, last))
        self.counts = np.concatenate([self.counts[:first], [weights.sum()], self.counts[last:]])
        self.merged = first

    def attend(self, query, weighted):
        counts = self.counts if weighted else np.ones(len(self.counts))
        return weighted_attend(query, self.k, self.v, counts)


def attend(heads, queries, weighted):
    """Queries [Hq, D] over all heads: out [Hq, D], lse [Hq]."""
    group = len(queries) // len(heads)
    answers = [heads[h // group].attend(query, weighted) for h, query in enumerate(queries)]
    return np.array([a[0] for a in answers]), np.array([a[1] for a in answers])


def run(inputs, params, budget=None, retrieval=None):
    """retrieval: bool [L, Hkv], None = no retrieval head. budget must be None."""
    assert budget is None
    p = parameters(DEFAULTS, inputs, params)
    retrieval = inputs.get("table.retrieval") if retrieval is None else retrieval
    result = {}
    for layer in layers_of(inputs):
        short = [head for head in range(layer.heads) if retrieval is None or not retrieval[layer.index][head]]
        heads = [Head(layer, head) for head in range(layer.heads)]
        for head in short:
            heads[head].shorten(p["sinks"], buffer_length(layer.tokens, p))
        step_out = []
        for step in range(layer.steps):
            row = layer.tokens + step
            for head in range(layer.heads):
                heads[head].append(layer.step_k[head, step], layer.step_v[head, step], row)
            step_out.append(attend(heads, layer.step_q[:, step], p["weighted"])[0])
            for head in short if p["absorb"] else []:
                length = layer.tokens if p["buffer"] == "prompt" else row + 1
                heads[head].shorten(p["sinks"], buffer_length(length, p))
        _write(result, layer, heads, step_out, p["weighted"])
    return result


def _write(result, layer, heads, step_out, weighted):
    cache = RowCache(layer)
    cache.k, cache.v = [head.k for head in heads], [head.v for head in heads]
    cache.rows = [head.rows for head in heads]
    cache.pos = [layer.positions[head.rows] for head in heads]
    exact = [np.arange(len(head.rows)) != (-1 if head.merged is None else head.merged) for head in heads]
    write_layer(result, replace(layer, queries=None), cache, step_out=step_out,
                counts=[head.counts for head in heads], exact={"k": exact, "v": exact})
    if layer.queries is not None:
        answers = [attend(heads, layer.queries[:, i], weighted) for i in range(layer.queries.shape[1])]
        result[f"layers.{layer.index}.out"] = np.stack([a[0] for a in answers], 1).astype(np.float32)
        result[f"layers.{layer.index}.lse"] = np.stack([a[1] for a in answers], 1).astype(np.float32)
