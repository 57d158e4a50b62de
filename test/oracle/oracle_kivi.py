# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""KIVI (arXiv 2402.02750): keys per channel in blocks of R rows, values per token, newest rows exact.

Keys keep 0 rows back and code R at a time; values keep the newest R exact and code one at a time. A
row is exact in the step that appended it: coding happens after that step's attention.
"""
import numpy as np

from oracle_support import (Coded, RowCache, attend_heads, channel_groups, layers_of, parameters, uqa, write_layer)

DEFAULTS = {"k_bits": 2, "v_bits": 2, "group_size": 32, "residual_length": 32}


class CodedSide:
    """One head and side: `seen` [n, D] is what attention reads; the first `coded` rows are decoded codes."""

    def __init__(self, rows, encode, keep, block):
        self.seen, self.encode, self.keep, self.block = rows.copy(), encode, keep, block
        self.coded, self.codes, self.scales, self.zeros = 0, [], [], []

    def append(self, row):
        self.seen = np.vstack([self.seen, row])

    def commit(self):
        """Codes the oldest exact block while at least keep + block rows are exact."""
        while len(self.seen) - self.coded >= self.keep + self.block:
            rows = slice(self.coded, self.coded + self.block)
            codes, scales, zeros, decoded = self.encode(self.seen[rows])
            self.seen[rows] = decoded
            self.codes.append(codes)
            self.scales.append(scales)
            self.zeros.append(zeros)
            self.coded += self.block


def code_keys(rows, bits, group):
    """Per channel, groups of `group` consecutive rows: scales and minima are [rows / group, D]."""
    tiles = rows.reshape(-1, group, rows.shape[1])
    codes, scales, zeros, decoded = uqa(tiles.transpose(0, 2, 1), bits)
    flat = rows.shape
    return codes.transpose(0, 2, 1).reshape(flat), scales, zeros, decoded.transpose(0, 2, 1).reshape(flat)


def code_values(rows, bits, group):
    """Per row, groups of `group` consecutive channels: scales and minima are [rows, D / group]."""
    parts = [uqa(rows[:, channels], bits) for channels in channel_groups(rows.shape[1], group)]
    codes = np.concatenate([part[0] for part in parts], axis=1)
    scales, zeros = (np.stack([part[i] for part in parts], axis=1) for i in (1, 2))
    return codes, scales, zeros, np.concatenate([part[3] for part in parts], axis=1)


class KiviCache:
    """The coded K and V of one layer, over the rows that `cache` (a RowCache) holds."""

    def __init__(self, cache, p):
        self.cache, group, tail = cache, p["group_size"], p["residual_length"]
        self.k = [CodedSide(rows, lambda x: code_keys(x, p["k_bits"], group), 0, tail) for rows in cache.k]
        self.v = [CodedSide(rows, lambda x: code_values(x, p["v_bits"], group), tail, 1) for rows in cache.v]

    def commit(self):
        for side in self.k + self.v:
            side.commit()

    def decode(self):
        """The steps: append exact rows, attend over codes and tail, then code. Outputs per step."""
        layer, outputs = self.cache.layer, []
        for step in range(layer.steps):
            self.cache.append(step)
            for head in range(layer.heads):
                self.k[head].append(layer.step_k[head, step])
                self.v[head].append(layer.step_v[head, step])
            keys, values = [side.seen for side in self.k], [side.seen for side in self.v]
            outputs.append(attend_heads(layer.step_q[:, step], keys, values)[0])
            self.commit()
        return outputs

    def write(self, result, scores, step_out):
        """Adds this layer's output; the reader sees decoded rows."""
        self.cache.k, self.cache.v = [side.seen for side in self.k], [side.seen for side in self.v]
        coded = {name: _joined(sides) for name, sides in (("k", self.k), ("v", self.v)) if sides[0].coded}
        write_layer(result, self.cache.layer, self.cache, scores=scores, step_out=step_out, coded=coded)


def _joined(sides):
    return Coded(*([np.concatenate(getattr(side, name)) for side in sides] for name in ("codes", "scales", "zeros")))


def run(inputs, params, budget=None):
    """Keeps every row; budget must be None."""
    assert budget is None
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        coded = KiviCache(RowCache(layer), p)
        coded.commit()
        coded.write(result, None, coded.decode())
    return result
