# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""QuaRot cache (arXiv 2404.00456): Hadamard-rotated K (after RoPE) and V, integer zero-point codes per row.

Every row is coded when the event that appended it commits; in that event it is exact.
"""
import numpy as np

from oracle_support import (Coded, RowCache, attend_heads, channel_groups, hadamard, layers_of, parameters,
                            write_layer, zero_point)

DEFAULTS = {"bits": 4, "group": None, "clip": 1.0}   # group None = D


def code_rows(rows, p):
    """Rotated codes of [n, D]: (codes, scales, zeros, decoded in the input's basis, slack, group slack)."""
    dim = rows.shape[1]
    rotation = hadamard(dim)
    rotated = (rows @ rotation).astype(np.float32)
    groups = channel_groups(dim, p["group"] or dim)
    parts = [zero_point(rotated[:, channels], p["bits"], p["clip"]) for channels in groups]
    codes, decoded, slack = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 3, 4))
    scales, zeros, group_slack = (np.stack([part[i] for part in parts], axis=1) for i in (1, 2, 5))
    return codes, scales, zeros, decoded.astype(np.float64) @ rotation, slack, group_slack


class _Side:
    """One head and side: what attention reads [n, D], and the coded pieces in order."""

    def __init__(self, rows, p):
        self.p, self.seen, self.pieces, self.coded = p, rows.copy(), [], 0

    def append(self, row):
        self.seen = np.vstack([self.seen, row])

    def commit(self):
        piece = code_rows(self.seen[self.coded:], self.p)
        self.seen[self.coded:] = piece[3]
        self.pieces.append(piece)
        self.coded = len(self.seen)


def run(inputs, params, budget=None):
    """Keeps every row; budget must be None."""
    assert budget is None
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        cache = RowCache(layer)
        sides = {"k": [_Side(rows, p) for rows in cache.k], "v": [_Side(rows, p) for rows in cache.v]}
        _commit(sides)
        step_out = []
        for step in range(layer.steps):
            cache.append(step)
            for head in range(layer.heads):
                sides["k"][head].append(layer.step_k[head, step])
                sides["v"][head].append(layer.step_v[head, step])
            keys, values = ([side.seen for side in sides[name]] for name in ("k", "v"))
            step_out.append(attend_heads(layer.step_q[:, step], keys, values)[0])
            _commit(sides)
        cache.k, cache.v = ([side.seen for side in sides[name]] for name in ("k", "v"))
        inexact = [np.zeros(len(rows), bool) for rows in cache.rows]
        coded = {name: _joined(heads) for name, heads in sides.items()}
        write_layer(result, layer, cache, step_out=step_out, coded=coded, exact={"k": inexact, "v": inexact})
    return result


def _commit(sides):
    for side in sides["k"] + sides["v"]:
        side.commit()


def _joined(heads):
    return Coded(*([np.concatenate([piece[i] for piece in side.pieces]) for side in heads] for i in (0, 1, 2, 4, 5)))
