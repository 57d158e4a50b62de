# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of CORM promises, asserted of its oracle."""
import unittest

import numpy as np

import oracle_corm
import oracle_dense
from oracle_support import by_group, layers_of, prompt_probabilities, recorded_gaps
from test_oracles import heads, problem
from uniform_level import RatioHistory, prompt_ratios, robust


def run(inputs, budget=None, **params):
    return oracle_corm.run(inputs, params, budget)


class Corm(unittest.TestCase):
    def test_an_entry_stays_exactly_if_a_recent_row_reached_the_level(self):
        inputs = problem(tokens=80, group=4, steps=0)
        rows = by_group(prompt_probabilities(layers_of(inputs)[0], 3), 2)
        level = 1.0 / np.arange(78, 81)
        voted = (rows >= level[:, None]).any(axis=(1, 2))
        for head, kept in enumerate(heads(run(inputs, window=3, recent=5), "indices")):
            want = set(np.flatnonzero(voted[head])) | set(range(75, 80))
            self.assertEqual(set(kept.tolist()), want)
            self.assertTrue(5 < len(kept) < 80)

    def test_window_of_one_keeps_the_last_rows_keys_and_the_newest(self):
        inputs = problem(tokens=60, group=1, steps=0)
        row = prompt_probabilities(layers_of(inputs)[1], 1)[:, 0]
        for head, kept in enumerate(heads(run(inputs, window=1, recent=3), "indices", layer=1)):
            self.assertEqual(set(kept.tolist()), set(np.flatnonzero(row[head] >= 1 / 60)) | {57, 58, 59})

    def test_a_larger_window_keeps_a_superset(self):
        inputs = problem(tokens=120, group=2, steps=0)
        small, large = (heads(run(inputs, window=w, recent=4), "indices") for w in (3, 9))
        for few, many in zip(small, large):
            self.assertTrue(set(few.tolist()) < set(many.tolist()))

    def test_nothing_leaves_before_w_queries_exist(self):
        inputs = problem(tokens=30, group=2, steps=9)
        dense = oracle_dense.run(inputs, {})
        same = run(inputs, window=40, recent=1)
        self.assertTrue(np.array_equal(same["layers.0.step.out"], dense["layers.0.step.out"]))
        for rows in heads(run(inputs, window=39, recent=1), "indices"):
            self.assertLess(len(rows), 39)

    def test_decode_by_replay_of_the_bits(self):
        inputs = problem(tokens=40, group=2, steps=25, dim=16)
        layer = layers_of(inputs)[0]
        result, window = heads(run(inputs, window=10, recent=4), "indices"), 10
        for head in range(2):
            keys = np.vstack([layer.k[head], layer.step_k[head]])
            held, last = list(range(40)), {j: -99 for j in range(40)}
            for token in range(40 - window, 65):
                if token >= 40:
                    held, last[token] = held + [token], -99
                seen = [j for j in held if j <= token]
                for h in (2 * head, 2 * head + 1):
                    query = layer.step_q[h, token - 40] if token >= 40 else layer.q[h, token]
                    weights = np.exp(keys[seen] @ query / 4.0)
                    for j, weight in zip(seen, weights):
                        last[j] = token if weight / weights.sum() >= 1 / (token + 1) else last[j]
                if token >= 39:
                    held = [j for j in held if token - last[j] < window or j in held[-4:]]
            self.assertEqual(result[head].tolist(), held)

    def test_cached_level_is_stricter(self):
        history = RatioHistory(np.array([[0.5, 0.9, 1.2]]), 3)
        self.assertEqual(history.hits().tolist(), [0, 0, 1])
        inputs = problem(tokens=60, group=1, steps=20)
        by_length, by_count = (heads(run(inputs, window=6, recent=2, level=k), "indices") for k in ("length", "cached"))
        self.assertLess(sum(map(len, by_count)), sum(map(len, by_length)))

    def test_cap_keeps_the_newest_and_the_most_voted(self):
        hits = np.array([2, 0, 5, 1, 5, 0, 0])
        self.assertEqual(oracle_corm.kept_entries(hits, 2).tolist(), [0, 2, 3, 4, 5, 6])
        self.assertEqual(oracle_corm.kept_entries(hits, 2, 6).tolist(), [0, 2, 3, 4, 5, 6])
        self.assertEqual(oracle_corm.kept_entries(hits, 2, 4).tolist(), [2, 4, 5, 6])
        self.assertEqual(oracle_corm.kept_entries(hits, 2, 3).tolist(), [2, 5, 6])
        self.assertEqual(oracle_corm.kept_entries(hits, 2, 1).tolist(), [6])
        hits[5:] = 9
        self.assertEqual(oracle_corm.kept_entries(hits, 2, 4).tolist(), [2, 4, 5, 6])
        self.assertEqual(oracle_corm.kept_entries(np.zeros(3, int), 5).tolist(), [0, 1, 2])

    def test_cap_bounds_every_length(self):
        for rows in heads(run(problem(tokens=90, group=4, steps=20), 30, window=16, recent=8), "indices"):
            self.assertEqual(len(rows), 30)
            self.assertEqual(rows[-8:].tolist(), list(range(102, 110)))

    def test_the_kept_set_is_never_empty(self):
        for rows in heads(run(problem(tokens=50, group=1, steps=8), window=1, recent=0), "indices"):
            self.assertGreater(len(rows), 0)


class Level(unittest.TestCase):
    def test_ratios_of_a_prompt(self):
        rows = np.array([[[0.5, 0.5, 0.0], [0.2, 0.2, 0.6]]])
        got = prompt_ratios(rows, 3)
        np.testing.assert_allclose(got[0, 0, :2], [1.0, 1.0])
        self.assertTrue(np.isnan(got[0, 0, 2]))
        np.testing.assert_allclose(got[0, 1], [0.6, 0.6, 1.8])

    def test_counts_of_rows(self):
        history = RatioHistory(np.array([[7.0, 7.0, 7.0], [1.0, 0.9, 0.2], [1.5, 1.1, np.nan]]), 2)
        self.assertEqual(history.hits().tolist(), [2, 1, 0])
        self.assertEqual(history.misses().tolist(), [0, 1, 1])
        history.push(np.array([0.5, 0.5, 2.0, 3.0]))
        self.assertEqual(history.hits().tolist(), [1, 1, 1, 1])
        self.assertEqual(history.misses().tolist(), [1, 1, 0, 0])

    def test_a_ratio_next_to_the_level_counts_as_fragile_only_if_it_decides(self):
        for ratios, want in (([[1.0 + 5e-6, 0.1]], [0.0]), ([[1.0, 0.1]], []), ([[1.0 + 5e-6, 0.1], [2.0, 0.1]], [])):
            history = RatioHistory(np.array(ratios), 2)
            with recorded_gaps() as gaps:
                robust(lambda level: np.flatnonzero(history.hits(level)))
                self.assertEqual(gaps, want)


if __name__ == "__main__":
    unittest.main()
