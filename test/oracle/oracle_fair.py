# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Two modifiers of selection from "Pitfalls of KV compression" (arXiv 2510.00231): spans that lose in proportion, and
positions that never leave. They wrap the scorer `base`: snapkv, streaming-llm, tova, h2o (mean observed attention) or
knorm.

`spans` lists where spans start after the first one, in tokens: [] is one span, [80] is [0, 80) and [80, T).
`whitelist` lists prompt rows that stay in every layer and head.

Readings. With n spans, span i gets floor(B * end / T) - floor(B * start / T) entries. SnapKV's window is split into
floor(w / n) rows per span, the last span gets what is left; tokens that vote get the largest score of their span and
may lose a tie. Whitelisted rows count towards their span's share and may not exceed it. The wrapped scorer always
runs when T > B, also for B <= w.
"""
import numpy as np

from oracle_knorm import norm_scores
from oracle_support import by_group, layers_of, parameters, pool, prompt_probabilities, top_k
from prompt_cut import write_prompt_cut

DEFAULTS = {"base": "snapkv", "spans": [], "whitelist": [], "window": 64, "kernel": 5, "sinks": 4}


def span_table(starts, tokens):
    """(start, end) of spans that partition 0..T-1."""
    edges = [0] + list(starts) + [tokens]
    if any(a >= b for a, b in zip(edges, edges[1:])):
        raise ValueError(f"spans {list(starts)}: expected ascending starts inside 1..{tokens - 1}")
    return list(zip(edges, edges[1:]))


def shares(spans, budget):
    """Entries of each span; they sum to B and differ from B * length / T by less than 1."""
    tokens = spans[-1][1]
    return [budget * end // tokens - budget * start // tokens for start, end in spans]


def voting_rows(spans, window):
    """Rows at the end of each span that vote for its earlier keys."""
    counts, left = [], window
    for index, (start, end) in enumerate(spans):
        wanted = window // len(spans) if index + 1 < len(spans) else left
        counts.append(min(wanted, end - start))
        left -= counts[-1]
    return counts


def _with_voters(earlier, voters):
    """Scores [..., n] of the earlier keys of a span, then their maximum for each of its voting tokens."""
    if earlier.shape[-1] == 0:
        return np.zeros(earlier.shape[:-1] + (voters,))
    top = earlier.max(axis=-1, keepdims=True)
    return np.concatenate([earlier, np.repeat(top, voters, axis=-1)], axis=-1)


def snapkv_scores(layer, spans, p):
    """[Hkv, T]: mean over a span's voting rows, pooled inside the span, mean over the group."""
    voters = voting_rows(spans, p["window"])
    first = min((end - count for (_, end), count in zip(spans, voters) if count), default=layer.tokens)
    rows = prompt_probabilities(layer, layer.tokens - first)
    parts = []
    for (start, end), count in zip(spans, voters):
        if count == 0 or count == end - start:
            parts.append(np.zeros((layer.heads, end - start)))
            continue
        votes = rows[:, end - count - first:end - first, start:end - count].mean(axis=1)
        parts.append(_with_voters(by_group(pool(votes, "avg", p["kernel"]), layer.heads).mean(axis=1), count))
    return np.concatenate(parts, axis=1)


def streaming_scores(layer, spans, p):
    """[Hkv, T]: 1 for the sinks, else 0.1 to 0.9 along each span."""
    line = np.concatenate([np.linspace(0.1, 0.9, end - start) for start, end in spans])
    line[:p["sinks"]] = 1.0
    return np.tile(line, (layer.heads, 1))


def tova_scores(layer, spans, p):
    """[Hkv, T], one row for all heads: the last row of each span votes for the span, mean over query heads."""
    first = spans[0][1] - 1
    mean = prompt_probabilities(layer, layer.tokens - first).mean(axis=0)
    parts = [_with_voters(mean[end - 1 - first, start:end - 1], 1) for start, end in spans]
    return np.tile(np.concatenate(parts), (layer.heads, 1))


def observed_scores(layer, spans, p):
    """[Hkv, T]: the column sum over the span's own rows, divided by how many of them see the key, mean over the group."""
    rows = by_group(prompt_probabilities(layer, layer.tokens), layer.heads).mean(axis=1)
    return np.concatenate([rows[:, start:end, start:end].sum(axis=1) / np.arange(end - start, 0, -1)
                           for start, end in spans], axis=1)


def key_norm_scores(layer, spans, p):
    """[Hkv, T]: -||k||, whatever the spans."""
    return norm_scores(layer.k)


SCORERS = {"snapkv": snapkv_scores, "streaming-llm": streaming_scores, "tova": tova_scores, "h2o": observed_scores,
           "knorm": key_norm_scores}


def select(scores, spans, budget, whitelist=()):
    """Kept entries of one head from scores [T]: per span the whitelisted ones and the best of the others."""
    forced, kept = np.array(sorted(set(whitelist)), int), []
    if len(forced) and not (0 <= forced[0] and forced[-1] < len(scores)):
        raise ValueError(f"whitelist: expected rows inside 0..{len(scores) - 1}")
    if len(forced) > budget:
        raise ValueError(f"whitelist: {len(forced)} rows, expected at most {budget}")
    for (start, end), share in zip(spans, shares(spans, budget)):
        inside = forced[(forced >= start) & (forced < end)]
        if len(inside) > share:
            raise ValueError(f"whitelist: {len(inside)} rows in a span that keeps {share}")
        others = np.setdiff1d(np.arange(start, end), inside)
        kept.append(np.sort(np.append(inside, others[top_k(scores[others], share - len(inside))])))
    return np.concatenate(kept)


def run(inputs, params, budget):
    """B per head; decode appends."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        kept, scores = [np.arange(layer.tokens)] * layer.heads, None
        if layer.tokens > budget:
            spans = span_table(p["spans"], layer.tokens)
            scores = SCORERS[p["base"]](layer, spans, p)
            kept = [select(row, spans, budget, p["whitelist"]) for row in scores]
        write_prompt_cut(result, layer, kept, scores)
    return result
