# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of Scissorhands promises, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dense
import oracle_scissorhands
from oracle_support import layers_of
from test_oracles import heads, problem


def lengths(inputs, params, budget):
    """Entries held after 0, 1, 2 .. steps (layer 0, head 0)."""
    found = []
    for steps in range(inputs["layers.0.step.k"].shape[1] + 1):
        cut = {name: values[:, :steps] if ".step." in name else values for name, values in inputs.items()}
        if steps == 0:
            cut = {name: values for name, values in cut.items() if ".step." not in name}
        found.append(len(heads(oracle_scissorhands.run(cut, params, budget), "indices")[0]))
    return found


class Scissorhands(unittest.TestCase):
    def test_length_after_a_compression(self):
        inputs = problem(tokens=40, group=2, steps=30)
        held = lengths(inputs, {}, 20)
        self.assertEqual(held[:3], [20, 11, 12])
        self.assertTrue(all(11 <= n <= 20 for n in held))
        self.assertEqual(held[10:12], [20, 11])
        self.assertEqual(lengths(inputs, {"prompt": "repeat"}, 21)[0], 20)
        self.assertEqual(lengths(inputs, {"prompt": "repeat", "drop": 0.9}, 21)[0], 4)

    def test_drop_of_one_evicts_one_per_step(self):
        self.assertEqual(set(lengths(problem(tokens=40, group=2, steps=12), {"drop": 0.0}, 20)), {20})

    def test_the_newest_survive(self):
        for budget in (12, 21, 30):
            result = oracle_scissorhands.run(problem(tokens=60, group=4, steps=25), {}, budget)
            for rows in heads(result, "indices"):
                self.assertTrue(set(range(80, 85)) <= set(rows.tolist()))
        result = oracle_scissorhands.run(problem(tokens=60, group=4, steps=0), {}, 25)
        for rows in heads(result, "indices"):
            self.assertEqual(rows[-10:].tolist(), list(range(50, 60)))

    def test_never_below_average_survives_before_any_other(self):
        misses = np.array([3, 0, 2, 0, 5, 1, 0, 9, 9])
        self.assertEqual(oracle_scissorhands.kept_entries(misses, 2, 4).tolist(), [1, 3, 6, 7, 8])
        self.assertEqual(oracle_scissorhands.kept_entries(misses, 2, 2).tolist(), [1, 2, 3, 5, 6, 7, 8])

    def test_the_oldest_of_equals_goes_first(self):
        self.assertEqual(oracle_scissorhands.kept_entries(np.array([4, 2, 4, 4, 1]), 1, 2).tolist(), [1, 3, 4])
        self.assertEqual(oracle_scissorhands.kept_entries(np.zeros(5, int), 1, 2).tolist(), [2, 3, 4])

    def test_decode_by_replay_of_whole_rows(self):
        inputs = problem(tokens=25, group=2, steps=30, dim=16)
        layer, window, budget, recent = layers_of(inputs)[1], 12, 16, 3
        result = heads(oracle_scissorhands.run(inputs, {"window": window, "recent": recent}, budget), "indices", 1)
        for head in range(2):
            keys = np.vstack([layer.k[head], layer.step_k[head]])
            held, low = list(range(25)), {j: [] for j in range(55)}
            for token in range(25 - window, 55):
                held = held + [token] if token >= 25 else held
                seen = [j for j in held if j <= token]
                rows = []
                for h in (2 * head, 2 * head + 1):
                    query = layer.step_q[h, token - 25] if token >= 25 else layer.q[h, token]
                    weights = np.exp(keys[seen] @ query / 4.0)
                    rows.append(weights / weights.sum())
                for j, p in zip(seen, np.mean(rows, axis=0)):
                    low[j] += [token] if p < 1 / len(seen) else []
                count = max(0, len(held) - budget) if token == 24 else 8 if len(held) > budget and token > 24 else 0
                misses = {j: sum(t > token - window for t in low[j]) for j in held}
                misses.update({j: 0 for j in held[-recent:]})
                for j in sorted(held, key=lambda j: -misses[j])[:count]:
                    held.remove(j)
            self.assertEqual(result[head].tolist(), held)

    def test_budget_of_all_rows_is_dense(self):
        inputs = problem(tokens=30, group=2, steps=5)
        dense, same = oracle_dense.run(inputs, {}), oracle_scissorhands.run(inputs, {}, 35)
        self.assertTrue(np.array_equal(same["layers.0.step.out"], dense["layers.0.step.out"]))


if __name__ == "__main__":
    unittest.main()
