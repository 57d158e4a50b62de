# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""H2O (arXiv 2306.14048) in fixed slots, as its FlexGen code has it: nothing is moved but one entry per step.

B = heavy + recent slots, recent = B // 2, so that an odd B = 2k - 1 is k heavy and k - 1 recent slots. Once B is
exceeded, a step's victim is the lightest of the entries that were not recent before it; the oldest recent entry
takes the victim's slot and the new one that of the oldest. The set form and the slot form (`Slots`) hold the same rows.

The set is not always that of the real-drop form (oracle_h2o.py): there the entry that just left the recent range
competes at once, here it is safe for that step.

`granularity` = query_head keeps K and V, and acc, per query head.

Readings. A step attends over everything with its own row, adds its probabilities to acc, then replaces; acc sums over
the group. Of equally light entries the one with the highest index leaves. While B is not exceeded, entries are appended.
"""
import numpy as np

from oracle_h2o import heavy_and_recent
from oracle_support import (RowCache, by_group, layers_of, parameters, per_row_head, prompt_probabilities, top_k,
                            write_layer)

DEFAULTS = {"granularity": "kv_head"}


def kept_after_step(acc, budget):
    """Entries kept of one head after a step; the new entry is the last of acc."""
    count = len(acc)
    if count <= budget:
        return np.arange(count)
    older = count - 1 - budget // 2
    return np.concatenate([top_k(acc[:older], older - 1), np.arange(older, count)])


class Slots:
    """The rows of one full head in place: slots [0, heavy) are heavy, the rest is a ring of recent entries."""

    def __init__(self, rows, acc, budget):
        """rows, acc [B] in ascending order of position, the recent ones last."""
        self.heavy = budget - budget // 2
        self.rows, self.acc = np.array(rows), np.array(acc)
        self.oldest = self.heavy

    def step(self, row, probabilities):
        """probabilities: [B] by slot, then that of the new row. Returns the row that left."""
        self.acc = self.acc + probabilities[:-1]
        lightest = np.flatnonzero(self.acc[:self.heavy] == self.acc[:self.heavy].min())
        victim = lightest[np.argmax(self.rows[lightest])]
        gone = self.rows[victim]
        place = victim
        if self.heavy < len(self.rows):
            place = self.oldest
            self.rows[victim], self.acc[victim] = self.rows[place], self.acc[place]
            self.oldest = self.heavy + (self.oldest + 1 - self.heavy) % (len(self.rows) - self.heavy)
        self.rows[place], self.acc[place] = row, probabilities[-1]
        return gone


def run(inputs, params, budget):
    """B entries after the prompt, as in the real-drop form, and after every step."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        layer = per_row_head(layer, p["granularity"])
        cache, scores, step_out = RowCache(layer), None, []
        acc = list(by_group(prompt_probabilities(layer, layer.tokens).sum(axis=1), layer.heads).sum(axis=1))
        if layer.tokens > budget:
            scores = np.array(acc)
            scores[:, layer.tokens - budget // 2:] = np.inf
        _keep(cache, acc, [heavy_and_recent(a, budget) for a in acc])
        for step in range(layer.steps):
            cache.append(step)
            out, probabilities, _ = cache.attend(layer.step_q[:, step])
            step_out.append(out)
            for head, rows in enumerate(by_group(probabilities, layer.heads)):
                acc[head] = np.append(acc[head], 0.0) + rows.sum(axis=0)
            _keep(cache, acc, [kept_after_step(a, budget) for a in acc])
        write_layer(result, layer, cache, scores=scores, step_out=step_out)
    return result


def _keep(cache, acc, kept):
    for head, entries in enumerate(kept):
        cache.keep(head, entries)
        acc[head] = acc[head][entries]
