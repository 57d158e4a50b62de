# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the oracles share is checked against scalar code: attention, pooling, top-k, quantizers, files."""
import math
import os
import tempfile
import unittest

import numpy as np

from cases import Case, make_inputs
from oracle_support import (f16, hadamard, layers_of, pool, prompt_probabilities, resolve_budget, rope, softmax_rows,
                            to_act, top_k, uqa, zero_point)
from safetensors_io import METADATA, read_safetensors, write_safetensors


def problem(**fields):
    """Inputs of a small case."""
    return make_inputs(Case("test", **fields))


class Support(unittest.TestCase):
    def test_top_k_ties_go_to_the_lowest_index_and_stay_ascending(self):
        scores = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])
        self.assertEqual(top_k(scores, 3).tolist(), [1, 2, 3])
        self.assertEqual(top_k(scores, 9).tolist(), list(range(6)))
        self.assertEqual(top_k(scores, 0).tolist(), [])

    def test_ratio_truncates_in_float64(self):
        self.assertEqual(resolve_budget("0.9", 10, is_ratio=True), 0)
        self.assertEqual(resolve_budget("0.25", 203), 50)
        self.assertEqual(resolve_budget("512", 10), 512)

    def test_masked_row_is_zero(self):
        rows = softmax_rows(np.zeros((2, 3)), np.array([[False] * 3, [True, True, False]]))
        self.assertEqual(rows.tolist(), [[0, 0, 0], [0.5, 0.5, 0]])

    def test_probabilities_match_scalar_code(self):
        layer = layers_of(problem(tokens=9, group=2, dim=8, steps=0))[0]
        got = prompt_probabilities(layer, 4)
        for head in range(4):
            for row in range(4):
                logits = [sum(float(a) * float(b) for a, b in zip(layer.q[head, 5 + row], layer.k[head // 2, j])) /
                          math.sqrt(8) for j in range(6 + row)]
                total = sum(math.exp(x) for x in logits)
                for j, x in enumerate(logits):
                    self.assertAlmostEqual(got[head, row, j], math.exp(x) / total, places=12)
                self.assertTrue((got[head, row, 6 + row:] == 0).all())

    def test_pooling_borders(self):
        row = np.array([[3.0, 0.0, 6.0, -1.0]])
        self.assertEqual(pool(row, "avg", 3).tolist(), [[1.0, 3.0, 5.0 / 3, 5.0 / 3]])
        self.assertEqual(pool(-row, "max", 3).tolist(), [[0.0, 0.0, 1.0, 1.0]])
        self.assertEqual(pool(row, "avg", 1).tolist(), row.tolist())

    def test_rope_composes_and_keeps_norms(self):
        rng = np.random.default_rng(1)
        x, freq = rng.standard_normal((5, 8)), 100.0 ** (-np.arange(4) / 4)
        there = rope(x, np.arange(5), freq)
        np.testing.assert_allclose(rope(there, 7 - np.arange(5), freq), rope(x, [7] * 5, freq), atol=1e-13)
        np.testing.assert_allclose(np.linalg.norm(there, axis=1), np.linalg.norm(x, axis=1))

    def test_files_round_trip(self):
        inputs = problem(tokens=5, dtype="F16", metadata={"param.x": "1"})
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.safetensors")
            write_safetensors(path, inputs)
            back = read_safetensors(path)
        self.assertEqual(back[METADATA], {"param.x": "1"})
        for name in inputs:
            if name != METADATA:
                self.assertTrue(np.array_equal(back[name], inputs[name]) and back[name].dtype == inputs[name].dtype)

    def test_bfloat16_files_and_rounding(self):
        inputs = problem(tokens=5, dtype="BF16")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.safetensors")
            write_safetensors(path, inputs)
            back = read_safetensors(path)
        self.assertTrue(np.array_equal(back["layers.0.k"], inputs["layers.0.k"]))
        self.assertEqual(layers_of(back)[0].act, "BF16")
        self.assertEqual(to_act([1.00390625, 1.01171875, -3.0], "BF16").tolist(), [1.0, 1.015625, -3.0])


class Quantizers(unittest.TestCase):
    def test_uqa_follows_the_scalar_order(self):
        rows = np.random.default_rng(2).standard_normal((20, 7)).astype(np.float32)
        for bits in (2, 3, 4, 8):
            codes, scales, lows, decoded = uqa(rows, bits)
            for row in range(20):
                top = np.float32(2 ** bits - 1)
                scale = np.float32(np.float16((rows[row].max() - rows[row].min()) / top))
                low = np.float32(np.float16(rows[row].min()))
                self.assertEqual((scales[row], lows[row]), (scale, low))
                for x, code, value in zip(rows[row], codes[row], decoded[row]):
                    want = min(max(round(float((x - low) / scale)), 0), 2 ** bits - 1)
                    self.assertEqual(code, want)
                    self.assertEqual(value, np.float32(want) * scale + low)

    def test_uqa_error_minimum_and_maximum(self):
        rows = f16(np.random.default_rng(3).standard_normal((50, 32)))
        for bits in (2, 4):
            codes, scales, lows, decoded = uqa(rows, bits)
            spread = (rows.max(axis=1) - rows.min(axis=1))[:, None]
            half = scales.astype(np.float32)[:, None] / 2
            self.assertTrue((np.abs(rows - decoded) <= half + spread * 2.0 ** -10).all())
            least = rows.argmin(axis=1)
            self.assertTrue((decoded[np.arange(50), least] == rows.min(axis=1)).all())
            most = rows.argmax(axis=1)
            error = np.abs(decoded[np.arange(50), most] - rows.max(axis=1))
            self.assertTrue((error <= spread[:, 0] * 2.0 ** -10).all())

    def test_constant_group_has_code_zero(self):
        codes, scales, _, decoded = uqa(np.full((1, 8), 1.5), 2)
        self.assertEqual((codes.max(), scales[0]), (0, 0))
        self.assertTrue((decoded == 1.5).all())

    def test_zero_point_represents_zero_and_bounds_the_error(self):
        rows = np.random.default_rng(4).standard_normal((40, 16)).astype(np.float32) + 2
        codes, scales, zeros, decoded, *_ = zero_point(rows, 4, 1.0)
        self.assertTrue(((zeros >= 0) & (zeros <= 15)).all())
        bound = scales.astype(np.float32)[:, None] * 0.5 + np.abs(rows).max(axis=1, keepdims=True) * 2.0 ** -10
        self.assertTrue((np.abs(rows - decoded) <= bound + scales.astype(np.float32)[:, None] * 0.5).all())
        self.assertTrue((zero_point(np.zeros((1, 4)), 4, 1.0)[3] == 0).all())

    def test_hadamard_is_its_own_inverse_and_spreads(self):
        for dim in (1, 2, 64):
            matrix = hadamard(dim)
            np.testing.assert_allclose(matrix @ matrix, np.eye(dim), atol=1e-12)
        x = np.random.default_rng(5).standard_normal(64)
        self.assertLessEqual(np.abs(hadamard(64) @ x).max(), np.linalg.norm(x))
        spike = np.zeros(64)
        spike[3] = 8.0
        np.testing.assert_allclose(np.abs(hadamard(64) @ spike), 1.0)


if __name__ == "__main__":
    unittest.main()
