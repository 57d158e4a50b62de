# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of RazorAttention promises, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dense
import oracle_razorattention as oracle
from compare import relative_l2
from oracle_support import EXACT, layers_of
from test_oracles import heads, problem

SMALL = {"sinks": 3, "local": 12}


class Razor(unittest.TestCase):
    def test_equal_dropped_rows_give_full_attention(self):
        inputs = problem(tokens=60, group=2, steps=20)
        for name in ("k", "v"):
            whole = np.concatenate([inputs[f"layers.0.{name}"], inputs[f"layers.0.step.{name}"]], axis=1)
            whole[:, 3:68] = whole[:, 3:4]
            inputs[f"layers.0.{name}"], inputs[f"layers.0.step.{name}"] = whole[:, :60], whole[:, 60:]
        dense, got = oracle_dense.run(inputs, {}), oracle.run(inputs, SMALL)
        for name in ("step.out", "out", "lse"):
            self.assertLess(relative_l2(got[f"layers.0.{name}"], dense[f"layers.0.{name}"]), 1e-6)
        plain = oracle.run(inputs, {**SMALL, "weighted": False})
        self.assertGreater(relative_l2(plain["layers.0.out"], dense["layers.0.out"]), 1e-2)

    def test_running_mean_equals_batch_mean(self):
        inputs = problem(tokens=60, group=2, steps=20)
        layer = layers_of(inputs)[1]
        for settings, local in ((SMALL, 12), ({**SMALL, "local": 2, "share": 4, "buffer": "length"}, 20)):
            result = oracle.run(inputs, settings)
            for head in range(2):
                whole = np.vstack([layer.k[head], layer.step_k[head]])
                np.testing.assert_allclose(result["layers.1.k"][head, 3], whole[3:80 - local].mean(axis=0), rtol=1e-5,
                                           atol=1e-6)
                self.assertEqual(result["layers.1.counts"][head, 3], 80 - local - 3)

    def test_entries_per_short_head(self):
        for steps, tokens in ((0, 60), (7, 60), (7, 15), (20, 10)):
            rows = heads(oracle.run(problem(tokens=tokens, steps=steps), SMALL), "indices")[0]
            self.assertEqual(rows.tolist(), list(range(3)) + [3] + list(range(tokens + steps - 12, tokens + steps)))

    def test_nothing_is_merged_up_to_sinks_and_buffer(self):
        inputs = problem(tokens=10, group=2, steps=5)
        dense, got = oracle_dense.run(inputs, {}), oracle.run(inputs, SMALL)
        self.assertEqual(got["layers.0.indices"][0].tolist(), list(range(15)))
        np.testing.assert_allclose(got["layers.0.step.out"], dense["layers.0.step.out"], rtol=1e-6, atol=1e-7)
        self.assertEqual(len(oracle.run(problem(tokens=16, steps=0), SMALL)["layers.0.indices"][0]), 16)

    def test_retrieval_heads_are_dense(self):
        inputs = problem(tokens=60, group=2, steps=9)
        dense = oracle_dense.run(inputs, {})
        got = oracle.run(inputs, SMALL, retrieval=[[False, True], [True, False]])
        for layer, full, queries in ((0, 1, slice(2, 4)), (1, 0, slice(0, 2))):
            self.assertEqual([len(r) for r in heads(got, "indices", layer)], [69 if h == full else 16 for h in (0, 1)])
            self.assertTrue(np.array_equal(heads(got, "k", layer)[full], dense[f"layers.{layer}.k"][full]))
            np.testing.assert_allclose(got[f"layers.{layer}.step.out"][queries],
                                       dense[f"layers.{layer}.step.out"][queries], rtol=1e-6, atol=1e-7)

    def test_the_formula_of_the_compensated_output(self):
        inputs = problem(tokens=40, group=1, steps=1, dim=16)
        layer = layers_of(inputs)[0]
        keys, values, query = layer.k[0], layer.v[0], layer.step_q[0, 0] / 4.0
        kept = np.r_[0:3, 28:40]
        k_mean, v_mean = keys[3:28].mean(axis=0), values[3:28].mean(axis=0)
        near = np.exp(np.append(keys[kept] @ query, layer.step_k[0, 0] @ query))
        far = 25 * np.exp(k_mean @ query)
        want = (near @ np.vstack([values[kept], layer.step_v[0, :1]]) + far * v_mean) / (near.sum() + far)
        np.testing.assert_allclose(oracle.run(inputs, SMALL)["layers.0.step.out"][0, 0], want, rtol=1e-5, atol=1e-6)

    def test_buffer_follows_prompt_or_length(self):
        p = {**oracle.DEFAULTS, "local": 5}
        self.assertEqual([oracle.buffer_length(n, p) for n in (20, 25, 30, 101)], [5, 5, 6, 20])
        inputs = problem(tokens=100, steps=29)
        results = [oracle.run(inputs, {"local": 5, "buffer": buffer}) for buffer in ("prompt", "length")]
        counts = [len(result["layers.0.indices"][0]) for result in results]
        self.assertEqual(counts, [4 + 20 + 1, 4 + 25 + 1])

    def test_only_the_compensation_entry_is_inexact(self):
        result = oracle.run(problem(tokens=60, steps=2), SMALL, retrieval=[[False, True], [True, True]])
        short, full = result[EXACT][0, "k"]
        self.assertEqual(np.flatnonzero(~short).tolist(), [3])
        self.assertTrue(full.all())
        self.assertEqual(result["layers.0.counts.0"].tolist(), [1] * 3 + [62 - 15] + [1] * 12)

    def test_published_code_appends(self):
        settings = {"local": 16, "share": 0, "weighted": False, "absorb": False}
        rows = oracle.run(problem(tokens=90, steps=8), settings)["layers.0.indices"][0]
        self.assertEqual(rows.tolist(), [0, 1, 2, 3, 4] + list(range(74, 98)))


class Probe(unittest.TestCase):
    def test_rows_after_the_first_copy_and_every_earlier_copy_count(self):
        period, count = 3, 10
        rows = np.zeros((2, count, count))
        rows[0, 9, 6], rows[0, 9, 3], rows[0, 9, 7] = 0.5, 0.25, 0.125
        rows[1, 5, 3], rows[1, 2, 1], rows[1, 7, 0], rows[1, 4, 2] = 0.5, 1.0, 1.0, 0.25
        echo, induction = oracle.echo_and_induction(rows, period)
        np.testing.assert_allclose(echo * 6, [0.75, 0.0])
        np.testing.assert_allclose(induction * 6, [0.125, 0.75])

    def test_best_of_a_group_and_the_union(self):
        echo = np.zeros((10, 4))
        induction = np.zeros((10, 4))
        echo[7, 1] = 0.9
        induction[[0, 3, 5], [3, 0, 2]] = 0.9, 0.8, 0.7
        got = oracle.retrieval_heads(echo, induction, 2)
        self.assertEqual(np.argwhere(got).tolist(), [[0, 1], [3, 0], [5, 1], [7, 0]])


if __name__ == "__main__":
    unittest.main()
