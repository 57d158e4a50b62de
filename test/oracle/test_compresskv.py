# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of CompressKV promises, asserted of its oracle."""
import unittest

import numpy as np

import oracle_compresskv
import oracle_snapkv
from oracle_support import layers_of
from test_oracles import heads, problem


class Budgets(unittest.TestCase):
    def test_sum_and_bounds(self):
        rng = np.random.default_rng(2)
        for layers, capacity in ((2, 64), (4, 100), (32, 512), (7, 33), (5, 32)):
            for sharpness in (0.05, 0.5, 5.0):
                got = oracle_compresskv.layer_budgets(rng.dirichlet(np.full(layers, sharpness)), capacity)
                self.assertEqual(got.sum(), capacity * layers)
                self.assertTrue((got >= 32).all() and (got <= 3 * capacity).all())

    def test_by_hand(self):
        # 32 + round(imp * 3 * 68): 32 + 102, 32 + 61.2, 32 + 40.8
        self.assertEqual(oracle_compresskv.layer_budgets([0.5, 0.3, 0.2], 100).tolist(), [134, 93, 73])
        # ceiling 200: 293 is cut, the 94 missing go round the others, which start at 37, 37, 32
        got = oracle_compresskv.layer_budgets([0.96, 0.02, 0.02, 0.0], 100, ceiling=2)
        self.assertEqual(got.tolist(), [200, 69, 68, 63])

    def test_sweeps_add_by_falling_and_remove_by_rising_importance(self):
        # 40, 40, 48 (half to even): one is missing. 34, 34, 34, 35: one is too many.
        self.assertEqual(oracle_compresskv.layer_budgets([0.25, 0.25, 0.5], 43).tolist(), [40, 40, 49])
        self.assertEqual(oracle_compresskv.layer_budgets([0.19, 0.19, 0.19, 0.43], 34).tolist(), [33, 34, 34, 35])

    def test_a_capacity_below_the_floor_is_uniform(self):
        self.assertEqual(oracle_compresskv.layer_budgets([0.9, 0.1], 20).tolist(), [20, 20])


class Selection(unittest.TestCase):
    def test_one_index_set_for_all_heads_and_budgets_per_layer(self):
        inputs = problem(tokens=150, group=4, steps=2, layers=3)
        result = oracle_compresskv.run(inputs, {}, 60, heads=[[0, 3, 5], [1, 2, 7], [4, 5, 6]],
                                       importance=[0.6, 0.1, 0.3])
        counts = []
        for index in range(3):
            first, second = heads(result, "indices", index)
            self.assertTrue(np.array_equal(first, second))
            self.assertEqual(first[-10:].tolist(), list(range(142, 152)))
            counts.append(len(first) - 2)
        self.assertEqual(counts, oracle_compresskv.layer_budgets([0.6, 0.1, 0.3], 60).tolist())
        self.assertEqual(sum(counts), 180)

    def test_only_the_voting_heads_matter(self):
        inputs = problem(tokens=100, group=4, steps=0)
        voters = [[1, 6], [0, 7]]
        changed = dict(inputs)
        changed["layers.0.q"] = inputs["layers.0.q"].copy()
        changed["layers.0.q"][[0, 2, 3, 4, 5, 7]] = inputs["layers.0.q"][[4, 7, 5, 0, 3, 2]]
        got, same = (oracle_compresskv.run(i, {}, 40, heads=voters)["layers.0.indices"] for i in (inputs, changed))
        self.assertTrue(np.array_equal(got, same))
        changed["layers.0.q"][[1, 6]] = inputs["layers.0.q"][[6, 1]]
        self.assertFalse(np.array_equal(got, oracle_compresskv.run(changed, {}, 40, heads=voters)["layers.0.indices"]))

    def test_all_heads_and_equal_budgets_are_the_head_mean_of_snapkv(self):
        inputs = problem(tokens=100, group=4, steps=0)
        layer = layers_of(inputs)[1]
        mean = oracle_snapkv.prefix_scores(layer, 8, 5, "avg").mean(axis=0)
        got = oracle_compresskv.run(inputs, {}, 40)["layers.1.indices"]
        self.assertEqual(got[0].tolist(), sorted(np.argsort(-mean)[:32].tolist()) + list(range(92, 100)))

    def test_layers_with_room_keep_all(self):
        result = oracle_compresskv.run(problem(tokens=70, group=2, steps=0), {}, 60, importance=[0.95, 0.05])
        self.assertEqual(heads(result, "indices", 0)[0].tolist(), list(range(70)))
        most = oracle_compresskv.layer_budgets([0.95, 0.05], 60)[0]
        self.assertEqual(len(heads(result, "indices", 1)[0]), 120 - most)

    def test_a_budget_of_the_window_keeps_the_newest(self):
        for budget in (8, 5):
            result = oracle_compresskv.run(problem(tokens=70, group=2, steps=0), {}, budget)
            self.assertEqual(heads(result, "indices", 1)[1].tolist(), list(range(70 - budget, 70)))
            self.assertNotIn("layers.0.scores", result)

    def test_scores_force_the_window(self):
        inputs = problem(tokens=50, group=2, steps=0)
        got = oracle_compresskv.run(inputs, {}, 40)["layers.0.scores"]
        self.assertTrue(np.isinf(got[:, 42:]).all())
        want = oracle_compresskv.shared_scores(layers_of(inputs)[0], oracle_compresskv.DEFAULTS, slice(None))
        np.testing.assert_allclose(got[:, :42], [want, want], rtol=1e-6)


class Calibration(unittest.TestCase):
    def test_a_repeated_id_counts_more_than_once(self):
        rows = np.zeros((2, 1, 2, 8))
        rows[0, 0, 0, 3:6], rows[0, 0, 1, 4], rows[1, 0, 1, 2] = 0.1, 0.5, 0.9
        ids = [1, 2, 3, 7, 8, 7, 9, 9]
        got = oracle_compresskv.head_scores(rows, ids, (3, 6), [7, 1])
        np.testing.assert_allclose(got, [[2 * 0.3, 2 * 0.5]])
        np.testing.assert_allclose(oracle_compresskv.head_scores(rows, ids, (3, 6), [8, 5]), [[0.3, 0.5]])

    def test_best_heads_of_the_mean_over_tests(self):
        tests = [[[0.1, 0.5, 0.2, 0.2]], [[0.9, 0.1, 0.2, 0.2]]]
        self.assertEqual(oracle_compresskv.voting_heads(tests, 2).tolist(), [[0, 1]])
        self.assertEqual(oracle_compresskv.voting_heads(tests[:1], 2).tolist(), [[1, 2]])

    def test_importance_sums_to_one_whatever_the_size_of_a_data_set(self):
        got = oracle_compresskv.layer_importance([[[1.0, 3.0]] * 10, [[3.0, 1.0]]])
        np.testing.assert_allclose(got, [0.5, 0.5])
        got = oracle_compresskv.layer_importance([[[1.0, 3.0], [0.0, 4.0]], [[3.0, 1.0]]])
        np.testing.assert_allclose(got, [(1 / 8 + 3 / 4) / 2, (7 / 8 + 1 / 4) / 2])

    def test_error_of_an_output(self):
        weights = np.eye(3)
        self.assertAlmostEqual(oracle_compresskv.output_error(np.zeros(3), np.array([0.0, 3.0, 4.0]), weights), 1.0, 5)
        self.assertEqual(oracle_compresskv.output_error(np.ones(3), np.ones(3), weights), 0.0)


if __name__ == "__main__":
    unittest.main()
