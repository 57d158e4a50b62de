# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of PyramidInfer, asserted of its oracle."""
import unittest

import numpy as np

import oracle_dense
import oracle_pyramidinfer as pyramidinfer
from oracle_support import attend, layers_of, top_k
from small_inputs import first_steps, problem
from token_drop import surviving

P = {"prefill_decay": 0.4, "min_context": 10}
FULL = {**pyramidinfer.DEFAULTS, **P}


class PyramidInfer(unittest.TestCase):
    def test_sets_are_nested_and_hold_sinks_and_the_recent_block(self):
        inputs = problem(layers=5, steps=0)
        result, before = pyramidinfer.run(inputs, P), np.arange(140)
        sizes = pyramidinfer.lengths(140, 5, FULL)
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertLess(sizes[4], sizes[2])
        for index in range(5):
            rows = result[f"layers.{index}.indices"]
            self.assertEqual(rows.shape[1], sizes[index])
            self.assertTrue((rows == rows[0]).all() and np.isin(rows[0], before).all())
            self.assertTrue(np.isin(np.r_[0:4, 111:140], rows[0]).all())   # R + 1 = 29
            self.assertTrue(np.array_equal(result[f"layers.{index}.pos"], rows))
            before = rows[0]

    def test_the_schedule(self):
        ratios = [pyramidinfer.schedule(i, 8, 0.4) for i in range(9)]
        self.assertEqual(ratios[0], 1.0)
        self.assertAlmostEqual(ratios[4], 0.7)
        self.assertAlmostEqual(ratios[8], 0.4)
        self.assertEqual(ratios, sorted(ratios, reverse=True))
        self.assertEqual(pyramidinfer.lengths(140, 3, FULL)[:2], [140, 140])   # g_0 = 1

    def test_rho_one_is_the_full_prefill(self):
        inputs = problem(layers=4)
        got, dense = pyramidinfer.run(inputs, {"prefill_decay": 1.0}), oracle_dense.run(inputs, {})
        for index in range(4):
            for name in ("k", "step.out", "out"):
                self.assertTrue(np.array_equal(got[f"layers.{index}.{name}"], dense[f"layers.{index}.{name}"]))

    def test_small_contexts_and_other_layers_pass_everything(self):
        self.assertEqual(pyramidinfer.passed_count(64, 3, 4, FULL, 64), 64)
        self.assertEqual(pyramidinfer.passed_count(70, 3, 4, FULL, 64), 70)     # 70 g < 64: all stay
        self.assertEqual(pyramidinfer.passed_count(200, 2, 4, {**FULL, "interval": 2}, 64), 140)
        self.assertEqual(pyramidinfer.passed_count(200, 3, 4, {**FULL, "interval": 2}, 64), 200)

    def test_choice_of_the_next_layers_tokens_by_loops(self):
        inputs = problem(layers=3, steps=0)
        layer = layers_of(inputs)[1]
        mean = np.zeros(111)
        for i in range(29):
            weight = 1.0 + 0.2 * i / 28
            for head in range(4):
                seen = 111 + i + 1
                row = attend(layer.q[head, 111 + i], layer.k[head // 2, :seen], layer.v[head // 2, :seen])[1]
                mean += weight * row[:111] / 29 / 4
        mean[:4] = np.inf
        want = np.append(top_k(mean, int(111 * pyramidinfer.schedule(1, 3, 0.4))), np.arange(111, 140))
        self.assertTrue(np.array_equal(pyramidinfer.run(inputs, P)["layers.2.indices"][0], want))

    def test_dropped_tokens_have_no_influence_below(self):
        inputs = problem(layers=3, steps=2)
        kept = pyramidinfer.run(first_steps(inputs, 0), P)["layers.2.indices"][0]
        gone = np.setdiff1d(np.arange(140), kept)
        changed = {**inputs, "layers.2.k": inputs["layers.2.k"].copy(), "layers.2.v": inputs["layers.2.v"].copy()}
        changed["layers.2.k"][:, gone] = 9
        changed["layers.2.v"][:, gone] = 9
        self.assertTrue(np.array_equal(pyramidinfer.run(inputs, P)["layers.2.step.out"],
                                       pyramidinfer.run(changed, P)["layers.2.step.out"]))

    def test_generated_entries_are_thinned_and_the_prompt_is_not(self):
        inputs, p = problem(layers=3, steps=30, tokens=60), {**P, "exceed": 6}   # R + 1 = 13
        for count in (18, 19, 20, 30):
            result = pyramidinfer.run(first_steps(inputs, count), p)
            for index, prompt in enumerate(pyramidinfer.lengths(60, 3, {**FULL, **p})):
                rows = result[f"layers.{index}.indices"]
                leave = max(1, int(6 * 0.9 * pyramidinfer.schedule(index, 3, 0.1)))
                held = 0
                for _ in range(count):
                    held += 1
                    if held == 19:
                        held = 13 + leave
                self.assertEqual(rows.shape[1], prompt + held)
                self.assertTrue((rows == rows[0]).all())
                self.assertEqual(rows[0, -13:].tolist(), list(range(60 + count - 13, 60 + count)))
                self.assertTrue((rows[0, :prompt] < 60).all())

    def test_the_first_thinning_by_loops(self):
        inputs, p = problem(layers=2, steps=19, tokens=60), {**P, "exceed": 6}
        layer, mean = layers_of(inputs)[0], np.zeros(6)
        for i in range(13):
            for head in range(4):
                keys = np.vstack([layer.k[head // 2], layer.step_k[head // 2, :7 + i]])
                row = attend(layer.step_q[head, 6 + i], keys, keys)[1]
                mean += (1.0 + 0.2 * i / 12) * row[60:66]
        rows = pyramidinfer.run(inputs, p)["layers.0.indices"][0]
        self.assertEqual(rows[60:-13].tolist(), (60 + top_k(mean, 5)).tolist())

    def test_scores_of_survivors_only(self):
        whole = layers_of(problem(steps=0))[0]
        self.assertIs(surviving(whole, np.arange(140)), whole)


if __name__ == "__main__":
    unittest.main()
