# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties of two selections, asserted of what `kvasir apply` keeps of generated prompts.

  checks.py shots KVASIR     examples of a prompt stay whole or not at all, and what stays is never touched again
  checks.py policies KVASIR  heads keep more as they must recover more, special tokens always, and full heads are dense
"""
import os
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))

from cases import Case, make_inputs
from extra_cases import as_called
from safetensors_io import read_safetensors, write_safetensors

SHOTS = [10, 30, 30, 45, 50, 90, 95, 120]


class Prompt:
    """A dump of 140 tokens, with or without 25 steps, and what methods keep of it."""

    def __init__(self, kvasir, folder, method, params, steps):
        self.kvasir, self.path = kvasir, os.path.join(folder, f"{method}-{steps}.safetensors")
        self.inputs = make_inputs(Case("prompt", tokens=140, heads=4, group=2, layers=3, steps=25, classes=True, seed=5))
        if not steps:
            self.inputs = {name: value for name, value in self.inputs.items() if ".step." not in name}
            self.inputs["classes"] = self.inputs["classes"][:140]
        tensors = as_called(method, params, self.inputs, 140)[1]
        given = {name: value for name, value in self.inputs.items() if name != "classes"}
        write_safetensors(self.path, {**given, **tensors})

    def apply(self, method, *options):
        output = self.path + ".out"
        subprocess.run([self.kvasir, "apply", method, "--kv", self.path, "-o", output, "--attend", *options], check=True,
                       stdout=subprocess.DEVNULL)
        return read_safetensors(output)


def compiled(kvasir, folder, method):
    """The method as a file for the geometry of the prompt, which budgets need not be compiled for."""
    path = os.path.join(folder, method + ".kvx")
    subprocess.run([kvasir, "compile", method, "--geometry", "L=3,Hq=8,Hkv=4,D=32,act=f32", "-o", path], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path


def rows(result, layer):
    """Kept rows of each head."""
    whole = result.get(f"layers.{layer}.indices")
    return list(whole) if whole is not None else [result[f"layers.{layer}.indices.{head}"] for head in range(4)]


def shots(kvasir, folder):
    prompt, steps = (Prompt(kvasir, folder, "shotkv", {"shots": SHOTS}, count) for count in (False, True))
    method = compiled(kvasir, folder, "shotkv")
    outside = np.r_[0:10, 45:50, 90:95, 120:140]
    sizes = set()
    for budget in (40, 54, 55, 60, 80, 100, 120, 139):
        before, after = (one.apply(method, "--budget", str(budget)) for one in (prompt, steps))
        kept = rows(before, 0)[0]
        sizes.add(len(kept))
        assert len(kept) <= budget and np.isin(outside, kept).all(), budget
        for start, end in zip(SHOTS[::2], SHOTS[1::2]):
            assert np.isin(np.arange(start, end), kept).mean() in (0, 1), (budget, start)
        for layer in range(3):
            for head in range(4):
                assert np.array_equal(rows(before, layer)[head], kept), (budget, layer, head)
                assert np.array_equal(rows(after, layer)[head][:len(kept)], kept), (budget, layer, head)
            for name in ("k", "v", "pos"):
                name = f"layers.{layer}.{name}"
                assert np.array_equal(after[name][:, :len(kept)], before[name]), (budget, name)
            assert len(rows(after, layer)[0]) == len(kept) + 10, (budget, layer)  # floor(0.4 * 25)
    assert len(sizes) > 4, sizes


def policies(kvasir, folder):
    prompt, steps = (Prompt(kvasir, folder, "fastgen", {}, count) for count in (False, True))
    kinds = steps.inputs["classes"]
    must = np.flatnonzero((np.arange(165) < 4) | (kinds == 1))
    least = [[np.zeros(0, int)] * 4] * 3
    lengths, mixed = set(), False
    dense = steps.apply("dense")
    for recovery in (0.0, 0.2, 0.5, 0.945, 1.1):
        before, after = (one.apply("fastgen", "--set", f"recovery={recovery}", "--set", "history=16") for one in (prompt, steps))
        kept = [rows(before, layer) for layer in range(3)]
        for layer in range(3):
            for head in range(4):
                assert np.isin(least[layer][head], kept[layer][head]).all(), (recovery, layer, head)
                assert np.isin(must, rows(after, layer)[head]).all(), (recovery, layer, head)
                lengths.add(len(kept[layer][head]))
                if recovery == 0:
                    assert np.array_equal(kept[layer][head], must[must < 140]), (layer, head)
        least = kept
        mixed |= 0 < _full_heads_are_dense(after, dense, recovery) < 12
    assert mixed and len(lengths) > 4, lengths


def _full_heads_are_dense(result, dense, recovery):
    """How many heads keep everything; what they attend to is the dense method's, bit for bit."""
    full = [(layer, head) for layer in range(3) for head in range(4) if len(rows(result, layer)[head]) == 165]
    assert len(full) == 12 or recovery < 1, full
    for layer, head in full:
        group = slice(2 * head, 2 * head + 2)
        for name in (f"layers.{layer}.step.out", f"layers.{layer}.out", f"layers.{layer}.lse"):
            assert np.array_equal(result[name][group], dense[name][group]), (recovery, name, head)
    return len(full)


if __name__ == "__main__":
    what, driver = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        {"shots": shots, "policies": policies}[what](driver, scratch)
