#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs `kvasir apply` with the parity settings on the recorded inputs and compares what it keeps with what kvpress kept.

  compare.py --kvasir build/bin/kvasir [--target reference] [--method snapkv] [--set kernel=3]

Entries (or channels) must be the same, but for those whose score is within 1e-5, relative, of the other side of the cut; keys, where a
press moves them, agree within 1e-5 relative L2 a head. Prints a line a method and those that are not compared, with what is missing.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "..", "oracle"))

import numpy as np  # noqa: E402

import extra_cases  # noqa: E402
import parity  # noqa: E402
from safetensors_io import METADATA, read_safetensors, write_safetensors  # noqa: E402

TIE = 1e-5
MODELS = ("g1", "g4")


def heads_of(tensors, name):
    """Per head the rows of a tensor that is [Hkv, ...] or, when ragged, one tensor a head."""
    if name in tensors:
        return list(tensors[name])
    return [tensors[key] for key in sorted(key for key in tensors if key.startswith(name + "."))]


def kept_differences(expected, actual, scores, cut, over_heads=False):
    """Differences of kept sets that no tie explains. expected, actual: per head; scores [Hkv, T]; cut [Hkv, 2]: the least
    score kept and the greatest dropped; where the first is smaller, scores alone did not decide and nothing is a tie.
    over_heads: a tie may move an entry from one head to another."""
    if len(expected) != len(actual):
        return [f"{len(actual)} heads, expected {len(expected)}"]
    found, added, lost = [], [0] * len(expected), [0] * len(expected)
    for head, (want, have) in enumerate(zip(expected, actual)):
        if np.any(np.diff(have) <= 0):
            found.append(f"head {head}: entries are not ascending")
        least, greatest = cut[head]
        extra, gone = np.setdiff1d(have, want), np.setdiff1d(want, have)
        added[head], lost[head] = len(extra), len(gone)
        ordered = least >= greatest
        wrong = [entry for entry in extra if not (ordered and least - scores[head][entry] <= TIE * abs(least))]
        wrong += [entry for entry in gone if not (ordered and scores[head][entry] - greatest <= TIE * abs(greatest))]
        if wrong:
            found.append(f"head {head}: {len(extra)} entries too many, {len(gone)} too few, not tied: {sorted(map(int, wrong))[:6]}")
    if (sum(added) != sum(lost)) if over_heads else added != lost:
        found.append(f"{sum(map(len, actual))} entries, expected {sum(map(len, expected))}")
    return found


def key_differences(expected, actual):
    """expected, actual: per head [B, D]."""
    found = []
    for head, (want, have) in enumerate(zip(expected, actual)):
        if want.shape != have.shape:
            found.append(f"head {head}: keys of shape {have.shape}, expected {want.shape}")
            continue
        error = np.linalg.norm(have - want) / np.linalg.norm(want)
        if not error <= TIE:
            found.append(f"head {head}: keys differ by {error:.1e}")
    return found


def compare_case(case, goldens, output, over_heads):
    """All differences of one output file, layer by layer: entries, or channels whose keys are not all 0."""
    found, layers = [], 0
    while heads_of(goldens, f"{case}.{layers}.kept") or f"{case}.{layers}.channels" in goldens:
        golden, layer = f"{case}.{layers}", f"layers.{layers}"
        if f"{golden}.channels" in goldens:
            expected = heads_of(goldens, f"{golden}.channels")
            actual = [np.flatnonzero((keys != 0).any(axis=0)) for keys in heads_of(output, f"{layer}.k")]
        else:
            expected, actual = heads_of(goldens, f"{golden}.kept"), heads_of(output, f"{layer}.indices")
        # Where nothing was ranked, nothing is a tie.
        scores, cut = goldens.get(f"{golden}.scores"), goldens.get(f"{golden}.cut", [(0, 1)] * len(expected))
        lines = kept_differences(expected, actual, scores, cut, over_heads)
        if not lines and f"{golden}.k" in goldens:
            lines = key_differences(goldens[f"{golden}.k"], heads_of(output, f"{layer}.k"))
        found += [f"layer {layers}, {line}" for line in lines]
        layers += 1
    return found if layers else ["no golden of this case"]


def inputs_of(model, method):
    """The recorded inputs of a method, with the tables that belong to it."""
    def read(file):
        return read_safetensors(os.path.join(HERE, f"{model}-{file}.safetensors"))
    tables = {name: read(file)[tensor] for file, tensor, name in parity.TABLES.get(method, [])}
    return {**read("inputs"), **tables}


def run(options, model, method, parameters, budget, folder):
    """(output tensors, error text) of one call."""
    path, given = os.path.join(folder, "out.safetensors"), os.path.join(folder, "in.safetensors")
    inputs = inputs_of(model, method)
    parameters, tables = extra_cases.as_called(method, parameters, inputs, inputs["layers.0.k"].shape[1])
    write_safetensors(given, {**inputs, **tables})
    words = [options.kvasir, "apply", method, "--kv", given, "-o", path, *budget]
    for name, value in {**parameters, **dict(setting.split("=", 1) for setting in options.set)}.items():
        words += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    if options.target:
        words += ["--target", options.target]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        return None, f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"
    return read_safetensors(path), None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvasir", required=True)
    parser.add_argument("--target", help="cpu or reference; the driver's default otherwise")
    parser.add_argument("--method", help="only this method")
    parser.add_argument("--set", action="append", default=[], help="a parameter that overrides the parity setting")
    options = parser.parse_args()
    passed, failed, absent = {}, 0, {}
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            goldens = read_safetensors(os.path.join(HERE, f"{model}-kept.safetensors"))
            for key, text in sorted(goldens[METADATA].items()):
                if not key.startswith("case."):
                    continue
                case, press = key[5:], json.loads(text)
                tokens = len(goldens["ids"])
                if parity.missing(case, tokens):
                    absent[model, case] = parity.missing(case, tokens)
                    continue
                method, parameters, budget = parity.RULES[press["press"]](press, tokens)
                if options.method not in (None, method):
                    continue
                output, error = run(options, model, method, parameters, budget, folder)
                found = [error] if error else compare_case(case, goldens, output, "AdaKV" in press["press"])
                passed[method] = passed.get(method, 0) + (not found)
                failed += bool(found)
                for line in found[:4]:
                    print(f"FAIL {model} {case}: {method} {parameters} {' '.join(budget)}: {line}")
    for method, count in passed.items():
        print(f"{method}: {count} cases equal")
    if options.method is None:
        for (model, case), text in absent.items():
            print(f"not compared: {model} {case}: {text}")
    print(f"{'FAIL' if failed or not passed else 'PASS'} {sum(passed.values())} of {sum(passed.values()) + failed} cases")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
