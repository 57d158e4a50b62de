# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the text of DuoAttention promises, asserted of its oracle."""
import json
import os
import unittest

import numpy as np

import oracle_dense
import oracle_duoattention as oracle
from oracle_support import layers_of, rope, softmax_rows
from safetensors_io import METADATA, read_safetensors
from test_oracles import heads, problem

GOLDENS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "goldens", "kvpress")

SMALL = {"sinks": 3, "recent": 12}
GATES = [[0.2, 0.8], [0.9, 0.1]]


class Duo(unittest.TestCase):
    def test_retrieval_heads_are_dense(self):
        inputs = problem(tokens=60, group=2, steps=9)
        dense, got = oracle_dense.run(inputs, {}), oracle.run(inputs, SMALL, gates=GATES)
        for layer, full, queries in ((0, 1, slice(2, 4)), (1, 0, slice(0, 2))):
            for name in ("k", "v", "indices"):
                self.assertTrue(np.array_equal(heads(got, name, layer)[full], dense[f"layers.{layer}.{name}"][full]))
            for name in ("step.out", "out"):
                self.assertTrue(np.array_equal(got[f"layers.{layer}.{name}"][queries],
                                               dense[f"layers.{layer}.{name}"][queries]))

    def test_streaming_heads_equal_masked_dense_attention(self):
        inputs = problem(tokens=40, group=2, steps=12)
        got = oracle.run(inputs, SMALL, gates=GATES)
        layer = layers_of(inputs)[0]
        keys, values = (np.vstack([a[0], b[0]]) for a, b in ((layer.k, layer.step_k), (layer.v, layer.step_v)))
        for step in range(12):
            seen = np.arange(52)
            # entries before this step's are the first 3 and the last 12; its own comes on top
            visible = (seen <= 40 + step) & ((seen < 3) | (seen >= 40 + step - 12))
            self.assertEqual(visible.sum(), 16)
            for head in (0, 1):
                logits = keys @ layer.step_q[head, step] / np.sqrt(layer.dim)
                want = softmax_rows(logits, visible) @ values
                np.testing.assert_allclose(got["layers.0.step.out"][head, step], want, rtol=1e-5, atol=1e-6)

    def test_heads_in_another_order_give_the_same_outputs(self):
        inputs = problem(tokens=60, group=2, steps=5)
        swapped = {name: values[::-1] if name.startswith("layers.") else values for name, values in inputs.items()}
        got = oracle.run(inputs, SMALL, gates=GATES)
        other = oracle.run(swapped, SMALL, gates=np.array(GATES)[:, ::-1])
        for name in ("layers.0.step.out", "layers.1.out"):
            self.assertTrue(np.array_equal(got[name], other[name][::-1]))

    def test_memory_is_the_share_of_full_heads(self):
        inputs = problem(tokens=60, heads=4, steps=3)
        gates = np.random.default_rng(1).random((2, 4))
        for sparsity, full in ((0.5, 4), (0.25, 6), (0.75, 2)):
            result = oracle.run(inputs, {**SMALL, "sparsity": sparsity}, gates=gates)
            held = sum(len(rows) for layer in (0, 1) for rows in heads(result, "indices", layer, 4))
            self.assertEqual(held, full * 63 + (8 - full) * 15)

    def test_nothing_is_trimmed_up_to_sinks_and_recent(self):
        inputs = problem(tokens=10, group=2, steps=5)
        dense, got = oracle_dense.run(inputs, {}), oracle.run(inputs, SMALL)
        self.assertTrue(np.array_equal(got["layers.0.step.out"], dense["layers.0.step.out"]))
        self.assertEqual(len(heads(oracle.run(problem(tokens=10, steps=6), SMALL), "indices")[0]), 15)


class Gates(unittest.TestCase):
    def test_threshold_is_a_quantile(self):
        self.assertEqual(oracle.retrieval_heads([[0.1, 0.9], [0.5, 0.7]], 0.5).tolist(), [[False, True], [False, True]])
        self.assertEqual(oracle.retrieval_heads([[0.1, 0.9], [0.5, 0.7]], 0.0).tolist(), [[True, True], [True, True]])
        self.assertEqual(oracle.retrieval_heads([[1.0, 1.0], [1.0, 0.0]], 0.5).sum(), 3)
        noise = np.array([[1e-7, 2e-7], [3e-7, 0.0]])
        self.assertEqual(oracle.retrieval_heads([[1.0, 1.0], [1.0, 0.0]], 0.5, noise).tolist(),
                         [[False, True], [True, False]])

    def test_training_free_score(self):
        inv_freq = 10000.0 ** (-np.arange(8) / 8)
        # no preference: cumulative attention is (j + 1) / n, its mean (n + 1) / (2 n)
        blank = oracle.training_free_scores(np.zeros((2, 16)), np.ones((1, 16)), inv_freq, 50)
        np.testing.assert_allclose(blank, [51 / 100])
        # a query that likes its own position attends late, one that dislikes it early
        same = np.ones((1, 16))
        late, early = (oracle.training_free_scores(sign * 3 * same, same, inv_freq)[0] for sign in (1, -1))
        self.assertLess(late, 0.5)
        self.assertGreater(early, late)
        both = oracle.training_free_scores(np.vstack([3 * same, -3 * same]), same, inv_freq)
        np.testing.assert_allclose(both, [(late + early) / 2])

    def test_recorded_runs_of_kvpress(self):
        for model in ("g1", "g4"):
            inputs = read_safetensors(os.path.join(GOLDENS, f"{model}-inputs.safetensors"))
            kept = read_safetensors(os.path.join(GOLDENS, f"{model}-kept.safetensors"))
            settings = json.loads(kept[METADATA]["case.duo"])
            gates = []
            for layer in layers_of({**inputs, METADATA: {}}):
                back = -np.arange(layer.tokens)
                means = [rope(rows, back, layer.inv_freq).mean(axis=1) for rows in (layer.q, layer.k)]
                gates.append(oracle.training_free_scores(*means, layer.inv_freq))
            np.testing.assert_allclose(gates, kept["duo.head_scores"], rtol=1e-5)
            params = {"sinks": settings["sink_size"], "recent": settings["recent_size"],
                      "sparsity": settings["head_compression_ratio"]}
            result = oracle.run({**inputs, METADATA: {}}, params, gates=gates)
            for layer in range(3):
                want = kept.get(f"duo.{layer}.kept")
                want = [kept[f"duo.{layer}.kept.{h}"] for h in range(2)] if want is None else want
                for have, rows in zip(heads(result, "indices", layer), want):
                    self.assertEqual(have.tolist(), rows.tolist())


if __name__ == "__main__":
    unittest.main()
