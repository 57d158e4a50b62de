# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of Lookahead Q-Cache, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dense
import oracle_laq as laq
import oracle_snapkv
from oracle_support import attend, layers_of, pool, top_k
from small_inputs import first_steps, problem


def with_drafts(**fields):
    """A small case whose decode queries are the draft's; no steps are left."""
    inputs = problem(**fields)
    for index in range(len(layers_of(inputs))):
        inputs[f"layers.{index}.rollout.q"] = inputs[f"layers.{index}.step.q"]
    return first_steps(inputs, 0)


class Laq(unittest.TestCase):
    def test_no_draft_and_a_window_is_snapkv(self):
        inputs, snapkv = with_drafts(), {"window": 20, "kernel": 7, "pooling": "max"}
        want = oracle_snapkv.run(inputs, snapkv, 60)
        for mask in ("exact", "triangle"):
            got = laq.run(inputs, {"lookahead": 0, "window": 20, "mask": mask}, 60)
            for name in ("indices", "scores"):
                self.assertTrue(np.array_equal(got[f"layers.1.{name}"], want[f"layers.1.{name}"]))

    def test_kept_count_and_recent_rows(self):
        for budget in (1, 8, 9, 60, 140, 150):
            rows = laq.run(with_drafts(), {}, budget)["layers.0.indices"]
            self.assertEqual(rows.shape[1], min(140, budget))
            newest = min(8, budget)
            self.assertTrue((rows[:, -newest:] == np.arange(140 - newest, 140)).all())

    def test_scores_by_loops(self):
        inputs = with_drafts()
        layer, want = layers_of(inputs)[2], np.zeros(132)
        for head in (0, 1):
            votes = np.zeros(140)
            for i in range(132, 140):
                votes[:i + 1] += attend(layer.q[head, i], layer.k[0, :i + 1], layer.v[0, :i + 1])[1]
            for i in range(6):
                votes += attend(inputs["layers.2.rollout.q"][head, i].astype(float), layer.k[0], layer.v[0])[1]
            want += pool(votes[:132], "max", 7) / 2
        got = laq.run(inputs, {}, 60)
        np.testing.assert_allclose(got["layers.2.scores"][0, :132], want, rtol=1e-6)
        self.assertTrue(np.array_equal(got["layers.2.indices"][0], np.append(top_k(want, 52), np.arange(132, 140))))

    def test_without_a_window_the_draft_alone_decides_and_nothing_is_protected(self):
        inputs = with_drafts()
        got = laq.run(inputs, {"window": 0}, 60)
        self.assertEqual(got["layers.0.scores"].shape, (2, 140))
        self.assertTrue(np.isfinite(got["layers.0.scores"]).all())
        changed = {**inputs, "layers.0.q": inputs["layers.0.q"][:, ::-1]}
        self.assertTrue(np.array_equal(laq.run(changed, {"window": 0}, 60)["layers.0.indices"],
                                       got["layers.0.indices"]))

    def test_masks(self):
        exact, triangle = (laq.visible(10, 2, 3, mask) for mask in ("exact", "triangle"))
        self.assertEqual(exact.sum(axis=1).tolist(), [9, 10, 10, 10, 10])
        self.assertEqual(triangle.sum(axis=1).tolist(), [6, 7, 8, 9, 10])
        self.assertFalse(np.array_equal(laq.run(with_drafts(), {}, 60)["layers.0.scores"],
                                        laq.run(with_drafts(), {"mask": "triangle"}, 60)["layers.0.scores"]))

    def test_the_draft_leaves_no_entry_and_the_temporary_cache_none_either(self):
        inputs = problem()
        inputs.update({f"layers.{i}.rollout.q": inputs[f"layers.{i}.step.q"] for i in range(3)})
        result = laq.run(inputs, {}, 60)
        self.assertEqual(result["layers.0.indices"][0, -6:].tolist(), list(range(140, 146)))
        self.assertEqual(result["layers.0.indices"].shape[1], 66)
        layer = layers_of(inputs)[0]
        stage = laq.lookahead_cache(layer, laq.DEFAULTS, 60)
        want = oracle_snapkv.run(inputs, {"window": 32, "kernel": 7, "pooling": "max"}, 60)
        self.assertTrue(np.array_equal(stage[1], want["layers.0.indices"][1, :60]))
        self.assertFalse(np.array_equal(stage[1], result["layers.0.indices"][1, :60]))

    def test_rollout_starts_from_the_prompts_token_and_stops_early(self):
        def forward(token, step):
            return token + 1, (token, step)

        queries, tokens = laq.rollout(7, forward, 4)
        self.assertEqual((queries, tokens), ([(7, 0), (8, 1), (9, 2), (10, 3)], [7, 8, 9, 10]))
        self.assertEqual(laq.rollout(7, forward, 8, end=9)[1], [7, 8])
        self.assertEqual(laq.rollout(7, forward, 8, end=7), ([], []))

    def test_lookahead_limits_the_rows(self):
        inputs = with_drafts()
        fewer = {name: v[:, :3] if "rollout" in name else v for name, v in inputs.items()}
        self.assertTrue(np.array_equal(laq.run(inputs, {"lookahead": 3}, 60)["layers.1.scores"],
                                       laq.run(fewer, {}, 60)["layers.1.scores"]))

    def test_missing_query_rows_are_refused(self):
        for rows, params in ((7, {}), (0, {}), (0, {"lookahead": 0}), (7, {"lookahead": 0})):
            with self.assertRaises(ValueError):
                laq.run(with_drafts(query_rows=rows), params, 60)
        laq.run(with_drafts(query_rows=8), {}, 60)
        laq.run(with_drafts(query_rows=0), {"window": 0}, 60)

    def test_a_budget_of_all_rows_is_dense(self):
        inputs = problem()
        self.assertTrue(np.array_equal(laq.run(inputs, {}, 140)["layers.1.step.out"],
                                       oracle_dense.run(inputs, {})["layers.1.step.out"]))


if __name__ == "__main__":
    unittest.main()
