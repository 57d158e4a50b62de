# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""PCA base of MatryoshkaKV (arXiv 2410.14731, step 1 and 4 without training): rank coefficients per head.

Mean and basis come from the calibration rows of the same layer and head (the prompt itself without a
calibration file). Coefficients are stored in the dtype of the input when the event commits.
"""
import numpy as np

from oracle_support import (CALIB, RowCache, attend_heads, layers_of, parameters, record_cut, to_act, write_layer)

DEFAULTS = {"rank_k": None, "rank_v": None}   # None = D / 2


def basis_of(rows, rank):
    """Mean [D] and the leading eigenvectors [D, rank] of E[x x^T] - mean mean^T, by descending eigenvalue."""
    mean = rows.mean(axis=0)
    centred = rows - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    values, vectors = values[::-1], vectors[:, ::-1]
    if rank < len(values) and values[rank - 1] > 1e-9 * values[0]:
        record_cut(values[[rank - 1, rank]], [values[rank - 1]])
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return mean, (vectors * np.where(largest < 0, -1.0, 1.0))[:, :rank]


def project(rows, mean, basis, act):
    """What a reader sees of coded rows: mean + stored coefficients times the basis transposed."""
    return mean + to_act((rows - mean) @ basis, act) @ basis.T


def run(inputs, params, budget=None):
    """Keeps every row; budget must be None."""
    assert budget is None
    p = parameters(DEFAULTS, inputs, params)
    calibration = layers_of(inputs.get(CALIB, inputs))
    result = {}
    for layer, samples in zip(layers_of(inputs), calibration):
        rank_k, rank_v = p["rank_k"] or layer.dim // 2, p["rank_v"] or layer.dim // 2
        fits = {"k": [basis_of(rows, rank_k) for rows in samples.k],
                "v": [basis_of(rows, rank_v) for rows in samples.v]}
        cache = RowCache(layer)
        _commit(cache, fits, layer.tokens)
        step_out = []
        for step in range(layer.steps):
            cache.append(step)
            step_out.append(attend_heads(layer.step_q[:, step], cache.k, cache.v)[0])
            _commit(cache, fits, 1)
        inexact = [np.zeros(len(rows), bool) for rows in cache.rows]
        write_layer(result, layer, cache, step_out=step_out, exact={"k": inexact, "v": inexact})
    return result


def _commit(cache, fits, newest):
    """Codes the newest rows of every head and side."""
    for name, sides in (("k", cache.k), ("v", cache.v)):
        for rows, (mean, basis) in zip(sides, fits[name]):
            rows[-newest:] = project(rows[-newest:], mean, basis, cache.layer.act)
