# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of both forms of Finch, asserted of their oracles."""
import unittest

import numpy as np

import oracle_dense
import oracle_finch as finch
import oracle_finch_chunks as chunks
from compare import relative_l2
from oracle_support import attend, layers_of, rope, top_k
from small_inputs import first_steps, problem

P = {"question": 12}


class OnePass(unittest.TestCase):
    def setUp(self):
        self.inputs = problem(pre_rope=True)

    def test_kept_keys_are_pre_rope_keys_at_positions_zero_to_b(self):
        result = finch.run(first_steps(self.inputs, 0), P, 50)
        for head in range(2):
            rows = result["layers.1.indices"][head]
            self.assertEqual(rows[-12:].tolist(), list(range(128, 140)))
            self.assertEqual(result["layers.1.pos"][head].tolist(), list(range(50)))
            want = rope(self.inputs["layers.1.k_pre"][head, rows].astype(float), np.arange(50),
                        self.inputs["rope_inv_freq"].astype(float))
            np.testing.assert_allclose(result["layers.1.k"][head], want, atol=2e-5)

    def test_half_precision_keys_are_within_a_thousandth(self):
        inputs = problem(pre_rope=True, dtype="F16", steps=0)
        result = finch.run(inputs, P, 50)
        want = rope(inputs["layers.0.k_pre"][0, result["layers.0.indices"][0]].astype(float), np.arange(50),
                    inputs["rope_inv_freq"].astype(float))
        self.assertLess(relative_l2(result["layers.0.k"][0], want), 1e-3)

    def test_scores_by_loops(self):
        layer = layers_of(self.inputs)[0]
        for counts, extra in (("visible", 1), ("shifted", 0), ("none", None)):
            want = np.zeros(128)
            for head in (2, 3):
                for i in range(128, 140):
                    row = attend(layer.q[head, i], layer.k[1][:i + 1], layer.v[1][:i + 1])[1][:128]
                    want += row * (1 if extra is None else i + extra) / 24
            np.testing.assert_allclose(finch.context_scores(layer, 12, counts)[1], want, rtol=1e-9)

    def test_later_tokens_stand_right_after_the_kept_ones(self):
        result = finch.run(self.inputs, P, 50)
        self.assertEqual(result["layers.0.pos"][0].tolist(), list(range(56)))
        freq = self.inputs["rope_inv_freq"].astype(float)
        keys, values = result["layers.0.k"][1][:52].astype(float), result["layers.0.v"][1][:52]
        query = rope(self.inputs["layers.0.step.q"][3, 1:2].astype(float), [51 - 141], freq)[0]
        np.testing.assert_allclose(result["layers.0.step.out"][3, 1], attend(query, keys, values)[0], rtol=1e-4,
                                   atol=1e-5)

    def test_without_rotation_it_is_a_plain_selection(self):
        moved, plain = finch.run(self.inputs, P, 50), finch.run(self.inputs, {**P, "rerotate": False}, 50)
        self.assertTrue(np.array_equal(moved["layers.2.indices"], plain["layers.2.indices"]))
        rows = plain["layers.2.indices"][1, :50]
        self.assertTrue(np.array_equal(plain["layers.2.k"][1, :50], self.inputs["layers.2.k"][1, rows]))

    def test_a_budget_of_all_rows_is_dense(self):
        got, dense = finch.run(self.inputs, P, 140), oracle_dense.run(self.inputs, {})
        self.assertTrue(np.array_equal(got["layers.0.step.out"], dense["layers.0.step.out"]))

    def test_chunks_of_the_sequence_have_their_own_share(self):
        rows = finch.run(problem(steps=0), {"question": 10, "chunk": 30}, 70)["layers.0.indices"]
        counts = np.bincount(rows[0] // 30, minlength=5)
        self.assertEqual(counts.tolist(), [15, 15, 15, 15, 10])
        self.assertTrue(np.isin(np.arange(130, 140), rows[0]).all())


class Toy:
    """Two layers of random rows before RoPE; a chunk's rows do not depend on the cache."""

    def __init__(self, context, question):
        rng = np.random.default_rng(10)
        self.freq = 10000.0 ** (-np.arange(4) / 4.0)
        self.k, self.v = rng.standard_normal((2, 2, 2, context, 8))
        self.q = rng.standard_normal((2, 4, question, 8))
        self.qk = rng.standard_normal((2, 2, question, 8))
        self.calls = []

    def read(self, first, last, start, caches):
        self.calls.append((first, last, start, [k.shape[1] for k, _ in caches]))
        places = start + np.arange(last - first)
        ask = places[-1] + 1 + np.arange(self.q.shape[2])
        return [(rope(self.k[i][:, first:last], places, self.freq), self.v[i][:, first:last],
                 rope(self.q[i], ask, self.freq), rope(self.qk[i], ask, self.freq)) for i in range(2)]

    def compress(self, target, chunk, **options):
        context, question = self.k.shape[2], self.q.shape[2]
        return chunks.compress(self.read, (2, 2, 8), context, question, target, chunk, self.freq, **options)


class InChunks(unittest.TestCase):
    def test_length_positions_and_rotation(self):
        for target, chunk in ((27, 16), (15, 20), (27, 7)):
            toy = Toy(83, 5)
            factor = chunks.compression_factor(83, 5, target)
            sizes = [min(chunk, 83 - first) for first in range(0, 83, chunk)]
            length = sum(size // factor for size in sizes)
            for index, (k, v, rows) in enumerate(toy.compress(target, chunk)):
                self.assertEqual((k.shape[1], len(rows)), (length, length))
                self.assertLessEqual(length, target - 5)
                self.assertTrue((np.diff(rows) > 0).all())
                np.testing.assert_allclose(k, rope(toy.k[index][:, rows], np.arange(length), toy.freq), atol=1e-9)
                self.assertTrue(np.array_equal(v, toy.v[index][:, rows]))
            grown = np.cumsum([0] + [size // factor for size in sizes])
            self.assertEqual([call[2] for call in toy.calls], grown[:-1].tolist())

    def test_factor_one_is_the_plain_prefill_of_the_context(self):
        toy = Toy(40, 5)
        self.assertEqual(chunks.compression_factor(40, 5, 45), None)
        self.assertEqual([chunks.compression_factor(40, 5, n) for n in (44, 25, 24, 6)], [2, 2, 3, 40])
        for result in (toy.compress(45, 16), chunks.compress(toy.read, (2, 2, 8), 40, 0, 40, 16, toy.freq)):
            for index, (k, v, rows) in enumerate(result):
                self.assertEqual(rows.tolist(), list(range(40)))
                np.testing.assert_allclose(k, rope(toy.k[index], np.arange(40), toy.freq), atol=1e-12)
        fresh = toy.read(0, 16, 0, [(np.zeros((2, 0, 8)),) * 2] * 2)[0]
        kept, (k, _) = chunks.compress_layer((np.zeros((2, 0, 8)),) * 2, fresh, 16, toy.freq)
        self.assertEqual(kept.tolist(), list(range(16)))
        self.assertTrue(np.array_equal(k, fresh[0]))

    def test_old_survivors_compete_with_the_new_chunk(self):
        toy = Toy(80, 5)
        half = chunks.compress(toy.read, (2, 2, 8), 80, 5, 25, 40, toy.freq)
        first = toy.read(0, 40, 0, [(np.zeros((2, 0, 8)),) * 2] * 2)[0]
        early = chunks.compress_layer((np.zeros((2, 0, 8)),) * 2, first, 10, toy.freq)[0]
        late = half[0][2]
        self.assertEqual(len(late), 20)
        self.assertLess(len(np.intersect1d(early, late)), 10)

    def test_a_short_last_chunk_swaps_entries_only(self):
        toy = Toy(66, 5)   # cf = 4: chunks of 32, 32 and 2 leave 8, 16 and 16
        result = toy.compress(22, 32)
        self.assertEqual([len(rows) for _, _, rows in result], [16, 16])

    def test_scores_and_weights_by_loops(self):
        toy = Toy(12, 3)
        keys, _, queries, ask = toy.read(0, 12, 0, [(np.zeros((2, 0, 8)),) * 2] * 2)[1]
        for weights in ("visible", "none"):
            want = np.zeros(12)
            for head in range(4):
                for i in range(3):
                    seen = np.vstack([keys[head // 2], ask[head // 2][:i + 1]])
                    c = (12 + i + 1) / 15 if weights == "visible" else 1.0
                    want += c * attend(queries[head, i], seen, seen)[1][:12]
            got = chunks.question_scores(queries, keys, ask, weights)
            np.testing.assert_allclose(got, want, rtol=1e-12)
            self.assertTrue(np.array_equal(top_k(got, 5), np.sort(np.argsort(-want)[:5])))

    def test_a_target_within_the_question_is_refused(self):
        with self.assertRaises(ValueError):
            chunks.compression_factor(100, 30, 30)


if __name__ == "__main__":
    unittest.main()
