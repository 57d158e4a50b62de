# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Prompt tokens that leave the residual stream: deeper layers hold only the rows of the survivors.

An `apply` file gives every layer all T rows; a layer that sees the tokens `tokens` reads those of its rows and no
other. Rows keep their positions. Decode rows reach every layer.
"""
from dataclasses import replace

import numpy as np

from oracle_support import RowCache


def surviving(layer, tokens):
    """The layer as it is when only the prompt rows `tokens` (ascending) enter it."""
    if len(tokens) == layer.tokens:
        return layer
    positions = np.append(layer.positions[:layer.tokens][tokens], layer.positions[layer.tokens:])
    q = layer.q
    if q is not None:
        first = layer.tokens - q.shape[1]
        q = q[:, tokens[tokens >= first] - first]
    k_pre = None if layer.k_pre is None else layer.k_pre[:, tokens]
    return replace(layer, k=layer.k[:, tokens], v=layer.v[:, tokens], positions=positions, q=q, k_pre=k_pre)


class SurvivorCache(RowCache):
    """The cache of `surviving(layer, tokens)`; its rows are numbered as in the whole prompt of `total` rows."""

    def __init__(self, layer, tokens, total):
        super().__init__(layer)
        self.total = total
        self.rows = [np.array(tokens) for _ in range(layer.heads)]

    def append(self, step):
        super().append(step)
        for rows in self.rows:
            rows[-1] = self.total + step
