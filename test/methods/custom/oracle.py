# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Ember in numpy, written from the text at the top of ember.mlir: decayed value energy, a threshold with a floor, dropped
values folded into the nearest kept entry, 3-bit codes of 24 channels.

`run(inputs, params)` returns the tensors of the `apply` output file, in the form of the shipped methods' oracles.
"""
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "oracle"))
from oracle_support import (Coded, RowCache, attend_heads, channel_groups, layers_of, parameters, record_cut, to_act,
                            top_k, uqa, write_layer)  # noqa: E402

DEFAULTS = {"half_life": 256.0, "threshold": 1.0, "floor": 8, "temperature": 4.0}
BITS, TILE = 3, 24


def energy_scores(values, half_life):
    """[Hkv, T]: |v|^2 / sqrt(1 + age / half_life), age 0 for the newest entry."""
    age = np.arange(values.shape[1])[::-1]
    return (values ** 2).sum(axis=-1) / np.sqrt(1.0 + age / half_life)


def choose(scores, threshold, floor):
    """Kept entries of one head, ascending: as many of the best as lie above the threshold, at least `floor`."""
    cut = threshold * scores.mean()
    record_cut(scores, [cut])
    return top_k(scores, max(floor, int((scores.astype(np.float32) > np.float32(cut)).sum())))


def nearest_kept(keys, kept, dropped):
    """For each dropped entry: distance to the nearest kept key, and which one (lowest on ties)."""
    distance = np.linalg.norm(keys[dropped][:, None, :] - keys[kept][None, :, :], axis=-1)
    for row in distance:
        closest = np.sort(row)[:2]
        record_cut(closest, [closest[0]])
    rounded = distance.astype(np.float32)
    return distance.min(axis=1), rounded.argmin(axis=1)


def fold(keys, values, scores, kept, temperature):
    """Values of the kept entries [B, D] with the dropped ones folded in, and which of them changed."""
    dropped = np.setdiff1d(np.arange(len(keys)), kept)
    if len(dropped) == 0:
        return values[kept], np.zeros(len(kept), bool)
    far, to = nearest_kept(keys, kept, dropped)
    weight = scores[dropped] / (scores[dropped] + scores[kept][to] + 1e-12)
    weight = weight * np.exp(-far * far / (keys.shape[1] * temperature))
    mass, total = np.zeros(len(kept)), values[kept].copy()
    np.add.at(mass, to, weight)
    np.add.at(total, to, weight[:, None] * values[dropped])
    return np.where(mass[:, None] > 0, total / (1.0 + mass[:, None]), values[kept]), mass > 0


class CodedRows:
    """The rows of one head and side: exact while they are new, 3-bit codes after the event's end."""

    def __init__(self, rows, act, unsure=None):
        """unsure: bool [n, D], elements of real arithmetic whose rounding another order of sums may change."""
        self.seen, self.act, self.coded = rows.copy(), act, 0
        self.unsure = np.zeros(rows.shape, bool) if unsure is None else unsure
        self.parts = []

    def append(self, row):
        self.seen = np.vstack([self.seen, row])
        self.unsure = np.vstack([self.unsure, np.zeros(len(row), bool)])

    def commit(self):
        if self.coded == len(self.seen):
            return
        rows, unsure = self.seen[self.coded:], self.unsure[self.coded:]
        groups = [self._group(rows[:, g], unsure[:, g]) for g in channel_groups(rows.shape[1], TILE)]
        self.seen[self.coded:] = np.concatenate([g[3] for g in groups], axis=1)
        self.parts.append((np.concatenate([g[0] for g in groups], axis=1), np.stack([g[1] for g in groups], axis=1),
                           np.stack([g[2] for g in groups], axis=1), np.concatenate([g[4] for g in groups], axis=1),
                           np.stack([g[5] for g in groups], axis=1)))
        self.coded = len(self.seen)

    def _group(self, rows, unsure):
        """codes, scale, minimum, decoded, where a code and where a whole group may differ by one step."""
        codes, scale, low, decoded = uqa(rows, BITS)
        quotient = (rows - low[:, None].astype(np.float64)) / np.maximum(scale[:, None].astype(np.float64), 1e-30)
        near = np.abs(np.abs(quotient - np.floor(quotient)) - 0.5) < 1e-3
        extreme = (rows == rows.max(axis=1, keepdims=True)) | (rows == rows.min(axis=1, keepdims=True))
        whole = (unsure & extreme).any(axis=1)
        return codes, scale, low, decoded, (unsure & near) | (unsure & extreme) | whole[:, None], whole


def joined(sides, exact):
    """Coded of all heads; with `exact` every code has to be equal."""
    columns = [[np.concatenate([part[i] for part in side.parts]) for side in sides] for i in range(5)]
    return Coded(*columns[:3]) if exact else Coded(*columns)


def run(inputs, params):
    """Every layer: score, choose, fold, code; then the steps, each coded after its own attention."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        cache, sides, exact = RowCache(layer), {"k": [], "v": []}, []
        scores = energy_scores(layer.v, p["half_life"])
        for head in range(layer.heads):
            kept = choose(scores[head], p["threshold"], p["floor"])
            values, changed = fold(layer.k[head], layer.v[head], scores[head], kept, p["temperature"])
            cache.keep(head, kept)
            cache.v[head] = to_act(values, layer.act)
            unsure = np.broadcast_to(changed[:, None], values.shape)
            sides["k"].append(CodedRows(cache.k[head], layer.act))
            sides["v"].append(CodedRows(cache.v[head], layer.act, unsure))
            exact.append(np.append(~changed, np.ones(layer.steps, bool)))
        outputs = decode(layer, cache, sides)
        cache.k, cache.v = ([side.seen for side in sides[name]] for name in ("k", "v"))
        coded = {"k": joined(sides["k"], True), "v": joined(sides["v"], False)}
        write_layer(result, layer, cache, scores=scores, step_out=outputs, coded=coded, exact={"v": exact})
    return result


def decode(layer, cache, sides):
    """The steps' outputs [Hq, D]: a row is exact in the step that appended it."""
    outputs = []
    for side in sides["k"] + sides["v"]:
        side.commit()
    for step in range(layer.steps):
        cache.append(step)
        for head in range(layer.heads):
            sides["k"][head].append(layer.step_k[head, step])
            sides["v"][head].append(layer.step_v[head, step])
        keys, values = ([side.seen for side in sides[name]] for name in ("k", "v"))
        outputs.append(attend_heads(layer.step_q[:, step], keys, values)[0])
        for side in sides["k"] + sides["v"]:
            side.commit()
    return outputs
