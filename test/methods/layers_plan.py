# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks JSON of `kvasir run` of methods that plan for all layers at once.

  layers_plan.py DYNAMICKV WINDOWKV     entries that a layer keeps, at a budget of 128
"""
import json
import sys

BUDGET, STEPS, SUFFIX, BLOCK, SHARED = 128, 3, 16, 16, 2


def prompt_rows(path):
    """Rows of the prompt that each layer keeps, the same in all heads; a run appends one row a step."""
    with open(path, encoding="utf-8") as file:
        heads = json.load(file)["rows"][0]["kept_tokens"]
    assert all(len(set(layer)) == 1 for layer in heads), heads
    return [layer[0] - STEPS for layer in heads]


def main(dynamickv, windowkv):
    shares, groups = prompt_rows(dynamickv), prompt_rows(windowkv)
    within = sum(shares) <= BUDGET * len(shares) and min(shares) >= 8 and len(set(shares)) > 1
    shared = [groups[i] for i in range(0, len(groups), SHARED) for _ in range(SHARED)] == groups
    falling = groups == sorted(groups, reverse=True) and groups[0] > groups[-1]
    low = (BUDGET - SUFFIX) * SHARED // 4
    first = 2 * (BUDGET - SUFFIX) - low
    return within and shared and falling and abs(groups[0] - SUFFIX - first) < BLOCK and abs(groups[-1] - SUFFIX - low) < BLOCK


if __name__ == "__main__":
    if not main(*sys.argv[1:]):
        sys.exit("unexpected rows")
