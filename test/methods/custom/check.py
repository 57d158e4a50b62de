# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs `kvasir apply ember.mlir --require-fused` on generated inputs and compares every tensor with oracle.py.

  check.py --kvasir build/bin/kvasir [--target reference] [--filter g4]
  check.py --write FILE

Prints `PASS n cases`, or the first differences and exit code 1. --write only writes the input of the first case.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace

import oracle
from cases import GAP, Case, make_inputs
from compare import compare
from oracle_support import act_of, recorded_gaps
from safetensors_io import write_safetensors

METHOD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ember.mlir")
CASES = [
    Case("g1-f32", dim=64),                                       # groups of 24, 24 and 16 channels
    Case("g4-f32", group=4, tokens=301),
    Case("g4-f16", group=4, dim=64, dtype="F16"),
    Case("bf16", dtype="BF16", steps=8),
    Case("whole-groups", dim=48, steps=8),
    Case("floor-binds", params={"threshold": 3.0, "floor": 40}),  # fewer than 40 lie above the threshold
    Case("default-floor", steps=4, params={"threshold": 50.0}),
    Case("floor-beyond", tokens=30, params={"floor": 100}),       # nothing is dropped
    Case("harsh", tokens=400, params={"threshold": 1.6, "floor": 1, "half_life": 40.0, "temperature": 1.5}),
    Case("one-token", tokens=1, steps=3),
    Case("holes", start=7, steps=4),
    Case("ties", repeat=20, steps=4),
]


def generate(case, attempts=60):
    """The case with the first seed whose cuts all have gaps, and the oracle's result."""
    for attempt in range(attempts):
        drawn = replace(case, query_rows=0, seed=5 + 1000 * attempt)
        drawn.inputs = make_inputs(drawn)
        with recorded_gaps() as gaps:
            expected = oracle.run(drawn.inputs, drawn.params)
        if min(gaps, default=1.0) >= GAP:
            return drawn, expected
    raise RuntimeError(f"{case.name}: no seed of {attempts} has gaps of {GAP} at every cut")


def check(options, case, folder):
    """Differences of one case."""
    drawn, expected = generate(case)
    source, output = (os.path.join(folder, name) for name in ("in.safetensors", "out.safetensors"))
    write_safetensors(source, drawn.inputs)
    command = [options.kvasir, "apply", METHOD, "--kv", source, "-o", output, "--attend", "--target", options.target]
    if options.target != "reference":
        command.append("--require-fused")
    for name, value in drawn.params.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        return [f"exit code {done.returncode}: {done.stderr.strip()[-600:]}"]
    return compare(output, expected, act_of(drawn.inputs))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvasir", default="kvasir")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--filter", default="")
    parser.add_argument("--write")
    options = parser.parse_args()
    if options.write:
        write_safetensors(options.write, generate(CASES[0])[0].inputs)
        return
    cases = [case for case in CASES if options.filter in case.name]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            differences = check(options, case, folder)
            failed += bool(differences)
            for line in differences[:4]:
                print(f"{case.name}: {line}")
    if failed or not cases:
        sys.exit(f"FAIL {failed} of {len(cases)} cases")
    print(f"PASS {len(cases)} cases")


if __name__ == "__main__":
    main()
