# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of EvolKV promises, asserted of its oracle."""
import unittest

import numpy as np

import oracle_evolkv
import oracle_snapkv
from test_oracles import heads, problem


class Completion(unittest.TestCase):
    def test_sum_and_bounds(self):
        rng = np.random.default_rng(6)
        for layers, target, low, high in ((8, 60, 33, 200), (32, 128, 33, 2048), (2, 100, 17, 120), (5, 34, 33, 90)):
            for sharpness in (0.05, 1.0, 20.0):
                start = np.maximum(1, np.rint(rng.dirichlet(np.full(layers, sharpness)) * target * layers * 0.7))
                got = oracle_evolkv.completed(start, target, low, high)
                self.assertEqual(got.sum(), target * layers)
                self.assertTrue(got.min() >= low and got.max() <= high)

    def test_proportional_by_hand(self):
        self.assertEqual(oracle_evolkv.completed([10, 20, 30], 40).tolist(), [20, 40, 60])
        # 16.5 33 49.5: halves to even. 27.8 27.8 27.8 16.7: one too many, 17 was rounded up most.
        self.assertEqual(oracle_evolkv.completed([1, 2, 3], 33).tolist(), [16, 33, 50])
        self.assertEqual(oracle_evolkv.completed([5, 5, 5, 3], 25).tolist(), [28, 28, 28, 16])
        # 3.43 3.43 3.43 13.7: one is missing, the lowest of equal remainders gets it
        self.assertEqual(oracle_evolkv.completed([1, 1, 1, 4], 6).tolist(), [4, 3, 3, 14])

    def test_a_total_that_is_right_is_left_alone(self):
        self.assertEqual(oracle_evolkv.completed([50, 70, 30], 50).tolist(), [50, 70, 30])

    def test_objective(self):
        self.assertAlmostEqual(oracle_evolkv.objective(0.5, [100, 100], 100), 0.5 * 1.3)
        self.assertAlmostEqual(oracle_evolkv.objective(0.5, [50, 50], 100), 0.5 * (1 + 0.3 * 0.9))
        self.assertAlmostEqual(oracle_evolkv.objective(0.5, [150, 150], 100), 0.5 * (1 + 0.3 * 0.5))
        self.assertAlmostEqual(oracle_evolkv.objective(0.5, [500, 500], 100), 0.5)
        self.assertEqual(oracle_evolkv.objective(0.4, [90, 70], 100), oracle_evolkv.objective(0.4, [90, 70], 100))


class Selection(unittest.TestCase):
    def test_equal_budgets_are_snapkv_bit_for_bit(self):
        inputs = problem(tokens=120, group=4, steps=4)
        settings = {"window": 32, "kernel": 7, "pooling": "max"}
        for budget in (130, 60, 20):
            want = oracle_snapkv.run(inputs, settings, budget)
            for vector in ([], [budget, budget], [7, 7]):
                got = oracle_evolkv.run(inputs, {"budgets": vector}, budget)
                for name, values in want.items():
                    if not name.startswith("__"):
                        self.assertTrue(np.array_equal(got[name], values), name)

    def test_every_layer_keeps_what_snapkv_keeps_at_its_budget(self):
        inputs = problem(tokens=120, group=2, steps=2, layers=3)
        got = oracle_evolkv.run(inputs, {"budgets": [40, 60, 50], "window": 16}, 70)
        for index, budget in enumerate(oracle_evolkv.completed([40, 60, 50], 70)):
            want = oracle_snapkv.run(inputs, {"window": 16, "kernel": 7, "pooling": "max"}, int(budget))
            self.assertEqual(len(heads(got, "indices", index)[0]), budget + 2)
            self.assertTrue(np.array_equal(got[f"layers.{index}.indices"], want[f"layers.{index}.indices"]))

    def test_no_layer_gets_more_than_there_is(self):
        got = oracle_evolkv.run(problem(tokens=100, steps=0), {"budgets": [190, 10]}, 80)
        self.assertEqual([len(heads(got, "indices", index)[0]) for index in (0, 1)], [100, 60])

    def test_query_heads_of_their_own_are_kv_heads_without_a_group(self):
        inputs = problem(tokens=120, group=3, steps=3)
        repeated = {name: np.repeat(values, 3, axis=0) if name.endswith((".k", ".v")) else values
                    for name, values in inputs.items()}
        got = oracle_evolkv.run(inputs, {"budgets": [50, 90], "granularity": "query_head"}, 70)
        want = oracle_evolkv.run(repeated, {"budgets": [50, 90]}, 70)
        self.assertEqual(len(got["layers.1.indices"]), 6)
        for name, values in want.items():
            if not name.startswith("__"):
                self.assertTrue(np.array_equal(got[name], values), name)


if __name__ == "__main__":
    unittest.main()
