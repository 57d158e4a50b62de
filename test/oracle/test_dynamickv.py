# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of DynamicKV, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dynamickv as dynamickv
import oracle_snapkv
from oracle_support import layers_of
from small_inputs import problem


class DynamicKv(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(4)

    def drawn(self, layers, prefix=90):
        strength = self.rng.exponential(size=(layers, 1, 1))
        return strength * self.rng.exponential(size=(layers, 2, prefix))

    def test_the_total_is_at_most_the_budget_and_met_without_caps(self):
        for layers in (2, 3, 4, 6, 8):
            for mean in (3, 8, 40):
                held = dynamickv.held_after_prompt(self.drawn(layers), mean, 10, 4, True)
                self.assertEqual(len(held), layers)
                self.assertLessEqual(sum(held), mean * layers)
        for mean in range(3, 30):
            self.assertEqual(sum(dynamickv.layer_budgets(self.drawn(3, 400), mean, 10 * mean, 3)), mean * 3)
        roomy = dynamickv.layer_budgets(self.drawn(4, 400), 8, 80, 4)
        self.assertEqual(sum(roomy), 32)

    def test_equal_scores_in_every_layer_give_each_layer_the_mean(self):
        one = self.rng.permutation(180).reshape(1, 2, 90) / 180.0
        for layers in (4, 8):
            self.assertEqual(dynamickv.held_after_prompt(np.repeat(one, layers, 0), 12, 10, 4, True), [12] * layers)

    def test_a_stronger_layer_gets_more(self):
        scores = self.rng.exponential(size=(4, 2, 400))
        scores[2] *= 3
        held = dynamickv.held_after_prompt(scores, 20, 10, 4, True)
        self.assertEqual(int(np.argmax(held)), 2)
        self.assertEqual(sum(held), 80)

    def test_known_budgets(self):
        # 2 layers, 1 head, mean 2: the best 4 of all values are 3 of layer 0 and 1 of layer 1; 3 // 2 = 1 and
        # 1 // 2 = 0, the last layer is made up to 4 // 2 = 2 in all: shares 1, 1.
        scores = np.array([[[9.0, 8, 7, 1, 1]], [[6.0, 2, 2, 2, 2]]])
        self.assertEqual(dynamickv.layer_budgets(scores, 2, 5, 2), [2, 2])
        # 3 layers seen of 4: no correction; counts 5, 1, 0 of 6, shares 1, 0, 0; everything goes to layer 0.
        scores = np.array([[[9.0, 8, 7, 6, 5, 0]], [[4.0, 0, 0, 0, 0, 0]], [[0.0] * 6]])
        self.assertEqual(dynamickv.layer_budgets(scores, 2, 6, 4), [8, 0, 0])

    def test_shares_of_the_temporary_size_are_truncated(self):
        # Counts 7 and 2 of 9 over 3 layers seen of 3, one has none: shares 2, 0 and the last is made up to 3.
        scores = np.array([[[9.0, 8, 7, 6, 5, 4, 3.5]], [[4.5, 3.7, 0, 0, 0, 0, 0]], [[0.0] * 7]])
        self.assertEqual(dynamickv.layer_budgets(scores, 3, 7, 3), [6, 0, 3])      # raw 4, 0, 2
        self.assertEqual(dynamickv.layer_budgets(scores, 3, 5, 3), [6, 0, 3])      # raw 3, 0, 1: 27 // 4, the rest
        self.assertEqual(dynamickv.layer_budgets(scores, 3, 2, 3), [9, 0, 0])      # raw 1, 0, 0

    def test_a_layer_cut_early_does_not_grow_back(self):
        scores = self.drawn(8, 300)
        early = [min(100, b) for b in dynamickv.layer_budgets(scores[:4], 10, 100, 8)]
        final = dynamickv.held_after_prompt(scores, 10, 10, 4, False)
        self.assertEqual(len(final), 8)
        self.assertTrue(all(b <= a for a, b in zip(early, final)))

    def test_kept_set_is_the_head_of_the_score_order_and_the_window(self):
        inputs = problem(steps=0)
        result = dynamickv.run(inputs, {}, 30)
        total = 0
        for layer in layers_of(inputs):
            scores = dynamickv.prefix_scores(layer, 8, 7, "max")
            for head in range(2):
                rows = result[f"layers.{layer.index}.indices"][head]
                total += len(rows)
                self.assertEqual(rows[-8:].tolist(), list(range(132, 140)))
                order = dynamickv.by_score(scores[head], 132)
                self.assertEqual(set(rows[:-8]), set(order[:len(rows) - 8]))
                self.assertTrue((np.diff(scores[head][order]) <= 1e-7).all())
        self.assertLessEqual(total, 2 * 3 * 30)

    def test_without_the_final_update_few_layers_keep_the_temporary_cache(self):
        result = dynamickv.run(problem(steps=0), {"final_update": False, "radius": 3}, 30)
        self.assertEqual([result[f"layers.{i}.indices"].shape[1] for i in range(3)], [66 + 8] * 3)

    def test_group_one_with_one_layer_is_snapkv(self):
        inputs = problem(steps=0, layers=1, group=1)
        same = {"window": 8, "kernel": 7, "pooling": "max"}
        self.assertTrue(np.array_equal(dynamickv.run(inputs, {}, 30)["layers.0.indices"],
                                       oracle_snapkv.run(inputs, same, 30)["layers.0.indices"]))


if __name__ == "__main__":
    unittest.main()
