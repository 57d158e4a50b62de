# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of span-fair eviction and whitelists, asserted of their oracle."""
import unittest

import numpy as np

import oracle_fair as fair
import oracle_knorm
import oracle_snapkv
import oracle_streaming_llm
import oracle_tova
from oracle_support import attend, layers_of, pool, top_k
from small_inputs import problem

TABLES = ([], [50], [1], [139], [30, 77], [10, 11, 100])


class Fair(unittest.TestCase):
    def setUp(self):
        self.inputs = problem(steps=0, layers=2)
        self.layer = layers_of(self.inputs)[0]

    def rows(self, budget=60, **params):
        return fair.run(self.inputs, params, budget)["layers.0.indices"]

    def test_counts_per_span(self):
        for base in fair.SCORERS:
            for starts in TABLES:
                for budget in (5, 60, 139):
                    rows = self.rows(budget, base=base, spans=starts)
                    self.assertEqual(rows.shape, (2, budget))
                    for start, end in fair.span_table(starts, 140):
                        inside = ((rows >= start) & (rows < end)).sum(axis=1)
                        self.assertTrue((np.abs(inside - budget * (end - start) / 140) < 1).all())
        self.assertEqual(fair.shares([(0, 50), (50, 140)], 60), [21, 39])   # floor(60 * 50 / 140), the rest

    def test_one_span_is_the_plain_method(self):
        snapkv = oracle_snapkv.run(self.inputs, {"window": 16}, 60)["layers.0.indices"]
        self.assertTrue(np.array_equal(self.rows(window=16), snapkv))
        for base, plain in (("knorm", oracle_knorm), ("streaming-llm", oracle_streaming_llm), ("tova", oracle_tova)):
            self.assertTrue(np.array_equal(self.rows(base=base), plain.run(self.inputs, {}, 60)["layers.0.indices"]))
        mean = np.zeros(140)
        for i in range(140):
            for head in (0, 1):
                mean[:i + 1] += attend(self.layer.q[head, i], self.layer.k[0, :i + 1], self.layer.v[0, :i + 1])[1] / 2
        want = top_k(mean / np.arange(140, 0, -1), 60)
        self.assertTrue(np.array_equal(self.rows(base="h2o")[0], want))

    def test_whitelisted_rows_are_in_every_set(self):
        listed = [3, 4, 70, 71, 139]
        for base in fair.SCORERS:
            for starts in ([], [50]):
                rows = self.rows(base=base, spans=starts, whitelist=listed)
                self.assertEqual(rows.shape, (2, 60))
                self.assertTrue(all(np.isin(listed, head).all() for head in rows))
        plain, listed = self.rows(base="knorm")[0], [3, 4, 70]
        with_list = self.rows(base="knorm", whitelist=listed)[0]
        scores = oracle_knorm.norm_scores(self.layer.k)[0]
        others = np.setdiff1d(np.arange(140), listed)
        self.assertEqual(set(with_list), set(listed) | set(others[top_k(scores[others], 57)]))
        self.assertFalse(np.array_equal(plain, with_list))

    def test_bad_lists_and_spans_are_refused(self):
        for params in ({"whitelist": list(range(61))}, {"whitelist": [140]}, {"whitelist": [-1]}, {"spans": [0]},
                       {"spans": [50, 50]}, {"spans": [140]}, {"spans": [20], "whitelist": list(range(12))}):
            with self.assertRaises(ValueError):
                self.rows(base="knorm", **params)

    def test_streaming_keeps_sinks_and_the_newest_of_each_span(self):
        rows = self.rows(20, base="streaming-llm", spans=[70])[0]
        self.assertEqual(rows.tolist(), [0, 1, 2, 3] + list(range(64, 70)) + list(range(130, 140)))

    def test_snapkv_votes_inside_each_span(self):
        self.assertEqual(fair.voting_rows([(0, 50), (50, 140)], 16), [8, 8])
        self.assertEqual(fair.voting_rows([(0, 3), (3, 140)], 16), [3, 13])
        self.assertEqual(fair.voting_rows([(0, 40), (40, 80), (80, 140)], 16), [5, 5, 6])
        p = {**fair.DEFAULTS, "window": 16}
        scores = fair.snapkv_scores(self.layer, [(0, 50), (50, 140)], p)[1]
        for start, end in ((0, 50), (50, 140)):
            votes = np.zeros(end - start - 8)
            for head in (2, 3):
                rows = [attend(self.layer.q[head, i], self.layer.k[1, :i + 1], self.layer.v[1, :i + 1])[1]
                        for i in range(end - 8, end)]
                votes += pool(np.mean([row[start:end - 8] for row in rows], axis=0), "avg", 5) / 2
            np.testing.assert_allclose(scores[start:end - 8], votes, rtol=1e-9)
            np.testing.assert_allclose(scores[end - 8:end], votes.max(), rtol=1e-9)

    def test_tova_has_an_anchor_per_span_and_one_set(self):
        scores = fair.tova_scores(self.layer, [(0, 50), (50, 140)], {})
        self.assertTrue(np.array_equal(scores[0], scores[1]))
        anchor = np.mean([attend(self.layer.q[h, 49], self.layer.k[h // 2, :50], self.layer.v[h // 2, :50])[1]
                          for h in range(4)], axis=0)
        np.testing.assert_allclose(scores[0, :49], anchor[:49], rtol=1e-9)
        self.assertEqual(scores[0, 49], scores[0, :49].max())

    def test_rows_of_later_spans_do_not_count(self):
        changed = {**self.inputs, "layers.0.q": self.inputs["layers.0.q"].copy()}
        changed["layers.0.q"][:, 50:] *= -1
        for base in ("h2o", "tova", "snapkv"):
            params = {"base": base, "spans": [50], "window": 16}
            one, other = (fair.run(i, params, 60)["layers.0.indices"] for i in (self.inputs, changed))
            self.assertTrue(np.array_equal(one[:, :21], other[:, :21]))
            self.assertFalse(np.array_equal(one, other))


if __name__ == "__main__":
    unittest.main()
