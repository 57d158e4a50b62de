# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Integer budgets from real ones. A case in which f32 could round another way is drawn again.

Reals within 1e-9 of a boundary are meant to lie on it: integers computed twice, equal shares.
"""
import numpy as np

from oracle_support import record_gap

MARGIN, SAME = 1e-4, 1e-9


def _fragile(distance):
    """Notes a gap of 0 if a distance from a boundary is small, but not none."""
    if np.any((np.abs(distance) > SAME) & (np.abs(distance) < MARGIN)):
        record_gap(0.0)


def rounded(values):
    """To the nearest integers, halves to even."""
    values = np.asarray(values, np.float64)
    _fragile(values - np.floor(values) - 0.5)
    return np.rint(values).astype(int)


def by_largest_remainder(values, total):
    """Floors of values that sum to `total`, one more for the largest remainders (the lower number among equals)."""
    whole = np.floor(values + SAME)
    remainders = values - whole
    _fragile(np.minimum(remainders, 1.0 - remainders))
    missing = int(total - whole.sum())
    order = np.argsort(-np.round(remainders, 9), kind="stable")
    if 0 < missing < len(whole):
        _fragile(remainders[order[missing - 1]] - remainders[order[missing]])
    whole[order[:missing]] += 1
    return whole.astype(int)
