# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of Quest, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dense
import oracle_quest as quest
from oracle_support import attend, layers_of, top_k
from small_inputs import problem

EVERY_LAYER = {"dense_layers": []}


class Quest(unittest.TestCase):
    def setUp(self):
        self.inputs = problem()
        self.layer = layers_of(self.inputs)[1]

    def test_a_page_score_bounds_every_logit_of_the_page(self):
        for page in (1, 3, 16):
            low, high = quest.page_bounds(self.layer.k[0], page)
            self.assertEqual(len(low), -(-140 // page))
            for query in self.layer.step_q[0]:
                logits, scores = self.layer.k[0] @ query, quest.page_scores(query, low, high)
                best = [logits[start:start + page].max() for start in range(0, 140, page)]
                self.assertTrue((scores >= np.array(best) - 1e-9).all())
                if page == 1:
                    np.testing.assert_allclose(scores, logits, rtol=1e-9, atol=1e-9)

    def test_the_last_page_has_bounds_of_its_real_entries(self):
        low, high = quest.page_bounds(np.arange(10.0)[:, None] + 5, 4)
        self.assertEqual((low[:, 0].tolist(), high[:, 0].tolist()), ([5, 9, 13], [8, 12, 14]))

    def test_a_budget_of_all_pages_is_dense(self):
        got, dense = quest.run(self.inputs, EVERY_LAYER, 160), oracle_dense.run(self.inputs, {})
        for name in ("k", "indices", "step.out", "out", "lse"):
            self.assertTrue(np.array_equal(got[f"layers.1.{name}"], dense[f"layers.1.{name}"]), name)

    def test_nothing_is_evicted_and_dense_layers_read_everything(self):
        got, dense = quest.run(self.inputs, {}, 32), oracle_dense.run(self.inputs, {})
        for index in range(3):
            self.assertTrue(np.array_equal(got[f"layers.{index}.k"], dense[f"layers.{index}.k"]))
            same = np.array_equal(got[f"layers.{index}.step.out"], dense[f"layers.{index}.step.out"])
            self.assertEqual(same, index < 2)

    def test_pages_of_one_are_the_largest_logits(self):
        p = {**quest.DEFAULTS, "page": 1, "group": "none", "select": "best"}
        queries = self.layer.step_q[:, 0]
        for head, rows in enumerate(quest.read_sets(queries, list(self.layer.k), 30, p)):
            self.assertTrue(np.array_equal(rows, top_k(self.layer.k[head // 2] @ queries[head], 30)))

    def test_dropped_pages_have_bounds_of_at_most_the_smallest_chosen(self):
        scores = np.random.default_rng(7).standard_normal(12)
        for select, count in (("newest", 4), ("best", 4)):
            pages = quest.chosen_pages(scores, 64, 16, select)
            self.assertEqual(len(pages), count)
            chosen = pages[:-1] if select == "newest" else pages
            others = np.setdiff1d(np.arange(11 if select == "newest" else 12), chosen)
            self.assertLessEqual(scores[others].max(), scores[chosen].min())
        self.assertEqual(quest.chosen_pages(scores, 64, 16, "newest")[-1], 11)
        self.assertEqual(quest.chosen_pages(scores, 5, 16, "newest").tolist(), [11])
        self.assertEqual(len(quest.chosen_pages(scores, 5, 16, "best")), 3)

    def test_the_group_shares_its_pages(self):
        queries, keys = self.layer.step_q[:, 0], list(self.layer.k)
        for kind in ("max", "sum"):
            reads = quest.read_sets(queries, keys, 48, {**quest.DEFAULTS, "group": kind})
            self.assertTrue(np.array_equal(reads[0], reads[1]) and np.array_equal(reads[2], reads[3]))
            low, high = quest.page_bounds(keys[0], 16)
            both = np.array([quest.page_scores(q, low, high) for q in queries[:2]])
            want = quest.chosen_pages(both.max(axis=0) if kind == "max" else both.sum(axis=0), 48, 16, "newest")
            self.assertEqual(sorted(set(reads[0] // 16)), want.tolist())

    def test_a_step_reads_only_its_pages(self):
        got = quest.run(self.inputs, EVERY_LAYER, 48)
        keys, values = (np.vstack([self.inputs[f"layers.1.{n}"][0], self.inputs[f"layers.1.step.{n}"][0, :3]])
                        for n in "kv")
        queries = self.inputs["layers.1.step.q"][:, 2]
        rows = quest.read_sets(queries[:2], [keys], 48, quest.DEFAULTS)[0]
        self.assertEqual(len(rows), 16 + 16 + 15)   # the last page holds entries 128 to 142
        out = attend(queries[0], keys[rows], values[rows])[0]
        np.testing.assert_allclose(got["layers.1.step.out"][0, 2], out, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    unittest.main()
