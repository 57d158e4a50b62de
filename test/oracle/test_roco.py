# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of RoCo promises, asserted of its oracle."""
import math
import unittest

import numpy as np

import oracle_dense
import oracle_roco
from oracle_support import attend, layers_of, prompt_probabilities
from test_oracles import heads, problem


class Decoding(unittest.TestCase):
    def test_length_never_exceeds_prompt_and_budget_and_the_prompt_stays(self):
        inputs = problem(tokens=30, group=2, steps=40)
        for budget in (1, 4, 12, 30, 40):
            for rows in heads(oracle_roco.run(inputs, {}, budget), "indices"):
                self.assertEqual(len(rows), 30 + budget)
                self.assertEqual(rows[:30].tolist(), list(range(30)))

    def test_the_newest_ten_survive_when_r_is_at_least_nine(self):
        inputs = problem(tokens=20, group=4, steps=50)
        self.assertEqual(math.floor(0.3 * 30), 9)
        for rows in heads(oracle_roco.run(inputs, {}, 30), "indices"):
            self.assertEqual(rows[-10:].tolist(), list(range(60, 70)))
            self.assertNotEqual(rows[20:].tolist(), list(range(40, 70)))

    def test_equals_a_replay_of_full_histories(self):
        inputs = problem(tokens=15, group=4, steps=30, dim=16)
        layer, budget = layers_of(inputs)[1], 12
        result = oracle_roco.run(inputs, {"protect": 3}, budget)
        for head in range(2):
            held, history = [], {}
            for step in range(30):
                held.append(step)
                keys = np.vstack([layer.k[head], layer.step_k[head, held]])
                rows = [attend(layer.step_q[h, step], keys, keys)[1] for h in range(head * 4, head * 4 + 4)]
                for token, p in zip(held, np.mean(rows, axis=0)[15:]):
                    history.setdefault(token, []).append(p)
                if len(held) > budget:
                    spread = {t: np.std(history[t]) for t in held[:-3]}
                    spread.update({t: np.inf for t in held[-3:]})
                    feasible = sorted(held, key=lambda t: spread[t])[:budget - 3]
                    held.remove(min(feasible, key=lambda t: np.mean(history[t])))
            self.assertEqual(result["layers.1.indices"][head, 15:].tolist(), [15 + t for t in held])

    def test_the_victim_has_the_least_mean_of_the_feasible(self):
        mean, deviation = np.array([0.3, 0.1, 0.2, 0.4]), np.array([0.1, 0.9, 0.2, 0.3])
        self.assertEqual(oracle_roco.victims(mean, deviation, 4, 1).tolist(), [1])
        self.assertEqual(oracle_roco.victims(mean, deviation, 3, 1).tolist(), [2])
        self.assertEqual(oracle_roco.victims(mean, deviation, 3, 2).tolist(), [0, 2])
        self.assertEqual(oracle_roco.victims(mean, deviation, 1, 1).tolist(), [0])

    def test_spread_is_the_standard_deviation_of_the_rows_that_saw_it(self):
        rng = np.random.default_rng(5)
        rows, spread = rng.random((7, 4)), oracle_roco.Spread(4)
        visible = np.arange(7)[:, None] >= np.array([0, 2, 5, 6])
        spread.add(np.where(visible, rows, 0.0), visible)
        np.testing.assert_allclose(spread.mean(), [rows[seen, j].mean() for j, seen in enumerate(visible.T)])
        np.testing.assert_allclose(spread.deviation(), [rows[seen, j].std() for j, seen in enumerate(visible.T)],
                                   atol=1e-8)

    def test_b_less_r_entries_are_feasible(self):
        mean, deviation = 1.0 - 0.05 * np.arange(10), 0.01 * np.arange(1, 11)
        spread = oracle_roco.Spread(10)
        spread.add(np.array([mean + deviation, mean - deviation]), np.ones((2, 10), bool))
        settings = {"recent_ratio": 0.3, "protect": 0}
        self.assertEqual(oracle_roco.decode_victim(spread, 9, settings).tolist(), [6])
        self.assertEqual(oracle_roco.decode_victim(spread, 9, {**settings, "recent_ratio": 0.0}).tolist(), [8])
        self.assertEqual(oracle_roco.decode_victim(spread, 9, {"recent_ratio": 0.0, "protect": 6}).tolist(), [8])
        self.assertEqual(oracle_roco.decode_victim(spread, 9, {"recent_ratio": 0.6, "protect": 6}).tolist(), [3])

    def test_without_r_and_protection_the_least_mean_goes(self):
        # B of the B + 1 entries are feasible: all but the one of largest deviation.
        settings = {"recent_ratio": 0.0, "protect": 0}
        rng = np.random.default_rng(3)
        for _ in range(50):
            spread = oracle_roco.Spread(9)
            rows = rng.dirichlet(np.full(9, 0.3), 20)
            spread.add(rows, np.ones(rows.shape, bool))
            others = np.delete(np.arange(9), spread.deviation().argmax())
            victim = oracle_roco.decode_victim(spread, 8, settings)
            self.assertEqual(victim.tolist(), [others[spread.mean()[others].argmin()]])

    def test_squares_are_of_the_group_mean(self):
        inputs = problem(tokens=15, group=2, steps=1)
        layer = layers_of(inputs)[0]
        cache, spreads = oracle_roco.RowCache(layer), [oracle_roco.Spread() for _ in range(2)]
        oracle_roco.decode(cache, spreads, 15, 9, dict(oracle_roco.DEFAULTS))
        for spread in spreads:
            np.testing.assert_allclose(spread.squares, spread.total ** 2, rtol=1e-12)
            self.assertEqual(spread.deviation()[0], 0.0)


class Encoding(unittest.TestCase):
    def test_target_length(self):
        self.assertEqual(oracle_roco.encoding_target(100, 40, 8), 36)
        self.assertEqual(oracle_roco.encoding_target(100, 48, 8), 44)
        self.assertEqual(oracle_roco.encoding_target(100, 40, 1), 40)
        self.assertEqual(oracle_roco.encoding_target(20, 40, 8), 20)
        with self.assertRaises(ValueError):
            oracle_roco.encoding_target(7, 3, 8)

    def test_length_sinks_and_newest(self):
        inputs = problem(tokens=150, group=2, steps=3)
        cases = ((1, 40, "total"), (8, 60, "total"), (3, 50, "ratio"), (1, 110, "total"), (8, 120, "total"),
                 (8, 110, "ratio"))
        for stride, budget, cap in cases:
            settings = {"mode": "encoding", "stride": stride, "cap": cap}
            most = budget + (stride if cap == "ratio" else 0)
            want = max(i for i in range(1, most + 1) if (150 - i) % stride == 0)
            for rows in heads(oracle_roco.run(inputs, settings, budget), "indices"):
                self.assertEqual(len(rows), want + 3)
                self.assertEqual(rows[-3:].tolist(), [150, 151, 152])
                if most >= 100:  # r >= 10: the feasible set is full without entries of sd = inf
                    self.assertEqual(rows[:4].tolist(), [0, 1, 2, 3])
                    self.assertTrue(set(range(140, 150)) <= set(rows.tolist()))

    def test_statistics_of_a_block(self):
        layer = layers_of(problem(tokens=40, group=2, steps=0))[0]
        settings = {**oracle_roco.DEFAULTS, "stride": 4}
        kept, spread = oracle_roco.encode(layer, 1, 40, settings)
        self.assertEqual(kept.tolist(), list(range(40)))
        self.assertEqual(spread.seen.tolist(), [4] * 37 + [3, 2, 1])
        self.assertAlmostEqual(spread.total.sum(), 4.0)
        _, spread = oracle_roco.encode(layer, 1, 40, {**settings, "keep_attention": True})
        self.assertEqual(spread.seen.tolist(), list(range(40, 0, -1)))
        self.assertAlmostEqual(spread.total.sum(), 40.0)

    def test_rows_are_means_over_the_group(self):
        layer = layers_of(problem(tokens=30, group=4, steps=0))[0]
        rows, seen = oracle_roco.group_rows(layer, 1, np.arange(30), np.arange(30))
        np.testing.assert_allclose(rows, prompt_probabilities(layer, 30)[4:].mean(axis=0), atol=1e-15)
        self.assertTrue(np.array_equal(seen, np.tri(30, dtype=bool)))

    def test_first_eviction_by_hand(self):
        changed = 0
        for layer in layers_of(problem(tokens=34, group=2, steps=0, layers=8, seed=2)):
            rows = prompt_probabilities(layer, 34)[:2].mean(axis=0)
            mean = rows.sum(axis=0) / np.arange(34, 0, -1)
            spread = np.sqrt((rows ** 2).sum(axis=0) / np.arange(34, 0, -1) - mean ** 2)
            for ratio in (0.1, 0.51, 0.72, 0.77, 0.8, 0.83):
                settings = {**oracle_roco.DEFAULTS, "stride": 2, "protect": 5, "encode_ratio": ratio,
                            "keep_attention": True}
                kept, _ = oracle_roco.encode(layer, 0, 32, settings)
                feasible = sorted(range(4, 29), key=lambda j: spread[j])[:32 - int(ratio * 32) - 4]
                gone = sorted(feasible, key=lambda j: mean[j])[:2]
                self.assertEqual(kept.tolist(), [j for j in range(34) if j not in gone])
                changed += gone != sorted(range(4, 29), key=lambda j: mean[j])[:2]
        self.assertGreater(changed, 2)

    def test_a_prompt_that_fits_is_kept(self):
        inputs = problem(tokens=30, group=2, steps=4)
        dense = oracle_dense.run(inputs, {})
        for mode in ("encoding", "auto", "decoding"):
            got = oracle_roco.run(inputs, {"mode": mode, "stride": 8}, 34)
            self.assertTrue(np.array_equal(got["layers.0.step.out"], dense["layers.0.step.out"]), mode)


class Auto(unittest.TestCase):
    def test_total_stays_within_the_budget(self):
        inputs = problem(tokens=40, group=2, steps=30)
        for budget in (1, 20, 40, 50, 70):
            result = oracle_roco.run(inputs, {"mode": "auto"}, budget)
            for rows in heads(result, "indices"):
                self.assertEqual(len(rows), budget)

    def test_prompt_entries_compete_only_where_the_prompt_did_not_fit(self):
        inputs = problem(tokens=40, group=2, steps=60)
        for rows in heads(oracle_roco.run(inputs, {"mode": "auto"}, 60), "indices"):
            self.assertEqual(rows[:40].tolist(), list(range(40)))
        read = oracle_roco.run(inputs, {"mode": "encoding"}, 30)["layers.0.indices"][:, :30]
        final = heads(oracle_roco.run(inputs, {"mode": "auto"}, 30), "indices")
        for head in range(2):
            self.assertLess(len(set(final[head]) & set(read[head])), 30)


if __name__ == "__main__":
    unittest.main()
