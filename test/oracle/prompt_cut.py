# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What oracles of selections at the end of the prompt share. Dims as in oracle_support; S = T - w prefix rows."""
import numpy as np

from oracle_support import RowCache, decode_by_appending, prompt_probabilities, record_cut, write_layer


def window_rows(layer, window):
    """P [Hq, w, S]: the last w queries over the prefix columns; the softmax covers the window's keys too."""
    return prompt_probabilities(layer, window)[:, :, :layer.tokens - window]


def trivial_cut(layer, window, budget):
    """Entries that need no score: all when T <= B, the newest B when B <= w; else None."""
    if layer.tokens <= budget:
        return [np.arange(layer.tokens)] * layer.heads
    if budget <= window:
        return [np.arange(layer.tokens - budget, layer.tokens)] * layer.heads
    return None


def with_newest(prefix_sets, layer, window):
    """Kept prefix entries per head, each followed by the last w entries."""
    newest = np.arange(layer.tokens - window, layer.tokens)
    return [np.concatenate([chosen, newest]) for chosen in prefix_sets]


def write_prompt_cut(result, layer, kept, scores=None):
    """Cuts every head to `kept` (ascending entries), decodes by appending, writes the layer."""
    cache = RowCache(layer)
    for head in range(layer.heads):
        cache.keep(head, kept[head])
    step_out = decode_by_appending(cache)
    write_layer(result, layer, cache, scores=scores, step_out=step_out)


def record_floor(value):
    """The integer below a real number, which counts as integer within 1e-9; notes how far it is from the next, as a cut."""
    record_cut(np.array([np.rint(value)]), [value])
    return int(np.floor(value + 1e-9))
