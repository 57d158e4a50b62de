# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of ThinK, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dense
import oracle_snapkv
import oracle_think as think
from oracle_support import RowCache, attend, layers_of
from small_inputs import problem


class Think(unittest.TestCase):
    def test_ratio_zero_is_dense(self):
        inputs = problem()
        got, dense = think.run(inputs, {"ratio": 0.0}), oracle_dense.run(inputs, {})
        for name in ("k", "v", "step.out", "out"):
            self.assertTrue(np.array_equal(got[f"layers.1.{name}"], dense[f"layers.1.{name}"]))

    def test_zeroed_and_removed_channels_give_equal_logits(self):
        layer = layers_of(problem())[0]
        cache = RowCache(layer)
        masks = think.prune(layer, cache, think.DEFAULTS)
        self.assertEqual(masks.sum(axis=1).tolist(), [32 - 12, 32 - 12])
        query = layer.step_q[3, 0]
        removed = layer.k[1][:-32][:, masks[1]] @ query[masks[1]]
        np.testing.assert_allclose(cache.k[1][:-32] @ query, removed, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(cache.k[1][-32:] @ query, layer.k[1][-32:] @ query, rtol=0)   # recent: exact

    def test_scores_order_channels_as_their_part_of_the_logits_does(self):
        rng = np.random.default_rng(5)
        queries, keys = rng.standard_normal((1, 7, 12)), rng.standard_normal((20, 12)) * rng.exponential(size=12)
        part = [np.linalg.norm(np.outer(queries[0, :, d], keys[:, d])) ** 2 for d in range(12)]
        scores = think.channel_scores(queries, keys)
        np.testing.assert_allclose(scores * 7 * 20, part, rtol=1e-12)
        self.assertTrue(np.array_equal(np.argsort(scores), np.argsort(part)))

    def test_ties_stay_at_the_lowest_channel_and_the_count_is_truncated(self):
        self.assertEqual(think.kept_channels(np.ones(8), 0.4).tolist(), [0, 1, 2, 3, 4])
        self.assertEqual(think.kept_channels(np.arange(5.0), 0.5).tolist(), [2, 3, 4])

    def test_the_group_shares_its_channels(self):
        rng = np.random.default_rng(6)
        queries, keys = rng.standard_normal((4, 9, 16)), rng.standard_normal((30, 16))
        alone = np.mean([think.channel_scores(q[None], keys) for q in queries], axis=0)
        np.testing.assert_allclose(think.channel_scores(queries, keys), alone, rtol=1e-12)

    def test_values_positions_and_later_keys_are_untouched(self):
        inputs = problem()
        got, dense = think.run(inputs, {}), oracle_dense.run(inputs, {})
        for name in ("v", "pos", "indices"):
            self.assertTrue(np.array_equal(got[f"layers.2.{name}"], dense[f"layers.2.{name}"]))
        self.assertTrue(np.array_equal(got["layers.2.k"][:, 108:], dense["layers.2.k"][:, 108:]))
        self.assertEqual((got["layers.2.k"][:, :108] == 0).all(axis=1).sum(axis=1).tolist(), [12, 12])
        out = attend(inputs["layers.2.queries"][0, 1], got["layers.2.k"][0], got["layers.2.v"][0])[0]
        np.testing.assert_allclose(got["layers.2.out"][0, 1], out, rtol=1e-4, atol=1e-5)

    def test_after_snapkv_the_kept_keys_are_scored(self):
        inputs = problem()
        got, plain = think.run(inputs, {}, 90), oracle_snapkv.run(inputs, {}, 90)
        self.assertTrue(np.array_equal(got["layers.0.indices"], plain["layers.0.indices"]))
        layer = layers_of(inputs)[0]
        scores = think.channel_scores(layer.q[:2, -32:], plain["layers.0.k"][0][:90])
        dropped = np.flatnonzero((got["layers.0.k"][0, :58] == 0).all(axis=0))
        self.assertEqual(dropped.tolist(), sorted(np.argsort(scores)[:12].tolist()))

    def test_missing_query_rows_are_refused(self):
        for inputs in (problem(query_rows=31), problem(query_rows=0)):
            with self.assertRaises(ValueError):
                think.run(inputs, {})
        think.run(problem(query_rows=20, tokens=20, steps=0), {})

    def test_short_prompts(self):
        inputs = problem(tokens=32)
        self.assertTrue(np.array_equal(think.run(inputs, {})["layers.0.k"], oracle_dense.run(inputs, {})["layers.0.k"]))


if __name__ == "__main__":
    unittest.main()
