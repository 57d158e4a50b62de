# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""RoCo (arXiv 2402.06262): evict the lowest mean attention among the entries whose attention varies little.

Per KV head and entry: A1 = sum of p, A2 = sum of p^2 and n = queries that could see it, with p the mean over the
group (before squaring); mu = A1 / n, sd = sqrt(max(0, A2 / n - mu^2)).

mode=decoding: B counts generated entries, the prompt stays. mode=encoding: the prompt is read `stride` rows at a
time; decode appends. mode=auto: B counts all entries; a prompt that fits leaves B - T to generated ones, another is
read as by encoding and then competes with what is generated.

Chosen where what is published leaves a choice: among equal sd or mu the older entry comes first, also when entries
with sd = inf have to enter the feasible set (small M: sinks before newest); a feasible set has at least one entry;
cap=total makes M = B (all of the budget), cap=ratio is the published M = floor(rho T) + stride with B = floor(rho T);
a prompt whose length and stride admit no target N >= 1 is refused. The streaming switch, which attends at cache
positions, is not transcribed.
"""
import math

import numpy as np

from oracle_support import (RowCache, by_group, decode_by_appending, layers_of, parameters, softmax_rows, top_k,
                            write_layer)

# recent_ratio, encode_ratio: shares of B (of M) that shrink the feasible set. protect: newest entries with sd = inf.
DEFAULTS = {"mode": "decoding", "recent_ratio": 0.3, "encode_ratio": 0.1, "protect": 10, "sinks": 4, "stride": 1,
            "keep_attention": False, "cap": "total"}


class Spread:
    """A1, A2, n of the entries of one head, in the order of the cache."""

    def __init__(self, count=0):
        self.total, self.squares, self.seen = np.zeros(count), np.zeros(count), np.zeros(count, int)

    def extend(self, count):
        for name in ("total", "squares", "seen"):
            column = getattr(self, name)
            setattr(self, name, np.append(column, np.zeros(count, column.dtype)))

    def add(self, rows, visible):
        """rows, visible [queries, n]: probabilities (0 where not visible)."""
        self.total += rows.sum(axis=0)
        self.squares += (rows * rows).sum(axis=0)
        self.seen += visible.sum(axis=0)

    def mean(self):
        return self.total / self.seen

    def deviation(self):
        return np.sqrt(np.maximum(0.0, self.squares / self.seen - self.mean() ** 2))

    def remove(self, entries):
        for name in ("total", "squares", "seen"):
            setattr(self, name, np.delete(getattr(self, name), entries))


def victims(mean, deviation, feasible, count):
    """Entries to evict: the `count` smallest means among the `feasible` smallest deviations."""
    with np.errstate(invalid="ignore"):
        calm = top_k(-deviation, feasible)
        return calm[top_k(-mean[calm], count)]


def decode_victim(spread, budget, p):
    """The entry that leaves when B + 1 compete."""
    deviation = spread.deviation()
    if p["protect"]:
        deviation[-p["protect"]:] = np.inf
    feasible = max(1, budget - math.floor(p["recent_ratio"] * budget))
    return victims(spread.mean(), deviation, feasible, 1)


def decode(cache, spreads, first, budget, p):
    """Entries from `first` on compete for B places, one leaves per step. List of outputs [Hq, D]."""
    layer, outputs = cache.layer, []
    for step in range(layer.steps):
        cache.append(step)
        out, probabilities, _ = cache.attend(layer.step_q[:, step])
        outputs.append(out)
        for head, rows in enumerate(by_group(probabilities, layer.heads)):
            spreads[head].extend(1)
            row = rows.mean(axis=0)[None, first:]
            spreads[head].add(row, np.ones(row.shape, bool))
            if row.shape[1] > budget:
                victim = decode_victim(spreads[head], budget, p)
                spreads[head].remove(victim)
                cache.keep(head, np.delete(np.arange(first + row.shape[1]), first + victim))
    return outputs


def encoding_target(tokens, cap, stride):
    """N: the largest length <= cap that whole strides reach from it to T."""
    cap = min(cap, tokens)
    target = cap - (cap - tokens) % stride
    if target < 1:
        raise ValueError(f"stride: {tokens} prompt rows in strides of {stride} cannot end with {cap} entries")
    return target


def group_rows(layer, head, queries, entries):
    """Mean over the group [len(queries), len(entries)] of attention of prompt rows over prompt rows, and the mask."""
    if layer.q is None or layer.q.shape[1] < layer.tokens:
        raise ValueError(f"layers.{layer.index}.q: expected at least {layer.tokens} rows")
    visible = np.asarray(entries)[None, :] <= np.asarray(queries)[:, None]
    group = layer.q.shape[0] // layer.heads
    rows = [softmax_rows(layer.q[h, queries] @ layer.k[head, entries].T / math.sqrt(layer.dim), visible)
            for h in range(head * group, (head + 1) * group)]
    return np.mean(rows, axis=0), visible


def encode(layer, head, cap, p):
    """The prompt rows that one head holds at the end of the prompt, ascending, and their Spread."""
    stride = p["stride"]
    target = encoding_target(layer.tokens, cap, stride)
    first = target - stride if target >= stride else target
    kept, spread = np.arange(first), Spread(first)
    if p["keep_attention"] and first:
        spread.add(*group_rows(layer, head, kept, kept))
    for start in range(first, layer.tokens, stride):
        block = np.arange(start, start + stride)
        kept = np.append(kept, block)
        spread.extend(stride)
        spread.add(*group_rows(layer, head, block, kept))
        extra = len(kept) - target
        if extra > 0:
            deviation = spread.deviation()
            if p["protect"]:
                deviation[-p["protect"]:] = np.inf
            deviation[:p["sinks"]] = np.inf
            feasible = max(cap - math.floor(p["encode_ratio"] * cap) - p["sinks"], extra)
            gone = victims(spread.mean(), deviation, feasible, extra)
            spread.remove(gone)
            kept = np.delete(kept, gone)
    return kept, spread


def run(inputs, params, budget):
    """See the module's text for what B counts in each mode."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        cache = RowCache(layer)
        fits = p["mode"] == "decoding" or (p["mode"] == "auto" and layer.tokens <= budget)
        if fits:
            room = budget if p["mode"] == "decoding" else budget - layer.tokens
            step_out = decode(cache, [Spread() for _ in range(layer.heads)], layer.tokens, room, p)
        else:
            cap = budget + p["stride"] if p["cap"] == "ratio" else budget
            read = [encode(layer, head, cap, p) for head in range(layer.heads)]
            for head, (kept, _) in enumerate(read):
                cache.keep(head, kept)
            if p["mode"] == "encoding":
                step_out = decode_by_appending(cache)
            else:
                step_out = decode(cache, [spread for _, spread in read], 0, budget, p)
        write_layer(result, layer, cache, step_out=step_out)
    return result
