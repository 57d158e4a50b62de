# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of DBudgetKV promises, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dbudgetkv
from oracle_support import by_group, layers_of, prompt_probabilities
from test_oracles import heads, problem


def losses(attention):
    """Loss(p) of [heads, n] rows in leaving order, straight from the formula."""
    norms = np.array([np.mean([np.linalg.norm(row[p:]) for row in attention]) for p in range(attention.shape[1])])
    return 1 - norms / norms[0]


class DBudgetKv(unittest.TestCase):
    def test_the_cut_is_the_longest_within_theta(self):
        for theta in (0.003, 0.01, 0.2):
            inputs = problem(tokens=120, group=4, steps=2)
            result = oracle_dbudgetkv.run(inputs, {"theta": theta}, None)
            for index, layer in enumerate(layers_of(inputs)):
                rows = by_group(prompt_probabilities(layer, 1)[:, 0], 2).mean(axis=1)
                loss = losses(rows[:, 4:])
                kept = heads(result, "indices", index)[0]
                cut = 122 - len(kept)
                self.assertTrue(0 < cut < 115)
                self.assertLessEqual(loss[cut], theta)
                self.assertGreater(loss[cut + 1], theta)

    def test_kept_are_sinks_and_a_suffix_alike_in_all_heads(self):
        result = oracle_dbudgetkv.run(problem(tokens=90, group=2, steps=0), {"theta": 0.1}, None)
        first, second = heads(result, "indices")
        self.assertTrue(np.array_equal(first, second))
        self.assertEqual(first[:4].tolist(), [0, 1, 2, 3])
        self.assertEqual(first[4:].tolist(), list(range(90 - len(first) + 4, 90)))
        other = heads(result, "indices", layer=1)[0]
        self.assertNotEqual(len(first), len(other))

    def test_theta_zero_keeps_every_candidate_of_weight(self):
        row = np.array([[0.0, 0.0, 0.1, 0.2, 0.1]])
        self.assertEqual(oracle_dbudgetkv.longest_cut(oracle_dbudgetkv.suffix_norms(row)[0], 0.0), 2)
        result = oracle_dbudgetkv.run(problem(tokens=50, group=2, steps=0), {"theta": 0.0}, None)
        self.assertEqual(heads(result, "indices")[0].tolist(), list(range(50)))

    def test_theta_of_one_keeps_the_sinks_and_the_newest(self):
        for theta in (1.0, 2.5):
            result = oracle_dbudgetkv.run(problem(tokens=50, group=2, steps=0), {"theta": theta, "safe": 3}, None)
            self.assertEqual(heads(result, "indices")[1].tolist(), [0, 1, 2, 49])

    def test_short_prompts_stay(self):
        for tokens in (1, 4, 5):
            result = oracle_dbudgetkv.run(problem(tokens=tokens, steps=2), {"theta": 0.5}, None)
            self.assertEqual(heads(result, "indices")[0].tolist(), list(range(tokens + 2)))

    def test_no_attention_on_candidates_loses_nothing(self):
        self.assertEqual(oracle_dbudgetkv.longest_cut(np.zeros(6), 0.01), 5)

    def test_mean_of_query_norms_is_another_cut_of_the_layer(self):
        inputs = problem(tokens=120, group=4, steps=0)
        result = oracle_dbudgetkv.run(inputs, {"theta": 0.05, "norms": "query"}, None)
        for index, layer in enumerate(layers_of(inputs)):
            loss = losses(prompt_probabilities(layer, 1)[:, 0, 4:])
            cut = 120 - len(heads(result, "indices", index)[0])
            self.assertTrue(loss[cut] <= 0.05 < loss[cut + 1])

    def test_order_by_accumulated_attention(self):
        inputs = problem(tokens=60, group=2, steps=0)
        layer = layers_of(inputs)[0]
        result = oracle_dbudgetkv.run(inputs, {"order": "h2o", "theta": 0.05, "safe": 8}, None)
        sums = by_group(prompt_probabilities(layer, 60).sum(axis=1), 2).sum(axis=1)[:, :52]
        order = np.argsort(sums, axis=1)
        last = by_group(prompt_probabilities(layer, 1)[:, 0], 2).mean(axis=1)
        loss = losses(np.take_along_axis(last, order, axis=1))
        cut = int(np.flatnonzero(loss <= 0.05)[-1])
        self.assertTrue(0 < cut < 51)
        for head, kept in enumerate(heads(result, "indices")):
            self.assertEqual(kept.tolist(), sorted(set(range(60)) - set(order[head, :cut].tolist())))
        self.assertFalse(np.array_equal(*heads(result, "indices")))

    def test_metric_of_several_rows_is_normalised_by_count(self):
        layer = layers_of(problem(tokens=20, group=2, steps=0))[0]
        rows = prompt_probabilities(layer, 3)
        got = oracle_dbudgetkv.attention_of(layer, "rows", 3)
        np.testing.assert_allclose(got[:, 18], rows[:, 1:, 18].mean(axis=1))
        np.testing.assert_allclose(got[:, 19], rows[:, 2, 19])
        np.testing.assert_allclose(got[:, 5], rows[:, :, 5].mean(axis=1))

    def test_skipped_layers_are_left_alone(self):
        result = oracle_dbudgetkv.run(problem(tokens=60, steps=0), {"theta": 0.3, "skip_layers": [1]}, None)
        self.assertEqual(len(heads(result, "indices", layer=1)[0]), 60)
        self.assertLess(len(heads(result, "indices")[0]), 60)

    def test_query_heads_of_their_own_are_kv_heads_without_a_group(self):
        inputs = problem(tokens=120, group=3, steps=3)
        repeated = {name: np.repeat(values, 3, axis=0) if name.endswith((".k", ".v")) else values
                    for name, values in inputs.items()}
        got = oracle_dbudgetkv.run(inputs, {"theta": 0.1, "granularity": "query_head"}, None)
        want = oracle_dbudgetkv.run(repeated, {"theta": 0.1}, None)
        self.assertEqual(len(got["layers.1.indices"]), 6)
        for name, values in want.items():
            if not name.startswith("__"):
                self.assertTrue(np.array_equal(got[name], values), name)


if __name__ == "__main__":
    unittest.main()
