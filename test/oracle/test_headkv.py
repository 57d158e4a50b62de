# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of HeadKV promises, asserted of its oracle."""
import math
import unittest

import numpy as np

import oracle_headkv
import oracle_snapkv
from test_oracles import heads, problem

SMALL = {"window": 16}


class HeadKv(unittest.TestCase):
    def test_sum_and_base(self):
        rng = np.random.default_rng(4)
        for beta in (1.005, 1.5, 10.0):
            for budget in (17, 100, 480):
                table = rng.gamma(0.4, size=(6, 8))
                got = oracle_headkv.head_budgets(table, budget, beta)
                self.assertLessEqual(abs(int(got.sum()) - budget * 48), 24)
                self.assertGreaterEqual(got.min(), budget - math.floor(budget / beta))

    def test_by_hand(self):
        # pool floor(30 / 1.5) = 20, base 10, 4 heads: 10 + 80 share
        self.assertEqual(oracle_headkv.head_budgets([[1, 2], [5, 2]], 30).tolist(), [[18, 26], [50, 26]])
        self.assertEqual(oracle_headkv.head_budgets([[1, 2], [5, 2]], 30, temperature=2.0).tolist(),
                         [[12, 19], [69, 19]])
        self.assertEqual(oracle_headkv.group_budgets(np.array([[18, 26], [51, 28]]), 1).tolist(), [[22], [40]])

    def test_larger_beta_shares_less(self):
        table = [[1.0, 3.0]]
        spread = [np.ptp(oracle_headkv.head_budgets(table, 60, beta)) for beta in (1.01, 1.5, 4.0)]
        self.assertTrue(spread[0] > spread[1] > spread[2] > 0)

    def test_uniform_shares_are_snapkv(self):
        inputs = problem(tokens=120, group=4, steps=3)
        want = oracle_snapkv.run(inputs, {"window": 16, "kernel": 7, "pooling": "max"}, 50)
        for table in (None, np.full((2, 8), 0.3)):
            got = oracle_headkv.run(inputs, SMALL, 50, table)
            for name, values in want.items():
                if not name.startswith("__"):
                    self.assertTrue(np.array_equal(got[name], values), name)

    def test_each_head_keeps_its_best_and_the_window(self):
        inputs = problem(tokens=120, group=2, steps=0)
        table = np.array([[9, 3, 1, 2], [2, 1, 1, 1.0]])
        result = oracle_headkv.run(inputs, SMALL, 40, table)
        budgets = oracle_headkv.group_budgets(oracle_headkv.head_budgets(table, 24), 2)
        scores = oracle_snapkv.prefix_scores(oracle_headkv.layers_of(inputs)[0], 16, 7, "max")
        for head, rows in enumerate(heads(result, "indices")):
            cut = np.sort(scores[head])[-budgets[0, head]]
            self.assertEqual(rows[-16:].tolist(), list(range(104, 120)))
            self.assertEqual(len(rows), budgets[0, head] + 16)
            self.assertTrue((scores[head][rows[:-16]] >= cut).all())
        self.assertNotEqual(*budgets[0])

    def test_a_budget_beyond_the_prefix_keeps_it(self):
        result = oracle_headkv.run(problem(tokens=60, group=1, steps=0), SMALL, 40, np.array([[1, 0], [0, 0.0]]))
        self.assertEqual(len(heads(result, "indices")[0]), 60)
        self.assertEqual([len(rows) for rows in heads(result, "indices", 1)], [24, 24])

    def test_budgets_of_all_rows_and_of_the_window(self):
        inputs = problem(tokens=60, group=2, steps=0)
        self.assertEqual(heads(oracle_headkv.run(inputs, SMALL, 60), "indices")[1].tolist(), list(range(60)))
        for budget in (16, 9):
            result = oracle_headkv.run(inputs, SMALL, budget, np.array([[1, 2, 3, 4], [4, 3, 2, 1.0]]))
            self.assertEqual(heads(result, "indices", 1)[0].tolist(), list(range(60 - budget, 60)))

    def test_query_heads_have_budgets_of_their_own(self):
        inputs = problem(tokens=120, group=2, steps=0)
        table = np.array([[4, 1, 1, 2], [1, 1, 1, 1.0]])
        result = oracle_headkv.run(inputs, {**SMALL, "granularity": "query_head"}, 40, table)
        want = oracle_headkv.head_budgets(table, 24)[0] + 16
        self.assertEqual([len(rows) for rows in heads(result, "indices", count=4)], want.tolist())


class Calibration(unittest.TestCase):
    rows = np.array([[[0.1, 0.2, 0.6, 0.1], [0.4, 0.1, 0.3, 0.2]], [[0.1, 0.5, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4]]])

    def test_copy_needs_the_top_key_and_the_token(self):
        steps = [self.rows, self.rows]
        got = oracle_headkv.copy_scores(steps, [7, 8, 9, 9], (1, 3), [9, 8])
        np.testing.assert_allclose(got, [[0.5, 0.0], [0.5, 0.0]])
        got = oracle_headkv.copy_scores(steps, [7, 8, 9, 9], (1, 3), [9, 9])
        np.testing.assert_allclose(got, [[1.0, 0.0], [0.0, 0.0]])

    def test_reason_adds_the_mass_of_the_top_keys_in_the_needle(self):
        got = oracle_headkv.reason_scores([self.rows], (1, 3))
        np.testing.assert_allclose(got, [[0.4, 0.15], [0.35, 0.15]])


if __name__ == "__main__":
    unittest.main()
