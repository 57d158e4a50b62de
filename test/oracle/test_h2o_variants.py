# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of H2O in fixed slots and of observed attention, asserted of their oracles."""
import unittest

import numpy as np

import oracle_dense
import oracle_h2o
import oracle_h2o_ring as ring
import oracle_observed_attention as observed
from oracle_support import attend, by_group, layers_of, prompt_probabilities, top_k
from small_inputs import first_steps, problem


class Ring(unittest.TestCase):
    def setUp(self):
        self.inputs = problem(steps=40, layers=2)

    def test_length_recent_entries_and_prompt_set(self):
        for budget in (1, 2, 21, 40):
            for count in (0, 1, 25):
                rows = ring.run(first_steps(self.inputs, count), {}, budget)["layers.1.indices"]
                self.assertEqual(rows.shape[1], budget)
                newest = max(1 if count else 0, budget // 2)
                self.assertTrue((rows[:, budget - newest:] == np.arange(140 + count - newest, 140 + count)).all())
        before = first_steps(self.inputs, 0)
        self.assertTrue(np.array_equal(ring.run(before, {}, 40)["layers.0.indices"],
                                       oracle_h2o.run(before, {}, 40)["layers.0.indices"]))

    def test_the_column_sums_hold_all_mass(self):
        layer = layers_of(self.inputs)[0]
        sums = prompt_probabilities(layer, 140).sum(axis=1)
        np.testing.assert_allclose(sums.sum(axis=1), 140, rtol=1e-12)

    def test_slots_hold_the_rows_of_the_set_form(self):
        layer = layers_of(self.inputs)[0]
        for budget in (2, 21, 40):
            acc = by_group(prompt_probabilities(layer, 140).sum(axis=1), 2).sum(axis=1)[1]
            kept = oracle_h2o.heavy_and_recent(acc, budget)
            slots = ring.Slots(kept, acc[kept], budget)
            keys = {row: layer.k[1, row] for row in kept}
            for step in range(40):
                row = 140 + step
                keys[row] = layer.step_k[1, step]
                held = np.array([keys[r] for r in slots.rows] + [keys[row]])
                both = sum(attend(layer.step_q[head, step], held, held)[1] for head in (2, 3))
                gone = slots.step(row, both)
                self.assertNotIn(gone, slots.rows)
                rows = ring.run(first_steps(self.inputs, step + 1), {}, budget)["layers.0.indices"][1] \
                    if step in (0, 3, 8, 13, 39) else None
                if rows is not None:
                    self.assertEqual(sorted(slots.rows.tolist()), rows.tolist())
            self.assertEqual(sorted(slots.rows[slots.heavy:].tolist()), list(range(180 - budget // 2, 180)))

    def test_a_step_differs_from_real_drop_only_when_that_would_drop_the_entry_that_just_aged(self):
        rng, aged = np.random.default_rng(12), 0
        for _ in range(300):
            acc = rng.exponential(size=12)
            one, other = ring.kept_after_step(acc, 11), oracle_h2o.heavy_and_recent(acc, 11)
            self.assertIn(6, one)      # entries 7..11 are recent now, 6 was until this step
            self.assertEqual(np.array_equal(one, other), 6 in other)
            aged += 6 not in other
        self.assertTrue(0 < aged < 300)

    def test_a_lightest_entry_leaves_and_ties_stay_at_the_lowest_index(self):
        self.assertEqual(ring.kept_after_step(np.array([3.0, 1, 2, 0, 0, 0]), 5).tolist(), [0, 2, 3, 4, 5])
        self.assertEqual(ring.kept_after_step(np.array([1.0, 1, 1, 9, 9, 9]), 5).tolist(), [0, 1, 3, 4, 5])
        slots = ring.Slots([0, 1, 2, 3, 4], [1.0, 1, 1, 9, 9], 5)
        self.assertEqual(slots.step(5, np.zeros(6)), 2)
        self.assertEqual(slots.rows.tolist(), [0, 1, 3, 5, 4])
        self.assertEqual(slots.step(6, np.array([0, 0, 2.0, 0, 0, 0.5])), 1)
        self.assertEqual((slots.rows.tolist(), slots.acc.tolist()), ([0, 4, 3, 5, 6], [1, 9, 11, 0, 0.5]))

    def test_an_unexceeded_budget_is_dense(self):
        got, dense = ring.run(self.inputs, {}, 180), oracle_dense.run(self.inputs, {})
        self.assertTrue(np.array_equal(got["layers.1.step.out"], dense["layers.1.step.out"]))


class ObservedAttention(unittest.TestCase):
    def test_mean_over_the_rows_that_see_a_key(self):
        inputs = problem(steps=0)
        layer, want = layers_of(inputs)[1], np.zeros(140)
        for head in (2, 3):
            for i in range(140):
                want[:i + 1] += attend(layer.q[head, i], layer.k[1, :i + 1], layer.v[1, :i + 1])[1] / 2
        result = observed.run(inputs, {}, 50)
        np.testing.assert_allclose(result["layers.1.scores"][1], want / np.arange(140, 0, -1), rtol=1e-6)
        self.assertTrue(np.array_equal(result["layers.1.indices"][1], top_k(want / np.arange(140, 0, -1), 50)))
        recent = observed.run(inputs, {"window": 20}, 50)["layers.1.indices"][1]
        best = top_k((want / np.arange(140, 0, -1))[:120], 30)
        self.assertTrue(np.array_equal(recent, np.append(best, np.arange(120, 140))))
        windowed = observed.run(inputs, {"normalize": False, "window": 20}, 50)["layers.1.indices"][1]
        self.assertTrue(np.array_equal(windowed, np.append(top_k(want[:120], 30), np.arange(120, 140))))

    def test_plain_sums_with_half_the_budget_as_window_are_the_real_drop_prompt_set(self):
        inputs = problem(steps=0)
        one = observed.run(inputs, {"normalize": False, "window": 25}, 50)
        self.assertTrue(np.array_equal(one["layers.0.indices"], oracle_h2o.run(inputs, {}, 50)["layers.0.indices"]))

    def test_short_prompts_and_small_budgets(self):
        inputs = problem()
        self.assertTrue(np.array_equal(observed.run(inputs, {}, 140)["layers.0.step.out"],
                                       oracle_dense.run(inputs, {})["layers.0.step.out"]))
        rows = observed.run(problem(steps=0), {"window": 20}, 15)["layers.0.indices"]
        self.assertEqual(rows[0].tolist(), list(range(125, 140)))


if __name__ == "__main__":
    unittest.main()
