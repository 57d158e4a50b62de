# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of SCOPE promises, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dense
import oracle_scope
import oracle_snapkv
from oracle_support import attend, layers_of, prompt_probabilities
from test_oracles import heads, problem

SMALL = {"recent": 4, "decode_window": 10, "max_new": 40}


def run(inputs, budget, **params):
    return oracle_scope.run(inputs, {**SMALL, **params}, budget)


class Scope(unittest.TestCase):
    def test_prompt_entries_never_change(self):
        inputs = problem(tokens=60, group=4, steps=40)
        want = oracle_snapkv.run({k: v for k, v in inputs.items() if ".step." not in k},
                                 {"window": 8, "kernel": 7, "pooling": "max"}, 30)
        for mode in ("slide", "adaptive", "discontinuous"):
            got = run(inputs, 30, mode=mode)
            for name in ("indices", "k", "v", "pos"):
                self.assertTrue(np.array_equal(got[f"layers.0.{name}"][:, :30], want[f"layers.0.{name}"]), mode)

    def test_the_last_r_survive_and_lengths_are_bounded(self):
        inputs = problem(tokens=60, group=2, steps=40)
        for steps in (3, 9, 10, 11, 25, 40):
            cut = {k: v[:, :steps] if ".step." in k else v for k, v in inputs.items()}
            for mode, most in (("slide", 10), ("adaptive", 10), ("discontinuous", 10 + 6)):
                for rows in heads(run(cut, 30, mode=mode), "indices"):
                    newest = list(range(60 + steps - min(4, steps), 60 + steps))
                    self.assertEqual(rows[-len(newest):].tolist(), newest)
                    self.assertLessEqual(len(rows), 30 + min(most, steps))

    def test_windows_over_time(self):
        p = {**oracle_scope.DEFAULTS, **SMALL, "mode": "adaptive"}
        self.assertEqual(oracle_scope.stride(p), 6)
        self.assertEqual([oracle_scope.window_at(t, p) for t in (0, 5, 6, 35, 36, 39, 80)], [4, 4, 5, 9, 10, 10, 10])
        self.assertEqual(oracle_scope.window_at(0, {**p, "mode": "slide"}), 10)
        self.assertEqual(oracle_scope.stride({**p, "decode_window": 100}), 1)
        self.assertEqual(oracle_scope.window_at(40, {**p, "decode_window": 4}), 4)

    def test_a_window_of_all_steps_evicts_nothing(self):
        inputs = problem(tokens=40, group=2, steps=30)
        dense = oracle_dense.run(inputs, {})
        for mode in ("slide", "adaptive", "discontinuous"):
            got = run(inputs, 40, mode=mode, decode_window=30, max_new=30)
            self.assertTrue(np.array_equal(got["layers.1.step.out"], dense["layers.1.step.out"]), mode)

    def test_adaptive_selection_by_hand(self):
        inputs = problem(tokens=20, group=2, steps=9, dim=16)
        layer, held = layers_of(inputs)[0], [[], []]
        for step in range(9):
            for head in range(2):
                held[head].append(step)
                keys = np.vstack([layer.k[head], layer.step_k[head, held[head]]])
                rows = [attend(layer.step_q[h, step], keys, keys)[1] for h in (2 * head, 2 * head + 1)]
                scores, window = dict(zip(held[head], np.mean(rows, axis=0)[20:])), 2 + step // 3
                if len(held[head]) >= window:
                    best = sorted(held[head][:-2], key=lambda t: -scores[t])[:window - 2]
                    held[head] = sorted(best) + held[head][-2:]
        got = run(inputs, 20, mode="adaptive", recent=2, decode_window=5, max_new=12)["layers.0.indices"]
        self.assertEqual(got[:, 20:].tolist(), [[20 + t for t in row] for row in held])

    def test_discontinuous_selects_every_delta_steps_only(self):
        inputs = problem(tokens=30, group=2, steps=18)
        counts = []
        for steps in range(1, 19):
            cut = {k: v[:, :steps] if ".step." in k else v for k, v in inputs.items()}
            counts.append(len(heads(run(cut, 30, mode="discontinuous"), "indices")[0]) - 30)
        self.assertEqual(counts, [1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9, 10, 6, 7, 8, 9, 10, 11])

    def test_a_short_prompt_keeps_its_own_length(self):
        for rows in heads(run(problem(tokens=12, group=2, steps=20), 30), "indices"):
            self.assertEqual(len(rows), 22)
            self.assertEqual(rows[:12].tolist(), list(range(12)))

    def test_prefill_by_all_rows(self):
        inputs = problem(tokens=50, group=2, steps=0)
        sums = prompt_probabilities(layers_of(inputs)[1], 50).sum(axis=1)
        got = run(inputs, 20, prefill="h2o")["layers.1.indices"]
        for head in range(2):
            best = np.argsort(-(sums[2 * head] + sums[2 * head + 1])[:42])[:12]
            self.assertEqual(got[head].tolist(), sorted(best.tolist()) + list(range(42, 50)))
        self.assertEqual(run(inputs, 20, prefill="none")["layers.1.indices"].shape, (2, 50))

    def test_granularity_of_query_heads(self):
        inputs = problem(tokens=50, group=3, steps=20)
        result = run(inputs, 20, granularity="query_head")
        kept = heads(result, "indices", count=6)
        self.assertEqual(len(kept), 6)
        self.assertFalse(np.array_equal(kept[0], kept[1]))
        self.assertTrue(np.array_equal(result["layers.0.k"][4, 3], inputs["layers.0.k"][1, kept[4][3]]))


if __name__ == "__main__":
    unittest.main()
