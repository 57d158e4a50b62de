# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""FastGen (arXiv 2310.01801): profile the prompt, give each head the cheapest policy that recovers enough attention.

`classes` [T + S] of the inputs marks tokens: 0 ordinary, 1 special, 2 punctuation; all ordinary when absent.
Policies: 0 special, 1 + punctuation, 2 + heavy, 3 + local, 4 full; all hold the first `global_tokens`. The cache size
follows the data: there is no budget.

Readings. The test is recovered mass, not a distance; 0.9 is the default of the code that was read, the paper's own
value is unsure. A row's own key is the last of its local window. Ties of heavy keys and of victims: the lowest index.
A step appends its row, attends, then the policy drops one entry, the new one where the policy holds no ordinary
tokens. The budget of a bounded policy counts the special and punctuation entries the head holds. A mean is over the
newest `history` rows, of prompt and decode, that saw the entry; the heavy keys of the prompt use all rows.
"""
import math

import numpy as np

from oracle_support import RowCache, by_group, layers_of, parameters, prompt_probabilities, record_cut, top_k, write_layer

DEFAULTS = {"global_tokens": 4, "heavy": 0.3, "local": 0.3, "recovery": 0.9, "history": 400}
SPECIAL, PUNCTUATION = 1, 2
FULL = 4


def local_length(tokens, share):
    """Positions of the local window: max(1, floor(r_l * T))."""
    return max(1, math.floor(share * tokens))


def prompt_masks(probabilities, classes, p):
    """[5, T, T] bool of one head, rows are queries: the keys that each policy holds for that row, future ones too.

    probabilities: group mean [T, T]; classes [T].
    """
    tokens = len(probabilities)
    seen_by = np.arange(tokens, 0, -1)
    held = (np.arange(tokens) < p["global_tokens"]) | (classes == SPECIAL)
    with_punctuation = held | (classes == PUNCTUATION)
    free = np.flatnonzero(~with_punctuation)
    means = (probabilities.sum(axis=0) / seen_by)[free]
    heavy = with_punctuation.copy()
    heavy[free[top_k(means, math.ceil(p["heavy"] * tokens))]] = True
    distance = np.arange(tokens)[:, None] - np.arange(tokens)
    near = (distance >= 0) & (distance < local_length(tokens, p["local"]))
    masks = [np.tile(keys, (tokens, 1)) for keys in (held, with_punctuation, heavy)]
    return np.array(masks + [masks[2] | near, np.ones((tokens, tokens), bool)])


def recovered(probabilities, masks):
    """R [5]: mean over rows of the attention mass on the policy's keys."""
    return (probabilities * masks).sum(axis=2).mean(axis=1)


def first_adequate(mass, threshold):
    """The first policy that recovers at least the threshold; full when none does."""
    record_cut(mass[:FULL], [threshold])
    adequate = np.flatnonzero(mass >= threshold)
    return int(adequate[0]) if len(adequate) else FULL


class Head:
    """Decode state of one head: which entries its cache holds, their classes and the attention they received."""

    def __init__(self, policy, rows, classes, probabilities, p):
        """rows: kept prompt rows; probabilities: group mean [T, T] of the prompt."""
        tokens = len(probabilities)
        self.policy, self.p, self.first = policy, p, p["global_tokens"]
        self.limit = {2: math.ceil(p["heavy"] * tokens)}
        self.recent = local_length(tokens, p["local"]) if policy == 3 else 0
        self.limit[3] = self.limit[2] + self.recent
        self.rows, self.classes = rows, classes[rows]
        seen = np.where(np.tri(tokens, dtype=bool), probabilities, np.nan)
        self.history = seen[-p["history"]:][:, rows]

    def append(self, row, kind, probabilities):
        """A step: `row` of class `kind` has joined; probabilities [n + 1] of the step."""
        self.rows, self.classes = np.append(self.rows, row), np.append(self.classes, kind)
        self.history = np.hstack([self.history, np.full((len(self.history), 1), np.nan)])
        self.history = np.vstack([self.history, probabilities])[-self.p["history"]:]

    def protected(self):
        """Entries that the policy never drops."""
        kinds = (self.rows < self.first) | (self.classes == SPECIAL)
        if self.policy >= 1:
            kinds |= self.classes == PUNCTUATION
        return kinds

    def victim(self):
        """The entry to drop after a step, or None. The newest entry is the last one."""
        newest, protected = len(self.rows) - 1, self.protected()
        if self.policy == FULL or protected[newest]:
            return None
        if self.policy < 2:
            return newest
        budget = (self.first + (self.classes == SPECIAL).sum() + (self.classes == PUNCTUATION).sum()
                  + self.limit[self.policy])
        if len(self.rows) <= budget:
            return None
        distance = self.rows[newest] - self.rows
        candidates = np.flatnonzero(~protected & (distance >= max(self.recent, 1)))
        if not len(candidates):
            return newest
        means = np.nanmean(self.history[:, candidates], axis=0)
        keep = top_k(means * -1.0, 1)
        return int(candidates[keep[0]])

    def drop(self, entry):
        """Removes one entry; returns the entry numbers that stay."""
        kept = np.delete(np.arange(len(self.rows)), entry)
        self.rows, self.classes, self.history = self.rows[kept], self.classes[kept], self.history[:, kept]
        return kept


def profile(layer, classes, p):
    """One Head per KV head of the layer, chosen from the prompt."""
    heads = []
    for rows in by_group(prompt_probabilities(layer, layer.tokens), layer.heads).mean(axis=1):
        masks = prompt_masks(rows, classes[:layer.tokens], p)
        policy = first_adequate(recovered(rows, masks), p["recovery"])
        heads.append(Head(policy, np.flatnonzero(masks[policy][-1]), classes, rows, p))
    return heads


def run(inputs, params, budget=None):
    """Each head keeps what the policy's mask of the last row holds; budget must be None."""
    assert budget is None
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        classes = np.asarray(inputs.get("classes", np.zeros(layer.tokens + layer.steps, np.uint8)))
        cache, heads, step_out = RowCache(layer), profile(layer, classes, p), []
        for index, head in enumerate(heads):
            cache.keep(index, head.rows)
        for step in range(layer.steps):
            cache.append(step)
            out, probabilities, _ = cache.attend(layer.step_q[:, step])
            step_out.append(out)
            group = len(probabilities) // layer.heads
            for index, head in enumerate(heads):
                mean = np.mean(probabilities[index * group:(index + 1) * group], axis=0)
                row = layer.tokens + step
                head.append(row, classes[row], mean)
                victim = head.victim()
                if victim is not None:
                    cache.keep(index, head.drop(victim))
        write_layer(result, layer, cache, step_out=step_out)
    return result
