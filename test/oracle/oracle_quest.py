# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Quest (arXiv 2406.10774): nothing is evicted; each query reads the pages whose key bounds allow a high score.

B is the number of tokens one query reads per KV head, in whole pages of `page` entries in cache order.

Readings. What is published leaves the group reduction open: `group` = max (default) or sum of the page scores of the
G query heads gives one list per KV head, none gives one per query head, as the published code has it.
`select` = newest: the last page and the best n - 1 others, n = max(1, B // page). `select` = best: the max(3, B // page)
best of all pages. The layers of `dense_layers` read everything; the prompt's own attention is dense.
"""
import numpy as np

from oracle_support import RowCache, attend, by_group, layers_of, parameters, top_k, write_layer

DEFAULTS = {"page": 16, "group": "max", "select": "newest", "dense_layers": [0, 1]}


def page_bounds(keys, page):
    """Per page and channel: minimum and maximum [P, D] of keys [n, D]; the last page may be short."""
    pages = [keys[start:start + page] for start in range(0, len(keys), page)]
    return np.array([p.min(axis=0) for p in pages]), np.array([p.max(axis=0) for p in pages])


def page_scores(query, low, high):
    """[P]: sum over channels of max(q_d * low_d, q_d * high_d), at least every q . k of the page."""
    return np.maximum(query * low, query * high).sum(axis=1)


def chosen_pages(scores, budget, page, select):
    """Page numbers that are read, ascending."""
    if select == "best":
        return top_k(scores, max(3, budget // page))
    others = top_k(scores[:-1], max(1, budget // page) - 1)
    return np.append(others, len(scores) - 1)


def entries_of(pages, page, count):
    """Entry numbers of the pages in a cache of `count` entries, ascending."""
    return np.flatnonzero(np.isin(np.arange(count) // page, pages))


def read_sets(queries, keys, budget, p):
    """Entries that each query head reads, a list of Hq. queries [Hq, D], keys: per KV head [n, D]."""
    reads = []
    for group, head_keys in zip(by_group(queries, len(keys)), keys):
        low, high = page_bounds(head_keys, p["page"])
        scores = np.array([page_scores(query, low, high) for query in group])
        if p["group"] != "none":
            scores = np.repeat(getattr(scores, p["group"])(axis=0)[None], len(group), axis=0)
        reads += [entries_of(chosen_pages(s, budget, p["page"], p["select"]), p["page"], len(head_keys))
                  for s in scores]
    return reads


def read(cache, queries, budget, p):
    """Attention of queries [Hq, D] over their pages: out [Hq, D], lse [Hq]."""
    if cache.layer.index in p["dense_layers"]:
        out, _, lse = cache.attend(queries)
        return out, lse
    group = len(queries) // cache.layer.heads
    answers = [attend(query, cache.k[h // group][rows], cache.v[h // group][rows])
               for h, (query, rows) in enumerate(zip(queries, read_sets(queries, cache.k, budget, p)))]
    return np.array([a[0] for a in answers]), np.array([a[2] for a in answers])


def run(inputs, params, budget):
    """Every row stays in every layer; a step appends its row, which is in the last page, and reads B entries."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        cache, step_out = RowCache(layer), []
        for step in range(layer.steps):
            cache.append(step)
            step_out.append(read(cache, layer.step_q[:, step], budget, p)[0])
        write_layer(result, layer, cache, step_out=step_out)
        if layer.queries is not None:
            answers = [read(cache, layer.queries[:, i], budget, p) for i in range(layer.queries.shape[1])]
            for place, name in enumerate(("out", "lse")):
                stacked = np.stack([answer[place] for answer in answers], axis=1)
                result[f"layers.{layer.index}.{name}"] = stacked.astype(np.float32)
    return result
