# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of ZigZagKV promises, asserted of its oracle."""
import math
import unittest

import numpy as np

import oracle_snapkv
import oracle_zigzagkv as oracle
from oracle_support import layers_of, prompt_probabilities
from test_oracles import heads, problem


class Need(unittest.TestCase):
    def test_one_hot_and_uniform(self):
        for tokens in (1, 7, 10, 40, 200, 1000):
            self.assertEqual(oracle.needed(np.eye(tokens)[tokens // 2], 0.9), 1)
            self.assertEqual(oracle.needed(np.full(tokens, 1 / tokens), 0.9), math.ceil(round(0.9 * tokens, 9)))

    def test_by_hand_and_whatever_the_sum(self):
        row = np.array([0.1, 0.4, 0.05, 0.3, 0.15])
        self.assertEqual([oracle.needed(row * 3, mass) for mass in (0.3, 0.41, 0.7, 0.71, 0.9, 0.96, 1.0)],
                         [1, 2, 2, 3, 4, 5, 5])

    def test_non_decreasing_in_the_mass(self):
        rows = prompt_probabilities(layers_of(problem(tokens=90, group=2, steps=0))[0], 16).mean(axis=1)
        for row in rows:
            needs = [oracle.needed(row, mass) for mass in np.linspace(0.05, 0.99, 30)]
            self.assertEqual(needs, sorted(needs))
            self.assertLess(needs[0], needs[-1])

    def test_mean_over_query_heads_of_all_columns(self):
        layer = layers_of(problem(tokens=70, group=4, steps=0))[1]
        rows = prompt_probabilities(layer, 9)
        want = []
        for head in range(8):
            mean = sorted(rows[head].sum(axis=0) / 9, reverse=True)
            want.append(next(n for n in range(1, 71) if sum(mean[:n]) >= 0.8))
        self.assertEqual(oracle.layer_need(layer, 9, 0.8), np.mean(want))


class Budgets(unittest.TestCase):
    def test_the_mean_is_kept_before_and_after_clamping(self):
        rng = np.random.default_rng(8)
        for layers, budget, tokens in ((2, 100, 250), (8, 64, 90), (32, 128, 4000), (5, 3, 9), (3, 1, 5)):
            for sharpness in (0.1, 1.0, 30.0):
                got = oracle.layer_budgets(rng.dirichlet(np.full(layers, sharpness)) + 1e-6, budget, tokens)
                self.assertEqual(got.sum(), layers * budget)
                self.assertTrue(got.min() >= 1 and got.max() <= tokens)

    def test_equal_needs_are_uniform(self):
        self.assertEqual(oracle.layer_budgets([17.5] * 6, 77, 300).tolist(), [77] * 6)

    def test_by_hand(self):
        # B_min 10, 90 * 3 shared 1 : 2 : 3
        self.assertEqual(oracle.layer_budgets([5, 10, 15], 100, 400).tolist(), [55, 100, 145])
        # the third is cut to 120; of the 180 left 160 are shared 1 : 2
        self.assertEqual(oracle.layer_budgets([5, 10, 15], 100, 120).tolist(), [63, 117, 120])
        # 1 + 9 * 4 u = 6.14 each of 7 parts: remainders .14 .29 .43 .14 -> the third
        self.assertEqual(oracle.layer_budgets([1, 2, 3, 1], 10, 99).tolist(), [6, 11, 17, 6])


class ZigZag(unittest.TestCase):
    def test_layers_keep_what_snapkv_keeps_at_their_budgets(self):
        inputs = problem(tokens=150, group=2, steps=2, layers=3)
        inputs["layers.1.q"] = inputs["layers.1.q"] * 4
        params = {"window": 16}
        result = oracle.run(inputs, params, 60)
        counts = [len(heads(result, "indices", index)[0]) - 2 for index in range(3)]
        self.assertEqual(sum(counts), 180)
        self.assertEqual(min(counts), counts[1])
        self.assertLess(counts[1], 50)
        for index, count in enumerate(counts):
            want = oracle_snapkv.run(inputs, params, count)[f"layers.{index}.indices"]
            self.assertTrue(np.array_equal(result[f"layers.{index}.indices"], want))

    def test_budgets_of_all_rows_and_of_the_window(self):
        inputs = problem(tokens=100, steps=0)
        self.assertEqual(oracle.run(inputs, {}, 100)["layers.0.indices"].shape, (2, 100))
        self.assertEqual(oracle.run(inputs, {}, 64)["layers.1.indices"][1].tolist(), list(range(36, 100)))

    def test_query_heads_of_their_own_are_kv_heads_without_a_group(self):
        inputs = problem(tokens=120, group=3, steps=3)
        repeated = {name: np.repeat(values, 3, axis=0) if name.endswith((".k", ".v")) else values
                    for name, values in inputs.items()}
        got = oracle.run(inputs, {"window": 16, "granularity": "query_head"}, 90)
        want = oracle.run(repeated, {"window": 16}, 90)
        self.assertEqual(len(got["layers.1.indices"]), 6)
        for name, values in want.items():
            if not name.startswith("__"):
                self.assertTrue(np.array_equal(got[name], values), name)


if __name__ == "__main__":
    unittest.main()
