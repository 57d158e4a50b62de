# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs `kvasir apply` on generated cases of one method and compares each with the numpy oracle.

  conformance.py --kvasir build/bin/kvasir --method snapkv --target cpu
  conformance.py --kvasir build/bin/kvasir --method snapkv --mutate --file frontends/methods/snapkv.mlir

Prints `PASS n cases`; the first differences and exit code 1 otherwise. --mutate changes the method
file one constant or one op at a time and requires that some case notices every change.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

import extra_cases
import mutations
from cases import CALIB, METHODS, UNSHIPPED, cases_for, generate
from compare import compare
from oracle_support import EXACT, act_of
from safetensors_io import write_safetensors


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvasir", required=True, help="the driver to test")
    parser.add_argument("--method", required=True, choices=METHODS + UNSHIPPED)
    parser.add_argument("--target", default=None, help="cpu or reference; the driver's default otherwise")
    parser.add_argument("--filter", default="", help="only cases whose name contains this text")
    parser.add_argument("--file", default=None, help="run this method file instead of the shipped one")
    parser.add_argument("--mutate", action="store_true", help="mutation test of --file")
    parser.add_argument("--jobs", type=int, default=2, help="mutants to test at a time")
    parser.add_argument("--apply-option", action="append", default=[], help="pass this word to every apply call")
    parser.add_argument("--timeout", type=float, default=120, help="seconds one call may take")
    parser.add_argument("--show", type=int, default=3, help="differences to print of a failing case")
    parser.add_argument("--keep", default=None, help="write the generated files here and keep them")
    return parser.parse_args()


class Runner:
    """Writes the case files once, then calls the driver on them with any method file."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.cases = []
        for case in cases_for(options.method):
            if options.filter in case.name and extra_cases.is_called(options.method, case):
                generated, expected = generate(options.method, case)
                path = os.path.join(folder, f"{options.method}-{case.name}.safetensors")
                params, tensors = extra_cases.as_called(options.method, generated.params, generated.inputs, generated.tokens)
                given = {name: value for name, value in generated.inputs.items() if name != "classes"}
                write_safetensors(path, {**given, **tensors})
                generated = replace(generated, params=params)
                if expected is not None and not extra_cases.shows_scores(options.method, case, params):
                    expected = {name: value for name, value in expected.items() if not name.endswith(".scores")}
                if expected is not None and extra_cases.holds_before_rope(options.method, params):
                    for place in [place for place in expected[EXACT] if place[1] == "k"]:
                        expected[EXACT][place] = [np.zeros_like(mask) for mask in expected[EXACT][place]]
                if CALIB in generated.inputs:
                    write_safetensors(path + ".calib", generated.inputs[CALIB])
                self.cases.append((generated, expected, path))

    def command(self, method, case, path, output, target):
        words = [self.options.kvasir, "apply", method, "--kv", path, "-o", output]
        if case.budget is not None:
            words += ["--ratio" if case.is_ratio else "--budget", case.budget]
        for name, value in case.params.items():
            words += ["--set", f"{name}={_as_text(value)}"]
        if CALIB in case.inputs:
            words += ["--calib", path + ".calib"]
        if case.queries:
            words += ["--attend"]
        if target:
            words += ["--target", target]
        return words + self.options.apply_option

    def check(self, method, case, expected, path, folder=None, target=None):
        """(exit code, differences) of one call, which writes to `folder`; a negative code is a signal, None a timeout."""
        output = os.path.join(folder or self.folder, "out.safetensors")
        if os.path.exists(output):
            os.remove(output)
        try:
            done = subprocess.run(self.command(method, case, path, output, target or self.options.target),
                                  capture_output=True, text=True, timeout=self.options.timeout)
        except subprocess.TimeoutExpired:
            return None, [f"no answer in {self.options.timeout:g} s"]
        message = done.stderr.strip()
        if case.rejected is not None:
            return done.returncode, _check_rejection(case, done.returncode, message, output)
        if done.returncode != 0:
            return done.returncode, [f"exit code {done.returncode}: {message[-600:]}"]
        if not os.path.exists(output):
            return 0, ["exit code 0 but no output file"]
        with np.errstate(all="ignore"):
            return 0, compare(output, expected, act_of(case.inputs))


def _as_text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace(" ", "")


def _check_rejection(case, code, message, output):
    problems = []
    if code != 2:
        problems.append(f"exit code {code}, expected 2")
    if case.rejected not in message:
        problems.append(f"message does not name {case.rejected}: {message[-300:]!r}")
    if os.path.exists(output):
        problems.append("a refused call left an output file")
    return problems


def conform(runner, method, target=None):
    """Runs every case; prints failures. True when all pass and there was at least one."""
    failed = 0
    for case, expected, path in runner.cases:
        differences = runner.check(method, case, expected, path, target=target)[1]
        if differences:
            failed += 1
            print(f"FAIL {case.name} (seed {case.seed}): {len(differences)} differences")
            for line in differences[:runner.options.show]:
                print(f"  {line}")
    if failed or not runner.cases:
        print(f"FAIL {failed} of {len(runner.cases)} cases of {runner.options.method}")
        return False
    print(f"PASS {len(runner.cases)} cases")
    return True


def mutate(runner):
    """Every mutant that compiles is caught by a case, or listed as equivalent with a reason."""
    options = runner.options
    with open(options.file, encoding="utf-8") as stream:
        source = stream.read()
    if not conform(runner, options.file, "reference"):
        print("the unchanged file fails; mutants would prove nothing")
        return False
    survivors, crashes, counts = [], [], {"caught": 0, "rejected": 0, "equivalent": 0}
    trial = MutantTrial(runner)
    elsewhere = mutations.calibration_lines(source)
    candidates = [mutant for mutant in mutations.mutants(source) if mutant.line not in elsewhere]
    with ThreadPoolExecutor(options.jobs) as pool:
        fates = list(pool.map(trial.fate, range(len(candidates)), candidates))
    for mutant, fate in zip(candidates, fates):
        if fate == "survived":
            survivors.append(mutant)
        elif fate == "crashed":
            crashes.append(mutant)
        else:
            counts[fate] += 1
    for label, listed in (("SURVIVED", survivors), ("CRASHED", crashes)):
        for mutant in listed:
            print(f"{label} line {mutant.line}: {mutant.change}\n  {mutant.line_text.strip()}")
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    stale = mutations.stale_equivalents(options.method, source)
    for entry in stale:
        print(f"STALE equivalent mutant no longer in the file: {entry}")
    good = not survivors and not crashes and not stale and counts["caught"] > 0
    print(f"{'PASS' if good else 'FAIL'} mutants of {options.method}: {summary}, {len(survivors)} survived, "
          f"{len(crashes)} crashed")
    return good


class MutantTrial:
    """Runs mutants against the cases until one notices, those first that noticed most. The reference, which starts
    quickly, comes before the target asked for."""

    def __init__(self, runner):
        self.runner = runner
        self.accepted = [entry for entry in runner.cases if entry[0].rejected is None]
        self.kills = {entry[0].name: 0 for entry in self.accepted}

    def fate(self, number, mutant):
        """caught (a wrong answer), rejected (a case does not compile or run), crashed, equivalent or survived."""
        folder = os.path.join(self.runner.folder, f"mutant-{number}")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, os.path.basename(self.runner.options.file))
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(mutant.text)
        fate = self._on("reference", path, folder)
        if fate == "survived" and mutations.is_equivalent(self.runner.options.method, mutant):
            return "equivalent"
        if fate == "survived" and self.runner.options.target != "reference":
            return self._on(None, path, folder)
        return fate

    def _on(self, target, path, folder):
        for case, expected, file in sorted(self.accepted, key=lambda entry: -self.kills[entry[0].name]):
            code, differences = self.runner.check(path, case, expected, file, folder, target)
            if code is None or code < 0 or code > 2:
                return "crashed"
            if differences:
                self.kills[case.name] += 1
                return "rejected" if code == 2 else "caught"
        return "survived"


def main():
    options = arguments()
    if options.mutate and not options.file:
        sys.exit("conformance.py: --mutate needs --file METHOD.mlir")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or scratch
        os.makedirs(folder, exist_ok=True)
        runner = Runner(options, folder)
        good = mutate(runner) if options.mutate else conform(runner, options.file or options.method)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
