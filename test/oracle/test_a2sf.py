# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of A2SF promises, asserted of its oracle."""
import unittest

import numpy as np

import oracle_a2sf
import oracle_h2o
from oracle_support import attend, by_group, layers_of, prompt_probabilities
from test_oracles import heads, problem


class A2sf(unittest.TestCase):
    def test_recurrence_equals_the_closed_form(self):
        layer = layers_of(problem(tokens=30, group=2, steps=0))[0]
        rows = prompt_probabilities(layer, 30)
        for alpha in (0.0, 0.2, 0.95, 1.0):
            sums = np.zeros((4, 30))
            for i in range(30):
                sums = alpha * sums + rows[:, i]
            np.testing.assert_allclose(oracle_a2sf.prompt_sums(rows, alpha), sums, rtol=1e-10, atol=1e-18)

    def test_sums_have_the_mass_of_the_geometric_series(self):
        rows = prompt_probabilities(layers_of(problem(tokens=40, group=4, steps=0))[1], 40)
        for alpha in (0.2, 0.9):
            mass = (1 - alpha ** 40) / (1 - alpha)
            np.testing.assert_allclose(oracle_a2sf.prompt_sums(rows, alpha).sum(axis=-1), mass, rtol=1e-12)

    def test_without_forgetting_it_is_h2o(self):
        for budget in (8, 21):
            inputs = problem(tokens=60, group=4, steps=20)
            got, want = oracle_a2sf.run(inputs, {"forgetting": 1.0}, budget), oracle_h2o.run(inputs, {}, budget)
            for name in ("indices", "scores", "step.out", "out"):
                np.testing.assert_allclose(got[f"layers.1.{name}"], want[f"layers.1.{name}"], rtol=1e-6)

    def test_full_forgetting_sees_the_last_row_alone(self):
        inputs = problem(tokens=50, group=2, steps=0)
        got = oracle_a2sf.run(inputs, {"forgetting": 0.0, "recent": 0}, 20)
        last = by_group(prompt_probabilities(layers_of(inputs)[0], 1)[:, 0], 2).sum(axis=1)
        for head in range(2):
            want = np.sort(np.argsort(-last[head])[:20])
            self.assertEqual(got["layers.0.indices"][head].tolist(), want.tolist())

    def test_length_stays_and_the_newest_survive(self):
        inputs = problem(tokens=50, group=2, steps=12)
        for recent, budget in ((5, 20), (16, 20), (0, 20), (40, 20), (None, 55)):
            result = oracle_a2sf.run(inputs, {"recent": recent}, budget)
            for rows in heads(result, "indices"):
                self.assertEqual(len(rows), budget)
                newest = min(budget, budget // 2 if recent is None else recent)
                self.assertEqual(rows[budget - newest:].tolist(), list(range(62 - newest, 62)))

    def test_decode_by_replay(self):
        inputs = problem(tokens=25, group=4, steps=20, dim=16)
        layer = layers_of(inputs)[1]
        for alpha, budget, recent in ((0.6, 14, 3), (0.9, 10, 0)):
            result = oracle_a2sf.run(inputs, {"forgetting": alpha, "recent": recent}, budget)
            rows = by_group(prompt_probabilities(layer, 25), 2).sum(axis=1)
            for head in range(2):
                held, sums = list(range(25)), {j: 0.0 for j in range(25)}
                for i in range(25):
                    sums = {j: alpha * sums[j] + rows[head, i, j] for j in held}
                keys = np.vstack([layer.k[head], layer.step_k[head]])
                for token in range(24, 45):
                    if token >= 25:
                        held.append(token)
                        p = sum(attend(layer.step_q[h, token - 25], keys[held], keys[held])[1]
                                for h in range(4 * head, 4 * head + 4))
                        sums = {j: alpha * sums.get(j, 0.0) + p[place] for place, j in enumerate(held)}
                    while len(held) > budget:
                        held.remove(min(held[:len(held) - recent], key=lambda j: sums[j]))
                self.assertEqual(result["layers.1.indices"][head].tolist(), held)

    def test_decode_removes_the_least_of_all_but_the_newest(self):
        sums = np.array([3.0, 0.5, 2.0, 0.4, 0.1, 0.2])
        self.assertEqual(oracle_a2sf.heaviest_and_recent(sums, 5, 2).tolist(), [0, 1, 2, 4, 5])
        self.assertEqual(oracle_a2sf.heaviest_and_recent(sums, 5, 0).tolist(), [0, 1, 2, 3, 5])

    def test_prefill_form_leaves_decode_alone(self):
        result = oracle_a2sf.run(problem(tokens=50, group=2, steps=6), {"decode": "append", "recent": 16}, 20)
        for rows in heads(result, "indices"):
            self.assertEqual(rows[4:].tolist(), list(range(34, 56)))


if __name__ == "__main__":
    unittest.main()
