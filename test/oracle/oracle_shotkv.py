# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""ShotKV (arXiv 2502.01941): whole examples of the prompt are kept or dropped; generated tokens have their own share.

`shots` lists the examples as start, end, start, end, ... prompt rows, in order and disjoint; all other prompt rows stay.

Readings; formulas and defaults are unsure, no code was at hand. A token's attention is the sum over the last `window`
prompt rows, heads and layers. Shots go by descending mean, ties to the first; one that does not fit is skipped and a
later one may fit. B counts the rows outside the shots: when they alone exceed B they stay and no shot does. T <= B
keeps all.
Decode: after step s (from 0) the best max(1, floor(decode_ratio * (s + 1))) generated entries stay, by the sum over all
query heads of the step's own probabilities, one set for a layer; the newest entry competes. The attention of the
step is before the cut. decode_ratio = 1 keeps everything.
"""
import numpy as np

from oracle_support import RowCache, layers_of, parameters, prompt_probabilities, record_cut, top_k, write_layer

DEFAULTS = {"shots": [], "window": 32, "decode_ratio": 0.4}


def shot_table(flat, tokens):
    """(start, end) pairs of a flat list of prompt rows."""
    if len(flat) % 2 or any(a > b for a, b in zip(flat, flat[1:])) or (flat and not 0 <= flat[0] <= flat[-1] <= tokens):
        raise ValueError(f"shots {list(flat)}: expected disjoint ascending start, end pairs inside 0..{tokens}")
    return [(start, end) for start, end in zip(flat[::2], flat[1::2]) if end > start]


def received(layers, window):
    """[T]: attention that each prompt row gets from the last rows, summed over rows, heads and layers."""
    return sum(prompt_probabilities(layer, min(window, layer.tokens)).sum(axis=(0, 1)) for layer in layers)


def kept_shots(scores, lengths, room):
    """Numbers of the shots taken whole, by descending score while they fit into `room` tokens, ascending."""
    ordered = np.sort(scores)
    for value, above in zip(ordered, ordered[1:]):
        record_cut(np.array([above]), [value])
    taken = []
    for shot in np.argsort(-np.asarray(scores).astype(np.float32), kind="stable"):
        if lengths[shot] <= room:
            taken.append(int(shot))
            room -= lengths[shot]
    return sorted(taken)


def prompt_set(attention, shots, budget):
    """Kept prompt rows, ascending, the same for every layer and head."""
    inside = np.zeros(len(attention), bool)
    for start, end in shots:
        inside[start:end] = True
    means = [attention[start:end].mean() for start, end in shots]
    keep = ~inside
    for shot in kept_shots(means, [end - start for start, end in shots], budget - int(keep.sum())):
        keep[shots[shot][0]:shots[shot][1]] = True
    return np.flatnonzero(keep)


def run(inputs, params, budget):
    """B = prompt entries; generated entries come on top of them."""
    p = parameters(DEFAULTS, inputs, params)
    layers, result = layers_of(inputs), {}
    tokens = layers[0].tokens
    kept = np.arange(tokens)
    if tokens > budget:
        kept = prompt_set(received(layers, p["window"]), shot_table(p["shots"], tokens), budget)
    for layer in layers:
        cache, step_out = RowCache(layer), []
        for head in range(layer.heads):
            cache.keep(head, kept)
        for step in range(layer.steps):
            cache.append(step)
            out, probabilities, _ = cache.attend(layer.step_q[:, step])
            step_out.append(out)
            scores = np.sum(probabilities, axis=0)[len(kept):]
            chosen = top_k(scores, max(1, int(np.floor(p["decode_ratio"] * (step + 1)))))
            for head in range(layer.heads):
                cache.keep(head, np.append(np.arange(len(kept)), len(kept) + chosen))
        write_layer(result, layer, cache, step_out=step_out)
    return result
