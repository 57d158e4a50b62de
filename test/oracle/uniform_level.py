# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The last query rows of a cache relative to uniform attention: p / (1 / t), t the row's length.

A choice made from these ratios must not hang on one of them lying next to 1: `robust` draws such a case again.
"""
import numpy as np

from oracle_support import record_gap

MARGIN = 2e-5    # relative distance from the level within which f32 may decide differently


def prompt_ratios(probabilities, tokens):
    """p / (1 / t) [..., rows, T] of the last rows of a prompt, t = i + 1 for row i; NaN where a key is not visible."""
    rows = probabilities.shape[-2]
    length = np.arange(tokens - rows, tokens) + 1
    ratios = probabilities / (1.0 / length[:, None])
    return np.where(np.arange(tokens)[None, :] < length[:, None], ratios, np.nan)


class RatioHistory:
    """Ratios [rows, entries] of one head's last `limit` queries; NaN where an entry was not there yet."""

    def __init__(self, ratios, limit):
        self.ratios, self.limit = ratios[max(0, len(ratios) - limit):], limit

    full = property(lambda self: len(self.ratios) == self.limit)

    def push(self, row):
        """The newest query's ratios [entries]; its last entry is new to the older rows."""
        older = np.pad(self.ratios, [(0, 0), (0, 1)], constant_values=np.nan)
        self.ratios = np.vstack([older, row])[-self.limit:]

    def keep(self, kept):
        self.ratios = self.ratios[:, kept]

    def hits(self, level=1.0):
        """Rows in which each entry reached the level [entries]."""
        return (self.ratios >= level).sum(axis=0)

    def misses(self, level=1.0):
        """Rows in which each entry was there and below the level [entries]."""
        return (self.ratios < level).sum(axis=0)


def robust(choose):
    """choose(1.0), where choose(level) gives entries; notes a gap of 0 when a ratio next to 1 (not at 1) decides."""
    for side in (-1.0, 1.0):
        if not np.array_equal(choose(1.0 + side * 1e-12), choose(1.0 + side * MARGIN)):
            record_gap(0.0)
    return choose(1.0)
