# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""snapkv+kivi: SnapKV chooses at the end of the prompt, then the kept rows are coded in kept order."""
from oracle_kivi import DEFAULTS as KIVI, KiviCache
from oracle_snapkv import DEFAULTS as SNAPKV, choose
from oracle_support import RowCache, layers_of, parameters, per_row_head

DEFAULTS = {**SNAPKV, **KIVI}


def run(inputs, params, budget):
    """B as in SnapKV. Prompt rows are exact until the selection; steps are coded as in KIVI."""
    p = parameters(DEFAULTS, inputs, params)
    result = {}
    for layer in layers_of(inputs):
        layer = per_row_head(layer, p["granularity"])
        cache = RowCache(layer)
        kept, scores = choose(layer, p, budget)
        for head in range(layer.heads):
            cache.keep(head, kept[head])
        coded = KiviCache(cache, p)
        coded.commit()
        coded.write(result, scores, coded.decode())
    return result
