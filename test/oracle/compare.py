# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares an `apply` output file with an oracle's result; every difference is one line of text.

Index sets, positions, codes, scales and zeros are exact; so is every row that was neither rotated,
projected nor merged. A score gap within 1e-5 (relative) of a cut allows a swap, but scores that the
file itself holds as equal go to the lowest index; a forced entry is never swapped. Outputs agree in relative L2.
"""
import numpy as np

from oracle_support import EXACT, SLACK
from safetensors_io import METADATA, read_safetensors

SCORE_TOLERANCE = 1e-5
PER_HEAD = ("indices", "k", "v", "pos", "scores", "counts", "k.codes", "k.scales", "k.zeros", "v.codes", "v.scales",
            "v.zeros")
WHOLE = ("step.out", "out", "lse")


def compare(actual, expected, act="F32"):
    """Differences between `actual` (a path or a dict) and an oracle result; empty when they agree."""
    if not isinstance(actual, dict):
        actual = read_safetensors(actual)
    tolerance = 1e-5 if act == "F32" else 2e-3
    layers = 1 + max(int(name.split(".")[1]) for name in expected if name.startswith("layers."))
    differences = [f"unexpected tensor {name}" for name in actual
                   if name.startswith("layers.") and int(name.split(".")[1]) >= layers]
    for layer in range(layers):
        differences += _LayerComparison(actual, expected, layer, tolerance).run()
    return differences


def heads_of(tensors, layer, name):
    """A per-head tensor as a list over heads, whether stored together or ragged; None when absent."""
    whole = tensors.get(f"layers.{layer}.{name}")
    if whole is not None:
        return list(whole)
    heads = []
    while f"layers.{layer}.{name}.{len(heads)}" in tensors:
        heads.append(tensors[f"layers.{layer}.{name}.{len(heads)}"])
    return heads or None


def relative_l2(actual, expected):
    """||actual - expected|| / ||expected|| in double; infinite when a value is not finite."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if not np.isfinite(actual).all():
        return np.inf
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30)


class _LayerComparison:
    def __init__(self, actual, expected, layer, tolerance):
        self.actual, self.expected, self.layer, self.tolerance = actual, expected, layer, tolerance
        self.differences = []
        self.swapped = False     # a legal swap or a legal code step: what follows from it is only close

    def note(self, name, text):
        self.differences.append(f"layers.{self.layer}.{name}: {text}")

    def run(self):
        pairs = {name: self._pair(name) for name in PER_HEAD}
        if self.differences:
            return self.differences
        self._indices(*pairs["indices"], pairs["scores"])
        if self.differences or self.swapped:
            return self.differences
        for name in ("pos", "counts"):
            self._same(name, *pairs[name])
        self._scores(*pairs["scores"])
        for side in ("k", "v"):
            self._codes(side, pairs)
            self._rows(side, *pairs[side])
        for name in WHOLE:
            self._outputs(name)
        return self.differences

    def _pair(self, name):
        """(actual, expected) lists over heads, after a check of presence and shapes."""
        want, have = (heads_of(tensors, self.layer, name) for tensors in (self.expected, self.actual))
        if want is None:
            coded = name.split(".")[0] in ("k", "v") and "." in name
            if coded and have is not None and any(head.size for head in have):
                self.note(name, "present, but nothing is quantized")
            return None, None
        if have is None:
            self.note(name, "missing")
            return None, want
        shapes = [head.shape for head in have], [head.shape for head in want]
        if shapes[0] != shapes[1]:
            self.note(name, f"shapes {shapes[0]}, expected {shapes[1]}")
        return have, want

    def _same(self, name, have, want):
        for head, (a, b) in enumerate(zip(have or [], want or [])):
            if not np.array_equal(a.astype(np.float64), b.astype(np.float64)):
                where = np.argwhere(a.astype(np.float64) != b.astype(np.float64))[0]
                self.note(name, f"head {head} at {where.tolist()}: {a[tuple(where)]}, expected {b[tuple(where)]}")

    def _indices(self, have, want, scores):
        for head, (a, b) in enumerate(zip(have, want)):
            if np.any(np.diff(a.astype(np.int64)) <= 0):
                self.note("indices", f"head {head}: not ascending")
            extra, lost = np.setdiff1d(a, b), np.setdiff1d(b, a)
            if not extra.size:
                continue
            if self._legal_swap(head, extra, lost, scores):
                self.swapped = True
            else:
                self.note("indices", f"head {head}: holds {extra[:8].tolist()} instead of {lost[:8].tolist()}")

    def _legal_swap(self, head, extra, lost, scores):
        have, want = scores
        if want is None or max(extra.max(), lost.max()) >= len(want[head]):
            return False
        reference, own = want[head].astype(np.float64), have[head]
        gap = reference[lost].max() - reference[extra].min()
        if not np.isfinite(gap) or gap > SCORE_TOLERANCE * np.abs(reference[lost]).max():
            return False
        tied = own[lost].max() == own[extra].min()
        return not tied or extra.max() < lost.min()

    def _scores(self, have, want):
        for head, (a, b) in enumerate(zip(have or [], want or [])):
            finite = np.isfinite(b)
            if not np.array_equal(a[~finite], b[~finite]):
                self.note("scores", f"head {head}: forced or excluded entries differ")
            elif finite.any() and not np.allclose(a[finite], b[finite], rtol=4 * SCORE_TOLERANCE, atol=1e-30):
                worst = int(np.abs(a[finite] / b[finite] - 1).argmax())
                entry = np.flatnonzero(finite)[worst]
                self.note("scores", f"head {head} entry {entry}: {a[entry]}, expected {b[entry]}")

    def _codes(self, side, pairs):
        slack = self.expected.get(SLACK, {}).get((self.layer, side))
        for part in ("codes", "scales", "zeros"):
            name = f"{side}.{part}"
            have, want = pairs[name]
            if slack is None or want is None:
                self._same(name, have, want)
                continue
            for head, (a, b) in enumerate(zip(have, want)):
                self._close_codes(name, head, a.astype(np.float64), b.astype(np.float64), slack)
        if pairs[f"{side}.codes"][1] is not None:
            key = f"layers.{self.layer}.{side}.first"
            have, want = (tensors.get(METADATA, {}).get(key) for tensors in (self.actual, self.expected))
            if have != want:
                self.note(f"{side}.first", f"metadata {key} is {have}, expected {want}")

    def _close_codes(self, name, head, have, want, slack):
        """Rotated rows carry rounding noise: near a rounding boundary a code may be one step off."""
        differ = have != want
        if not differ.any():
            return
        mask = slack.slack[head] if name.endswith("codes") else slack.group_slack[head]
        step = np.maximum(np.abs(want) * 2.0 ** -10, 2.0 ** -24) if name.endswith("scales") else 1.0
        illegal = differ & (~mask | (np.abs(have - want) > step))
        if illegal.any():
            where = np.argwhere(illegal)[0]
            place = tuple(where)
            self.note(name, f"head {head} at {where.tolist()}: {have[place]}, expected {want[place]}")
        self.swapped = True

    def _rows(self, side, have, want):
        masks = self.expected[EXACT][self.layer, side]
        for head, (a, b) in enumerate(zip(have, want)):
            exact = masks[head]
            wrong = np.flatnonzero((a != b).any(axis=1) & exact)
            if wrong.size:
                self.note(side, f"head {head}: {wrong.size} rows differ, first {wrong[0]} (exact rows)")
            limit = 0.1 if self.swapped else self.tolerance
            if (~exact).any() and not relative_l2(a[~exact], b[~exact]) <= limit:
                self.note(side, f"head {head}: relative L2 {relative_l2(a[~exact], b[~exact]):.3g} > {limit:g}")

    def _outputs(self, name):
        want, have = (tensors.get(f"layers.{self.layer}.{name}") for tensors in (self.expected, self.actual))
        if want is None:
            return
        if have is None or have.shape != want.shape:
            self.note(name, "missing" if have is None else f"shape {have.shape}, expected {want.shape}")
            return
        limit = max(self.tolerance, 2e-2) if self.swapped else self.tolerance
        error = relative_l2(have, want)
        if not error <= limit:
            rows = np.abs(have - want).reshape(len(want), want.shape[1], -1).max(axis=2)
            head, row = np.unravel_index(rows.argmax(), rows.shape)
            self.note(name, f"relative L2 {error:.3g} > {limit:g}, worst at query head {head} row {row}")
