# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of WindowKV, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dense
import oracle_windowkv as windowkv
from oracle_support import layers_of, prompt_probabilities, top_k
from small_inputs import problem


class WindowKv(unittest.TestCase):
    def test_prefix_is_whole_blocks_and_groups_share_them(self):
        for params, suffix in (({}, 32), ({"strategy": "average"}, 16), ({"suffix": 11, "block": 5}, 11)):
            p = {"shared_layers": 2, **params}
            block, prefix = p.get("block", 8), 143 - suffix
            result = windowkv.run(problem(steps=0, layers=4, tokens=143), p, 60)
            for first in (0, 2):
                rows = result[f"layers.{first}.indices"]
                self.assertTrue((rows == rows[0]).all())
                self.assertTrue(np.array_equal(rows, result[f"layers.{first + 1}.indices"]))
                self.assertEqual(rows[0, -suffix:].tolist(), list(range(prefix, 143)))
                inside = np.isin(np.arange(prefix), rows[0])
                for start in range(0, prefix, block):
                    self.assertIn(inside[start:start + block].mean(), (0, 1))
            self.assertFalse(np.array_equal(result["layers.0.indices"], result["layers.2.indices"]))

    def test_number_of_blocks(self):
        for prefix in (40, 41, 47, 100):
            for mean in (1, 8, 9, 15, 39):
                scores = np.arange(-(-prefix // 8), dtype=float)[::-1]
                kept = windowkv.kept_blocks(scores, prefix, mean, 8)
                self.assertIn(len(kept), (mean // 8, -(-mean // 8)))
                self.assertEqual(kept.tolist(), list(range(len(kept))))
        self.assertEqual(len(windowkv.kept_blocks(np.ones(6), 41, 0, 8)), 0)

    def test_mean_of_the_budgets_is_the_budget(self):
        for groups in (2, 3, 4, 8):
            for mean in (30, 512, 1000):
                budgets = windowkv.group_budgets(groups, mean, 8, 14)
                self.assertEqual(budgets[-1], mean * 8 // 14)
                self.assertEqual(budgets[0] + budgets[-1], 2 * mean)
                self.assertLess(abs(np.mean(budgets) - mean), groups)
                self.assertEqual(budgets, sorted(budgets, reverse=True))
        self.assertEqual(windowkv.group_budgets(4, 2048, 8, 14), [2926, 2341, 1756, 1170])
        self.assertEqual(windowkv.group_budgets(1, 30, 8, 14), [30])
        self.assertEqual(windowkv.group_budgets(3, 30, 8, 3), [0, 30, 60])    # no more than 2 C
        result = windowkv.run(problem(steps=0, layers=4), {"shared_layers": 2, "block": 1, "suffix": 10, "beta": 3}, 60)
        lengths = [result[f"layers.{i}.indices"].shape[1] - 10 for i in range(4)]
        self.assertEqual(lengths, [67, 67, 33, 33])    # C = 50, last = floor(50 * 2 / 3)

    def test_blocks_of_one_token_with_average_are_head_mean_attention_without_pooling(self):
        inputs = problem(steps=0, layers=1)
        result = windowkv.run(inputs, {"block": 1, "strategy": "average", "shared_layers": 1}, 60)
        votes = prompt_probabilities(layers_of(inputs)[0], 16)[:, :, :124].sum(axis=1).mean(axis=0)
        want = np.append(top_k(votes, 44), np.arange(124, 140))
        self.assertTrue((result["layers.0.indices"] == want).all())

    def test_block_scores_by_hand(self):
        columns = np.array([[1.0, 5, 3, 0, 2], [0, 1, 0, 4, 6]])
        np.testing.assert_allclose(windowkv.block_scores(columns, 4, "average"), [1.75, 4.0])
        np.testing.assert_allclose(windowkv.block_scores(columns, 4, "max"), [3.25, 4.0])
        np.testing.assert_allclose(windowkv.block_scores(columns[:, :3], 1, "max"), [0.5, 3.0, 1.5])

    def test_a_group_whose_budget_holds_the_prefix_keeps_all(self):
        result = windowkv.run(problem(steps=0, layers=2, tokens=100), {"shared_layers": 1, "suffix": 10}, 70)
        lengths = [result[f"layers.{i}.indices"].shape[1] for i in range(2)]
        self.assertEqual(lengths[0], 100)
        self.assertLess(lengths[1], 30)

    def test_layers_that_fill_no_group_belong_to_the_last(self):
        result = windowkv.run(problem(steps=0, layers=5), {"shared_layers": 2, "suffix": 10, "beta": 4}, 60)
        rows = [result[f"layers.{i}.indices"] for i in range(5)]
        self.assertTrue(np.array_equal(rows[0], rows[1]))
        self.assertFalse(np.array_equal(rows[1], rows[2]))
        self.assertTrue(np.array_equal(rows[2], rows[3]) and np.array_equal(rows[3], rows[4]))
        few = windowkv.run(problem(steps=0, layers=2), {}, 60)
        self.assertTrue(np.array_equal(few["layers.0.indices"], few["layers.1.indices"]))
        self.assertLessEqual(few["layers.0.indices"].shape[1], 60 + 7)

    def test_short_prompts_and_small_budgets(self):
        inputs = problem(layers=2)
        dense = oracle_dense.run(inputs, {})["layers.1.step.out"]
        self.assertTrue(np.array_equal(windowkv.run(inputs, {"shared_layers": 1}, 140)["layers.1.step.out"], dense))
        rows = windowkv.run(problem(steps=0, layers=2), {"shared_layers": 1}, 20)["layers.0.indices"]
        self.assertEqual(rows[0].tolist(), list(range(120, 140)))


if __name__ == "__main__":
    unittest.main()
