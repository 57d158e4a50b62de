# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of FastKV and of token dropping, asserted of their oracles."""
import unittest

import numpy as np

import oracle_dense
import oracle_fastkv as fastkv
import oracle_snapkv
from oracle_support import attend, layers_of, prompt_probabilities, top_k
from small_inputs import first_steps, problem
from token_drop import surviving

P = {"tsp_layer": 1, "tsp_length": 70}


class FastKv(unittest.TestCase):
    def setUp(self):
        self.inputs = problem(layers=4)
        self.prompt = first_steps(self.inputs, 0)

    def tokens_of(self, result, layer):
        return np.unique(result[f"layers.{layer}.indices"])

    def test_layers_up_to_the_selecting_one_see_the_whole_prompt(self):
        result = fastkv.run(self.prompt, P, 40)
        same = {"window": 8, "kernel": 7, "pooling": "max"}
        snapkv = oracle_snapkv.run(self.prompt, same, 40)
        for index in (0, 1):   # a group sum ranks as a group mean
            self.assertTrue(np.array_equal(result[f"layers.{index}.indices"], snapkv[f"layers.{index}.indices"]))
        self.assertFalse(np.array_equal(result["layers.2.indices"], snapkv["layers.2.indices"]))

    def test_deeper_layers_see_the_chosen_tokens_in_order(self):
        layer = layers_of(self.prompt)[1]
        scores = fastkv.head_scores(layer, {**fastkv.DEFAULTS, **P})
        want = np.append(top_k(scores.sum(axis=0), 62), np.arange(132, 140))
        self.assertTrue(np.array_equal(fastkv.passed_on(layer, scores, {**fastkv.DEFAULTS, **P}), want))
        result = fastkv.run(self.prompt, P, 69)
        for index in (2, 3):
            rows = result[f"layers.{index}.indices"]
            self.assertEqual(rows.shape[1], 69)
            self.assertTrue(np.isin(rows, want).all())
        everything = fastkv.run(self.prompt, {**P, "tsp_length": 60}, 60)
        self.assertEqual(len(self.tokens_of(everything, 3)), 60)

    def test_scores_of_a_deeper_layer_use_only_the_survivors(self):
        tokens = np.r_[3:60:2, 100:140]
        layer = surviving(layers_of(self.prompt)[2], tokens)
        rows = prompt_probabilities(layer, 8)
        whole = layers_of(self.prompt)[2]
        for i in (0, 7):
            seen = tokens[tokens <= 132 + i]
            want = attend(whole.q[3, 132 + i], whole.k[1][seen], whole.v[1][seen])[1]
            np.testing.assert_allclose(rows[3, i, :len(seen)], want, rtol=1e-9)
            self.assertEqual(rows[3, i, len(seen):].sum(), 0)

    def test_short_query_tensors_survive_a_drop(self):
        whole = layers_of(problem(query_rows=20, steps=0))[0]
        layer = surviving(whole, np.r_[0:50, 125, 132:140])
        self.assertTrue(np.array_equal(layer.q, whole.q[:, [5] + list(range(12, 20))]))

    def test_decode_goes_on_after_the_whole_prompt(self):
        result = fastkv.run(self.inputs, P, 40)
        for index in range(4):
            self.assertEqual(result[f"layers.{index}.indices"][1, -6:].tolist(), list(range(140, 146)))
            self.assertEqual(result[f"layers.{index}.pos"][1, -6:].tolist(), list(range(140, 146)))
            self.assertTrue(np.array_equal(result[f"layers.{index}.pos"], result[f"layers.{index}.indices"]))
        rows = result["layers.3.indices"][1, :40]
        keys, values = (np.vstack([self.inputs[f"layers.3.{n}"][1, rows], self.inputs[f"layers.3.step.{n}"][1, :1]])
                        for n in "kv")
        want = attend(self.inputs["layers.3.step.q"][3, 0], keys, values)[0]
        np.testing.assert_allclose(result["layers.3.step.out"][3, 0], want, rtol=1e-4, atol=1e-5)

    def test_proportional_sizes(self):
        p = {**fastkv.DEFAULTS, "sizing": "proportional", "tsp_layer": 1, "tsp_rate": 0.5}
        result = fastkv.run(self.prompt, p, 40)
        self.assertEqual([result[f"layers.{i}.indices"].shape[1] for i in range(4)], [40, 40, 40, 40])
        self.assertEqual(fastkv.capacity(0, 1000, 1000, 100, {**p, "tsp_rate": 0.2}), 100)
        self.assertEqual(fastkv.capacity(2, 200, 1000, 100, {**p, "tsp_rate": 0.2}), 100)
        self.assertEqual(fastkv.capacity(2, 66, 333, 100, {**p, "tsp_rate": 0.2}), 99)

    def test_nothing_dropped_is_dense(self):
        dense = oracle_dense.run(self.inputs, {})
        for params in (P, {"sizing": "proportional", "tsp_rate": 1.0, "tsp_layer": 1}):
            got = fastkv.run(self.inputs, params, 140)
            for index in range(4):
                self.assertTrue(np.array_equal(got[f"layers.{index}.step.out"], dense[f"layers.{index}.step.out"]))

    def test_group_sum_and_group_mean_choose_the_same(self):
        scores = np.random.default_rng(11).exponential(size=(2, 4, 50))
        self.assertTrue(np.array_equal(top_k(scores.sum(axis=1)[0], 20), top_k(scores.mean(axis=1)[0], 20)))

    def test_small_capacities(self):
        result = fastkv.run(self.prompt, {**P, "tsp_length": 6}, 5)
        self.assertEqual(result["layers.0.indices"][0].tolist(), list(range(135, 140)))
        self.assertEqual(result["layers.3.indices"][0].tolist(), list(range(135, 140)))


if __name__ == "__main__":
    unittest.main()
