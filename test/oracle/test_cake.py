# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of CAKE, asserted of its oracle."""
import unittest

import numpy as np

import oracle_cake as cake
import oracle_dense
import oracle_snapkv
from oracle_support import attend, layers_of, top_k
from prompt_cut import window_rows
from small_inputs import first_steps, problem


P = {"window": 12}


class Cake(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(3)

    def test_budgets_sum_to_the_total_unless_every_layer_is_full(self):
        for _ in range(200):
            layers, cap = int(self.rng.integers(1, 9)), int(self.rng.integers(5, 60))
            total = int(self.rng.integers(0, layers * cap + 1))
            budgets = cake.layer_budgets(self.rng.exponential(size=layers) ** 3, total, cap)
            self.assertEqual(sum(budgets), total)
            self.assertLessEqual(sum(min(b, cap) for b in budgets), total)
        self.assertEqual(cake.layer_budgets([1.0, 2.0, 3.0], 61, 1000), [11, 20, 30])
        self.assertEqual(cake.layer_budgets([10.0, 1.0, 1.0], 60, 30), [30, 15, 15])

    def test_cascade_keeps_what_one_final_cut_keeps(self):
        inputs = problem(layers=5, steps=0, heads=1)
        rows = [window_rows(layer, 12) for layer in layers_of(inputs)]
        wanted = [cake.preference(r, 1, 1) for r in rows]
        cascade = cake.held_after_prompt(wanted, 5 * 20, 128, True)
        final = cake.held_after_prompt(wanted, 5 * 20, 128, False)
        self.assertLessEqual(sum(cascade), sum(final))
        self.assertLessEqual(max(abs(a - b) for a, b in zip(cascade, final)), 1)   # one entry of rounding
        whole = [1.0, 1.0, 2.0, 4.0, 8.0]                    # every share of 128 is an integer: nothing is rounded
        self.assertEqual(cake.held_after_prompt(whole, 128, 500, True), [8, 8, 16, 32, 64])
        self.assertEqual(cake.held_after_prompt(whole, 128, 500, False), [8, 8, 16, 32, 64])
        s = cake.entry_scores(rows[2], 1, 200, 5, "avg")[0]
        first = top_k(s, 60)
        self.assertTrue(np.array_equal(first[top_k(s[first], final[2])], top_k(s, final[2])))

    def test_total_after_the_prompt(self):
        for cascade in (True, False):
            result = cake.run(problem(steps=0), {**P, "cascade": cascade}, 40)
            lengths = [result[f"layers.{i}.indices"].shape[1] for i in range(3)]
            self.assertLessEqual(sum(lengths), 3 * 40)
            self.assertGreaterEqual(sum(lengths), 3 * 40 - (3 if cascade else 0))
            self.assertGreater(len(set(lengths)), 1)
            for i in range(3):
                self.assertTrue((result[f"layers.{i}.indices"][:, -12:] == np.arange(128, 140)).all())

    def test_what_a_full_layer_cannot_hold_goes_to_the_others(self):
        params = {"window": 8, "cascade": False, "tau2": 0.2}
        result = cake.run(problem(steps=0, tokens=60), params, 50)
        lengths = [result[f"layers.{i}.indices"].shape[1] for i in range(3)]
        self.assertEqual((max(lengths), sum(lengths)), (60, 150))

    def test_gamma_zero_is_snapkv(self):
        layer = layers_of(problem())[1]
        got = cake.entry_scores(window_rows(layer, 12), 2, 0.0, 5, "avg")
        np.testing.assert_allclose(got * 12, oracle_snapkv.prefix_scores(layer, 12, 5, "avg"), rtol=1e-12)

    def test_entry_scores_by_loops(self):
        rows = self.rng.dirichlet(np.ones(9), (4, 5))[:, :, :6]
        want = np.zeros((2, 6))
        for head in range(4):
            spread = [rows[head, :, j].mean() + 3.0 * np.var(rows[head, :, j], ddof=1) for j in range(6)]
            for j in range(6):
                want[head // 2, j] += sum(spread[max(0, j - 1):j + 2]) / 3 / 2
        np.testing.assert_allclose(cake.entry_scores(rows, 2, 3.0, 3, "avg"), want, rtol=1e-12)

    def test_decode_stays_at_the_layer_length_and_keeps_recent_entries(self):
        inputs = problem()
        before = cake.run(first_steps(inputs, 0), P, 40)
        for count in (1, 6):
            after = cake.run(first_steps(inputs, count), P, 40)
            for i in range(3):
                rows = after[f"layers.{i}.indices"]
                self.assertEqual(rows.shape, before[f"layers.{i}.indices"].shape)
                self.assertTrue((rows[:, -12:] == np.arange(128 + count, 140 + count)).all())

    def test_the_first_step_reads_the_uncut_cache_and_drops_one_entry_of_each_head(self):
        inputs = problem()
        before, after = cake.run(first_steps(inputs, 0), P, 40), cake.run(first_steps(inputs, 1), P, 40)
        for head in range(2):
            rows = before["layers.1.indices"][head]
            keys, values = (np.vstack([inputs[f"layers.1.{n}"][head, rows], inputs[f"layers.1.step.{n}"][head, :1]])
                            for n in "kv")
            out, probabilities, _ = attend(inputs["layers.1.step.q"][2 * head, 0], keys, values)
            np.testing.assert_allclose(after["layers.1.step.out"][2 * head, 0], out, rtol=1e-4, atol=1e-5)
            other = attend(inputs["layers.1.step.q"][2 * head + 1, 0], keys, values)[1]
            mean = (probabilities + other)[:-12] / 2
            pooled = np.convolve(mean, np.ones(5) / 5, "same")
            gone = np.setdiff1d(rows, after["layers.1.indices"][head])
            self.assertEqual(gone.tolist(), [rows[pooled.argmin()]])

    def test_preference_by_loops(self):
        rows = self.rng.dirichlet(np.ones(9), (2, 4))[:, :, :6]
        entropy = -sum(x * np.log(x + 1e-10) for x in rows.reshape(-1))
        variance = sum(np.var(rows[h, :, j], ddof=1) for h in range(2) for j in range(6))
        self.assertAlmostEqual(cake.preference(rows, 1.6, 0.4), entropy ** (1 / 1.6) * variance ** 2.5, places=12)

    def test_short_prompts(self):
        inputs = problem(steps=3)
        self.assertTrue(np.array_equal(cake.run(inputs, P, 143)["layers.2.step.out"],
                                       oracle_dense.run(inputs, {})["layers.2.step.out"]))
        for budget, held in ((128, 3 * 140), (127, 3 * 127)):    # T > B + w: 140 > 127 + 12
            waiting = cake.run(problem(steps=0), {**P, "wait_for_window": True, "cascade": False}, budget)
            self.assertEqual(sum(waiting[f"layers.{i}.indices"].shape[1] for i in range(3)), held)
        self.assertEqual(cake.run(problem(steps=4), P, 9)["layers.0.indices"][0].tolist(), list(range(135, 144)))


if __name__ == "__main__":
    unittest.main()
