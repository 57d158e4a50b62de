# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The comparison and the driver must notice faults: both are run against a stand-in with known faults."""
import os
import subprocess
import sys
import tempfile
import unittest

import numpy as np

import mutations
from cases import METHODS, Case, cases_for, generate
from compare import compare
from oracle_support import act_of
from safetensors_io import METADATA

HERE = os.path.dirname(os.path.abspath(__file__))


def generated(method, name):
    """(inputs' act dtype, oracle result) of one named case."""
    case = next(case for case in cases_for(method) if case.name == name)
    case, result = generate(method, case)
    return act_of(case.inputs), result


class Comparison(unittest.TestCase):
    def test_every_tensor_matters(self):
        for method, name in (("snapkv", "g4-f32"), ("kivi", "g4-f32"), ("quarot", "g1-f32"), ("tome-merge", "g4-f16"),
                             ("ada-snapkv", "g4-f32"), ("pca", "g4-f32"), ("streaming-llm", "reindexed")):
            act, result = generated(method, name)
            self.assertEqual(compare(result, result, act), [])
            for tensor in [key for key in result if key.startswith("layers.")]:
                spoiled = dict(result)
                spoiled[tensor] = result[tensor].copy()
                spoiled[tensor].reshape(-1)[-1] += 2
                if np.isfinite(spoiled[tensor].reshape(-1)[-1]):
                    self.assertTrue(compare(spoiled, result, act), f"{method} {tensor} changed")
                del spoiled[tensor]
                self.assertTrue(compare(spoiled, result, act), f"{method} {tensor} missing")

    def test_kept_keys_are_compared_bit_for_bit(self):
        act, result = generated("snapkv", "g4-f32")
        spoiled = {**result, "layers.1.k": np.nextafter(result["layers.1.k"], np.float32(np.inf))}
        self.assertTrue(compare(spoiled, result, act))

    def test_not_a_number_is_a_difference(self):
        act, result = generated("snapkv", "g4-f32")
        spoiled = {**result, "layers.0.step.out": result["layers.0.step.out"] * np.float32(np.nan)}
        self.assertTrue(compare(spoiled, result, act))

    def test_swaps_need_a_score_gap_within_the_tolerance(self):
        scores = np.array([[1.0, 3.0, 2.0, 2.0 * (1 + 5e-6), 0.5]], np.float32)
        def result(rows, scores):
            return {METADATA: {}, "__exact__": {(0, s): [np.ones(2, bool)] for s in "kv"},
                    "layers.0.indices": np.array([rows], np.int32), "layers.0.scores": scores,
                    "layers.0.k": np.ones((1, 2, 4), np.float32), "layers.0.v": np.ones((1, 2, 4), np.float32),
                    "layers.0.pos": np.array([rows], np.int32)}
        reference = result([1, 3], scores)
        self.assertEqual(compare(result([1, 2], scores), reference), [])
        self.assertTrue(compare(result([0, 1], scores), reference))
        tied = np.array([[1.0, 3.0, 2.0, 2.0, 0.5]], np.float32)
        self.assertTrue(compare(result([1, 3], tied), result([1, 2], tied)))
        forced = np.array([[np.inf, 3.0, 2.0, 1.0, np.inf]], np.float32)
        self.assertTrue(compare(result([0, 1], forced), result([0, 4], forced)))

    def test_a_code_may_step_only_near_a_rounding_boundary(self):
        act, result = generated("quarot", "g1-f32")
        slack = result["__slack__"][0, "k"].slack[0]
        self.assertTrue(0 < slack.mean() < 0.02)
        for want, places in ((False, np.argwhere(slack)), (True, np.argwhere(~slack))):
            spoiled, place = dict(result), tuple(places[0])
            spoiled["layers.0.k.codes"] = result["layers.0.k.codes"].copy()
            spoiled["layers.0.k.codes"][(0,) + place] ^= 1
            self.assertEqual(bool(compare(spoiled, result, act)), want)

    def test_ties_and_gaps_are_in_the_cases(self):
        for method in METHODS:
            names = [case.name for case in cases_for(method)]
            self.assertEqual(len(names), len(set(names)))
            self.assertIn("ties", names)
        scores = generated("snapkv", "ties")[1]["layers.0.scores"][0]
        finite = scores[np.isfinite(scores)]
        self.assertLess(len(np.unique(finite)), len(finite) / 2)

    def test_a_case_without_gaps_is_refused(self):
        with self.assertRaises(RuntimeError):
            generate("knorm", Case("few", tokens=9, budget="4", steps=0), attempts=0)


class Mutations(unittest.TestCase):
    def test_what_is_changed_and_what_is_left(self):
        source = ('// window 64\nkvcache.method @"a-2" info {paper = "arXiv 12 sum", family = "x"} {\n'
                  '  kvcache.param @w = 64 : index in [1, 4096]\n  kvcache.param @budget = 512 : index\n'
                  '  kvcache.param @f = "max" in {"max", "avg"}\n'
                  '  %s = reduce sum %x over [row:f32]\n  %m = map "(a - 2.0) / b" (a = %s, b = %t)\n}\n')
        changes = [(mutant.line, mutant.change) for mutant in mutations.mutants(source)]
        self.assertEqual(changes, [(3, "64 -> 65"), (5, "max -> min"), (6, "sum -> max"), (7, "- -> +"),
                                   (7, "2.0 -> 3.0"), (7, "/ -> *")])
        for mutant in mutations.mutants(source):
            self.assertNotEqual(mutant.text, source)


class Driver(unittest.TestCase):
    def run_driver(self, folder, *words):
        kvasir = os.path.join(folder, "kvasir")
        with open(kvasir, "w", encoding="utf-8") as stream:
            stream.write(f"#!/bin/sh\nexec {sys.executable} {HERE}/fake_kvasir.py \"$@\"\n")
        os.chmod(kvasir, 0o755)
        return subprocess.run([sys.executable, os.path.join(HERE, "conformance.py"), "--kvasir", kvasir, *words],
                              capture_output=True, text=True, check=False)

    def write(self, folder, text):
        path = os.path.join(folder, "method.mlir")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    def test_a_right_driver_passes_and_a_wrong_one_fails(self):
        with tempfile.TemporaryDirectory() as folder:
            good = self.run_driver(folder, "--method", "streaming-llm", "--target", "cpu", "--filter", "reindexed")
            self.assertEqual((good.returncode, good.stdout.strip()), (0, "PASS 4 cases"), good.stderr)
            path = self.write(folder, "streaming-llm\nsinks = 3\n")
            wrong = self.run_driver(folder, "--method", "streaming-llm", "--file", path, "--filter", "g4")
            self.assertEqual(wrong.returncode, 1)
            self.assertIn("FAIL g4-f32", wrong.stdout)

    def test_refused_calls_are_cases_too(self):
        with tempfile.TemporaryDirectory() as folder:
            done = self.run_driver(folder, "--method", "h2o", "--filter", "rows")
            self.assertEqual((done.returncode, done.stdout.strip()), (0, "PASS 2 cases"), done.stdout)

    def test_methods_without_a_file_yet_run_from_any_file(self):
        with tempfile.TemporaryDirectory() as folder:
            for method, case in (("laq", "short-draft"), ("think", "ratio-0.75")):
                path = self.write(folder, f"{method}\n")
                done = self.run_driver(folder, "--method", method, "--file", path, "--filter", case)
                self.assertEqual((done.returncode, done.stdout.strip()), (0, "PASS 1 cases"), done.stderr)

    def test_no_case_is_not_a_pass(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(self.run_driver(folder, "--method", "knorm", "--filter", "nothing").returncode, 1)

    def test_mutants_must_be_caught(self):
        with tempfile.TemporaryDirectory() as folder:
            path = self.write(folder, "tome-merge\nsimilarity_threshold = 0.0\n")
            caught = self.run_driver(folder, "--method", "tome-merge", "--mutate", "--file", path, "--filter", "g4")
            self.assertEqual(caught.returncode, 0, caught.stdout + caught.stderr)
            self.assertIn("1 caught, 0 rejected, 0 equivalent, 0 survived", caught.stdout)
            path = self.write(folder, "knorm\nprune_after = 0\n")
            survived = self.run_driver(folder, "--method", "knorm", "--mutate", "--file", path, "--filter", "g4")
            self.assertEqual(survived.returncode, 1)
            self.assertIn("SURVIVED line 2: 0 -> 1", survived.stdout)

    def test_a_crash_is_not_a_catch(self):
        with tempfile.TemporaryDirectory() as folder:
            path = self.write(folder, "streaming-llm\nsinks = 4\ncrash = 0\n")
            done = self.run_driver(folder, "--method", "streaming-llm", "--mutate", "--file", path, "--filter", "g1-f")
            self.assertEqual(done.returncode, 1)
            self.assertIn("CRASHED line 3", done.stdout)


if __name__ == "__main__":
    unittest.main()
