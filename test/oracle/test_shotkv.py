# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of ShotKV, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dense
import oracle_shotkv as shotkv
from oracle_support import attend, layers_of
from small_inputs import first_steps, problem

SHOTS = [10, 30, 30, 45, 50, 90, 95, 120]
P = {"shots": SHOTS, "window": 8}


class ShotKv(unittest.TestCase):
    def test_shots_are_whole_and_the_rest_stays(self):
        inputs, outside = problem(steps=0), np.r_[0:10, 45:50, 90:95, 120:140]
        sizes = set()
        for budget in (40, 54, 55, 60, 80, 100, 120, 139):
            rows = shotkv.run(inputs, P, budget)["layers.0.indices"]
            self.assertLessEqual(rows.shape[1], budget)
            self.assertTrue(np.isin(outside, rows[0]).all())
            for start, end in shotkv.shot_table(SHOTS, 140):
                self.assertIn(np.isin(np.arange(start, end), rows[0]).mean(), (0, 1))
            for layer in range(3):
                same = shotkv.run(inputs, P, budget)[f"layers.{layer}.indices"]
                self.assertTrue((same == rows[0]).all())
            sizes.add(rows.shape[1])
        self.assertGreater(len(sizes), 4)

    def test_a_shot_that_does_not_fit_is_skipped(self):
        self.assertEqual(shotkv.kept_shots([5.0, 9.0, 7.0, 1.0], [10, 30, 50, 5], 45), [0, 1, 3])
        self.assertEqual(shotkv.kept_shots([2.0, 2.0, 2.0], [10, 10, 10], 20), [0, 1])
        self.assertEqual(shotkv.kept_shots([1.0], [10], 9), [])

    def test_score_is_the_mean_attention_over_all_layers_and_heads(self):
        layers = layers_of(problem(steps=0))
        want = np.zeros(140)
        for layer in layers:
            for head in range(4):
                for i in range(132, 140):
                    keys = layer.k[head // 2, :i + 1]
                    want[:i + 1] += attend(layer.q[head, i], keys, keys)[1]
        np.testing.assert_allclose(shotkv.received(layers, 8), want, rtol=1e-9)
        chosen = shotkv.prompt_set(want, shotkv.shot_table(SHOTS, 140), 80)
        means = {s: want[s[0]:s[1]].mean() for s in shotkv.shot_table(SHOTS, 140)}
        fits = [s for s in sorted(means, key=means.get, reverse=True) if s[1] - s[0] <= 40]
        self.assertTrue(np.isin(np.arange(*fits[0]), chosen).all())

    def test_prompt_entries_never_change_in_decode(self):
        inputs = problem(steps=12)
        before, after = shotkv.run(first_steps(inputs, 0), P, 80), shotkv.run(inputs, P, 80)
        count = before["layers.1.k"].shape[1]
        for name in ("k", "v", "pos"):
            self.assertTrue(np.array_equal(after[f"layers.1.{name}"][:, :count], before[f"layers.1.{name}"]))

    def test_generated_entries_have_their_own_share(self):
        inputs = problem(steps=12)
        count = shotkv.run(first_steps(inputs, 0), P, 80)["layers.1.k"].shape[1]
        for steps in (1, 2, 5, 12):
            rows = shotkv.run(first_steps(inputs, steps), P, 80)["layers.1.indices"]
            self.assertEqual(rows.shape[1] - count, max(1, int(0.4 * steps)))
            self.assertTrue((rows == rows[0]).all())
        whole = shotkv.run(inputs, {**P, "decode_ratio": 1.0}, 80)["layers.1.indices"]
        self.assertEqual(whole[0, count:].tolist(), list(range(140, 152)))

    def test_the_step_chooses_by_its_own_attention(self):
        inputs = problem(steps=2)
        rows = shotkv.run(inputs, P, 80)["layers.1.indices"][0]
        mass, layer = np.zeros(2), layers_of(inputs)[1]
        prompt = shotkv.run(first_steps(inputs, 0), P, 80)["layers.1.indices"][0]
        for head in range(4):
            keys = np.vstack([layer.k[head // 2][prompt], layer.step_k[head // 2]])
            mass += attend(layer.step_q[head, 1], keys, keys)[1][-2:]
        self.assertEqual(rows[-1], 140 + int(mass.argmax()))

    def test_all_rows_and_nothing_to_drop(self):
        inputs = problem()
        got = shotkv.run(inputs, {**P, "decode_ratio": 1.0}, 140)
        self.assertTrue(np.array_equal(got["layers.0.step.out"],
                                       oracle_dense.run(inputs, {})["layers.0.step.out"]))
        self.assertEqual(shotkv.run(problem(steps=0), {}, 20)["layers.0.indices"].shape[1], 140)
        for shots in ([5], [10, 5], [0, 10, 5, 20], [130, 141]):
            with self.assertRaises(ValueError):
                shotkv.run(problem(steps=0), {"shots": shots}, 20)


if __name__ == "__main__":
    unittest.main()
