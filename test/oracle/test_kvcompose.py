# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of KVCompose, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dense
import oracle_kvcompose as kvcompose
from oracle_support import attend, layers_of, top_k
from small_inputs import first_steps, problem


def with_task(rows=20, **fields):
    """A small case whose decode steps serve as the task rows; no steps are left."""
    inputs = problem(steps=rows, **fields)
    for index in range(len(layers_of(inputs))):
        for name in "qk":
            inputs[f"layers.{index}.task.{name}"] = inputs[f"layers.{index}.step.{name}"]
    return first_steps(inputs, 0)


def lengths_of(result, layers=3):
    return [result[f"layers.{i}.indices"].shape[1] for i in range(layers)]


class KvCompose(unittest.TestCase):
    def test_lengths_sum_to_the_total_and_layer_zero_is_the_longest(self):
        for budget in (1, 9, 40, 139):
            for params in ({}, {"agg_head": "max", "agg_task": "mean"}, {"add_v_norm": True, "agg_group": "max"}):
                result = kvcompose.run(with_task(), params, budget)
                lengths = lengths_of(result)
                self.assertEqual(sum(lengths), 3 * budget)
                self.assertEqual(lengths[0], max(lengths))
                for i in range(3):
                    self.assertEqual(len(result[f"layers.{i}.indices"]), 2)

    def test_a_budget_of_all_rows_keeps_everything(self):
        inputs = with_task()
        got, dense = kvcompose.run(inputs, {}, 140), oracle_dense.run(inputs, {})
        for name in ("k", "v", "out", "indices"):
            self.assertTrue(np.array_equal(got[f"layers.1.{name}"], dense[f"layers.1.{name}"]))

    def test_a_common_factor_changes_nothing(self):
        scores = np.random.default_rng(1).exponential(size=(4, 2, 50))
        self.assertTrue(np.array_equal(kvcompose.layer_lengths(scores, 60), kvcompose.layer_lengths(scores * 512, 60)))

    def test_heads_keep_their_own_best_tokens(self):
        inputs = with_task()
        result = kvcompose.run(inputs, {"add_mean_across_heads": False}, 40)
        rows = result["layers.1.indices"]
        self.assertFalse(np.array_equal(rows[0], rows[1]))
        layer = layers_of(inputs)[1]
        for head in range(2):
            best = np.zeros(140)
            for query_head in (2 * head, 2 * head + 1):
                most = np.zeros(140)
                for i in range(20):
                    keys = np.vstack([layer.k[head], inputs["layers.1.task.k"][head, :i + 1]])
                    most = np.maximum(most, attend(inputs["layers.1.task.q"][query_head, i], keys, keys)[1][:140])
                best += most / 2
            np.testing.assert_allclose(result["layers.1.scores"][head], best, rtol=1e-5)
            self.assertTrue(np.array_equal(rows[head], top_k(best, rows.shape[1])))

    def test_head_scores_by_loops(self):
        rng = np.random.default_rng(13)
        attention, values = rng.exponential(size=(4, 5)), rng.standard_normal((2, 5, 3))
        p = {"agg_group": "max", "add_v_norm": True, "add_mean_across_heads": True}
        want = np.zeros((2, 5))
        for j in range(5):
            s = [max(attention[2 * h, j], attention[2 * h + 1, j]) * np.sqrt((values[h, j] ** 2).sum()) for h in (0, 1)]
            want[:, j] = [s[0] + sum(s) / 2, s[1] + sum(s) / 2]
        np.testing.assert_allclose(kvcompose.head_scores(attention, values, p), want, rtol=1e-12)

    def test_composite_scores_fall_with_rank_and_the_bound_comes_first(self):
        scores = np.random.default_rng(2).exponential(size=(5, 3, 40)) * np.array([1, 9, 1, 1, 1])[:, None, None]
        z = kvcompose.composite_scores(scores)
        self.assertTrue((np.diff(z, axis=1) <= 0).all())
        self.assertTrue((z[0] >= z).all())
        bounded = kvcompose.layer_lengths(scores, 50, lower_bound=6)
        self.assertEqual(bounded.sum(), 50)
        self.assertGreaterEqual(bounded.min(), 6)
        self.assertEqual(kvcompose.layer_lengths(scores, 0).tolist(), [1, 0, 0, 0, 0])

    def test_the_ragged_form_counts_single_heads(self):
        scores = np.array([[[5.0, 4, 3, 0], [2, 1, 0, 0]], [[9.0, 0, 0, 0], [8, 7, 6, 5.5]]])
        self.assertEqual(kvcompose.head_lengths(scores, 8).tolist(), [[3, 0], [1, 4]])
        self.assertEqual(kvcompose.head_lengths(scores, 8, 2).tolist(), [[2, 2], [2, 2]])
        self.assertEqual(kvcompose.head_lengths(scores, 0).sum(), 1)
        result = kvcompose.run(with_task(), {"structured": False}, 40)
        total = sum(len(result.get(f"layers.{i}.indices.{h}", [])) or
                    result[f"layers.{i}.indices"].shape[1] for i in range(3) for h in range(2))
        self.assertEqual(total, 3 * 2 * 40)

    def test_the_second_pass_is_needed_only_for_a_cut(self):
        inputs = problem()
        self.assertEqual(lengths_of(kvcompose.run(inputs, {}, 140)), [146] * 3)
        with self.assertRaises(ValueError):
            kvcompose.run(inputs, {}, 100)
        inputs["layers.0.task.q"] = inputs["layers.0.step.q"]
        with self.assertRaises(ValueError):
            kvcompose.run(inputs, {}, 100)


if __name__ == "__main__":
    unittest.main()
